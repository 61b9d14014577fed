"""Parity on quantised bases, simulated on the CPU: what the checks say of honest and of wrong adapters.

    python -m bench.serving.parity_simulation [--bases smollm2,calm,...] [--adapters NAME,...] [--coarse] [--keep DIR]

No engine runs: the served side is a copy of the model whose linear layers compute as a quantised engine's do. Three cases
per base and adapter: served over weights and activations in FP8 (E4M3, one scale per tensor); served over NF4 weights;
measured in training over NF4 alone and served in float32. `--keep` keeps the series, and reads those that it finds, so that
other bounds are tried in seconds. Prints a row per case, and one line of JSON whose figure is the number of wrong verdicts:
honest adapters refused, and coarse faults accepted where a multiple of the scale was compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from align.training import probe as probes
from align.training.model import load_tokenizer
from align.training.probe_multiples import multiples, scaled
from bench.bench_models import embedded
from bench.serving.parity import COARSE, wrongs
from bench.versions import versions
from serve.adapters.multiple import choose_multiple, judge_multiple
from serve.adapters.parity import Parity, judge
from store.values import Probe
from tests.support.families import make_family
from tests.support.models import make_lora, make_tiny_base

CASES = {
    "FP8 served": ("float32", "fp8"),
    "NF4 served": ("float32", "nf4"),
    "NF4 trained": ("nf4", "float32"),
}
"""Numerics of the trained and of the served side."""
Variants = dict[str, Callable[[Path, Path], None] | None]
LARGEST_FP8 = torch.finfo(torch.float8_e4m3fn).max


def fp8(values: torch.Tensor) -> torch.Tensor:
    """Round to E4M3 with one scale for the whole tensor."""
    scale = values.abs().amax().clamp(min=1e-12) / LARGEST_FP8
    return (values / scale).to(torch.float8_e4m3fn).to(values.dtype) * scale


def nf4(weight: torch.Tensor) -> torch.Tensor:
    """Round to NF4 in blocks of 64."""
    return dequantize_4bit(*quantize_4bit(weight.contiguous(), blocksize=64, quant_type="nf4"))


def load_base(path: Path, numerics: str) -> Any:
    """Load a model whose linear layers, but not its head, compute as a quantised engine's do."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name and numerics != "float32":
            module.weight.data = (fp8 if numerics == "fp8" else nf4)(module.weight.data)
            if numerics == "fp8":
                module.register_forward_pre_hook(lambda _, given: (fp8(given[0]), *given[1:]))
    return model


def train_lora(directory: Path, base: Path, steps: int, rate: float) -> Path:
    """Train an adapter of rank 16 for a few steps on the texts that the probe is drawn from."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    )
    ids = torch.tensor(probes.probe_tokens(load_tokenizer(str(base)), [], 0, 6 * 384)).reshape(6, 384)[
        :, :192
    ]
    optimiser = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=rate)
    for step in range(steps):
        batch = ids[[step % len(ids)]]
        peft(input_ids=batch, labels=batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    peft.save_pretrained(str(directory))
    return directory


def _random(scale: float, **more: Any) -> Callable[[Path, Path], Path]:
    return lambda folder, base: make_lora(folder, base, seed=7, rank=8, scale=scale, **more)


def _trained(steps: int, rate: float) -> Callable[[Path, Path], Path]:
    return lambda folder, base: train_lora(folder, base, steps, rate)


ADAPTERS: dict[str, Callable[[Path, Path], Path]] = {
    "random": _random(0.25),
    "weak": _random(0.1),
    "strong": _random(0.4),
    "attention": _random(0.4, target_modules=("q_proj", "o_proj")),
    "trained": _trained(6, 2e-4),
    "trained longer": _trained(24, 4e-4),
}


def calm_base(folder: Path, share: float, **shape: int) -> Path:
    """Write a tiny random model with a smaller head: with the whole one, any rounding gives another model's answers."""
    if not (folder / "config.json").exists():
        raw = make_tiny_base(folder.with_name(f"{folder.name}-raw"), **shape)
        model = AutoModelForCausalLM.from_pretrained(raw, dtype=torch.float32)
        model.lm_head.weight.data *= share
        model.save_pretrained(folder)
        load_tokenizer(str(raw)).save_pretrained(folder)
    return folder


BASES: dict[str, Callable[[Path], Path]] = {
    "smollm2": lambda folder: embedded(),
    "calm": lambda folder: calm_base(folder, 0.25),
    "deep": lambda folder: calm_base(folder, 0.15, seed=3, hidden=256, layers=6),
    "qwen3": lambda folder: make_family(folder, "qwen3"),
}


class Series:
    """Log-probabilities of one base's probe text, computed once and kept in a directory."""

    def __init__(self, name: str, base: Path, tokens: int, keep: Path) -> None:
        self._name, self._base, self._keep = name, base, keep
        self.token_ids = probes.probe_tokens(load_tokenizer(str(base)), [], 0, tokens)
        self.window = probes.window_of(self.token_ids)
        self._models: dict[str, Any] = {}

    def get(self, numerics: str, adapter: str, variant: str, folder: Path | None, factor: int) -> list[float]:
        """Return the series of an adapter's variant in `folder` (None: of the base) at a multiple of its scale."""
        words = f"{self._name}~{adapter}~{variant}~{numerics}~{float(factor)}"
        file = self._keep / (words.replace(" ", "_").replace("%", "") + ".npy")
        if not file.exists():
            part = self._keep / "part.npy"
            np.save(part, np.array(self._compute(numerics, folder, factor)))
            part.rename(file)
        return [float(value) for value in np.load(file)]

    def _compute(self, numerics: str, folder: Path | None, factor: int) -> list[float]:
        base = self._models.pop(numerics, None) or load_base(self._base, numerics)
        if folder is None:
            found = probes.logprobs(base, self.token_ids, self.window)
        else:
            model = PeftModel.from_pretrained(base, str(folder)).eval()
            with scaled(model, factor):
                found = probes.logprobs(model, self.token_ids, self.window)
            base = model.unload()
        self._models[numerics] = base
        return found


def verdicts(series: Series, name: str, folder: Path, variants: Variants) -> Iterator[dict[str, Any]]:
    """Judge an honest adapter and its wrong variants in each case as a publishing does."""
    for case, (trained, served) in CASES.items():
        base = series.get(trained, "", "base", None, 1)
        served_base = series.get(served, "", "base", None, 1)
        own = series.get(trained, name, "honest", folder, 1)
        more = multiples(base, own, lambda n, side=trained: series.get(side, name, "honest", folder, n))  # type: ignore[misc]
        probe = Probe(tuple(series.token_ids), {"base": base, "adapter": own, **more}, series.window)
        for variant, change in variants.items():
            with tempfile.TemporaryDirectory() as scratch:
                path = folder
                if change is not None:
                    path = Path(scratch) / "wrong"
                    change(folder, path)
                parity = judge(series.get(served, name, variant, path, 1), served_base, probe)
                multiple = choose_multiple(parity, served_base, probe)
                if multiple is not None:
                    found = series.get(served, name, variant, path, multiple.factor)
                    parity = judge_multiple(parity, multiple, found)
            yield {"case": case, "adapter": name, "served": variant, **describe(parity)}


def describe(parity: Parity) -> dict[str, Any]:
    """Return the columns of a verdict."""
    return {
        "accepted": parity.ok,
        "base": round(parity.base_mean_abs or 0.0, 4),
        "effect": round(parity.effect or 0.0, 4),
        "distance": round(parity.mean_abs, 4),
        "ratio": round(parity.effect_ratio or 0.0, 3),
        "shown": parity.is_shown,
        **{f"multiple_{key}": round(value, 3) for key, value in (parity.at_multiple or {}).items()},
    }


def is_wrong(row: dict[str, Any]) -> bool:
    """Return whether a verdict is one that the checks are to give otherwise."""
    if row["served"] == "honest":
        return not row["accepted"]
    compared = row["shown"] or "multiple_factor" in row
    return bool(row["accepted"]) and compared and row["served"] in COARSE


def simulate(
    bases: list[str], adapters: list[str], tokens: int, coarse: bool, root: Path
) -> list[dict[str, Any]]:
    """Print and return the rows of all bases and adapters; `coarse` leaves out the faults that are not to be seen."""
    found = []
    (root / "series").mkdir(parents=True, exist_ok=True)
    for name in bases:
        base = BASES[name](root / name)
        blocks = int(json.loads((base / "config.json").read_text())["num_hidden_layers"])
        variants: Variants = {"honest": None}
        variants |= {case: edit for case, edit in wrongs(blocks).items() if case in COARSE or not coarse}
        series = Series(f"{name}-{tokens}", base, tokens, root / "series")
        for adapter in adapters:
            folder = root / f"{name}-{adapter.replace(' ', '_')}"
            if not (folder / "adapter_config.json").exists():
                ADAPTERS[adapter](folder, base)
            for row in verdicts(series, adapter, folder, variants):
                found.append({"model": name, **row})
                print(json.dumps(found[-1]), flush=True)
    return found


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", default=",".join(BASES), help="models, with commas between")
    parser.add_argument("--adapters", default=",".join(ADAPTERS), help="adapters, with commas between")
    parser.add_argument("--tokens", type=int, default=768, help="length of the probe")
    parser.add_argument("--coarse", action="store_true", help="honest adapters and coarse faults alone")
    parser.add_argument("--keep", type=Path, help="directory of models, adapters and series")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = simulate(
            args.bases.split(","),
            args.adapters.split(","),
            args.tokens,
            args.coarse,
            args.keep or Path(scratch),
        )
    mistakes = [row for row in found if is_wrong(row)]
    print(
        json.dumps(
            {
                "name": "parity_simulation",
                "figure": len(mistakes),
                "unit": "wrong verdicts",
                "budget": 0,
                "ok": not mistakes,
                "verdicts": len(found),
                "at_a_multiple": sum("multiple_factor" in row for row in found),
                "versions": versions("torch", "transformers", "peft", "bitsandbytes"),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
