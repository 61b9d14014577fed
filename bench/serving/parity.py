"""Parity of honest and wrong adapters on a real engine: which are detected, and by what distance.

    python -m bench.serving.parity [--quick] [--model smollm2|tiny|DIR] [--dtypes float32,bfloat16] [--qlora] [--tokens N]
    python -m bench.serving.parity --quick --engine-args '{"quantization": "fp8_per_tensor"}'
    python -m bench.serving.parity --quick --served awq --engine-args '{"dtype": "float16"}'

PEFT computes the probe of an honest adapter; the engine then serves that adapter, or one that is wrong in a way that its
files do not show: one block's part zero, one module of each block zero, the scale off by 10 %, alpha halved or doubled,
another seed, nothing at all. Each must be judged as `serve.adapters.parity.judge` judges a publishing with
`training.parity_tolerance = "auto"`. `--dtypes` is that of engine and probe alike; by default float32 on the CPU and
bfloat16 on CUDA, where `--memory` is the engine's share of the card. `--qlora` takes the probe over the NF4 base alone, as
for a base that does not fit in full precision. Where the served base differs by more than the adapter does, both are
compared at a multiple of the adapter's scale (columns `multiple_...`), which is to tell the coarse faults: not applied,
another seed, alpha halved or doubled. Ends with one line of JSON whose figure is the number of wrong verdicts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from align.recipe.recipe import resolve
from align.training import model as models
from align.training import probe as probes
from bench.bench_models import embedded
from bench.serving.awq_base import awq_base
from bench.versions import versions
from serve.adapters.multiple import choose_multiple
from serve.adapters.parity import Parity, judge, measure
from serve.adapters.scaled_copy import compare_at_multiple
from serve.adapters.token_cost import token_cost
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from store.values import Probe
from tests.support.models import make_lora, make_tiny_base

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Tensors = dict[str, torch.Tensor]


COARSE = ("alpha halved", "alpha doubled", "another seed", "not applied")
"""Faults that a comparison at a multiple of the scale shows."""


@dataclass(frozen=True)
class Honest:
    """An adapter as it was trained: standard deviation of its weights (see `make_lora`), rank and modules."""

    scale: float
    rank: int = 8
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


HONEST = {
    "all layers": Honest(0.25),
    "attention": Honest(0.5, 4, ("q_proj", "o_proj")),
    "weak": Honest(0.1),
}


def change_weights(edit: Callable[[str, torch.Tensor], torch.Tensor]) -> Callable[[Path, Path], None]:
    """Return a change that maps each tensor by its name."""

    def change(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        tensors = {name: edit(name, tensor) for name, tensor in load_file(source / WEIGHTS).items()}
        save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})

    return change


def zero(part: str) -> Callable[[Path, Path], None]:
    """Return a change that removes one part's effect."""
    return change_weights(lambda name, t: torch.zeros_like(t) if part in name and "lora_B" in name else t)


def alpha(factor: float) -> Callable[[Path, Path], None]:
    """Return a change of the scale only."""

    def change(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        config = json.loads((source / CONFIG).read_text())
        (target / CONFIG).write_text(json.dumps({**config, "lora_alpha": config["lora_alpha"] * factor}))

    return change


def shuffled(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor's values in another order, as from another seed."""
    order = torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(len(name)))
    return tensor.flatten()[order].reshape(tensor.shape).contiguous()


def wrongs(blocks: int) -> dict[str, Callable[[Path, Path], None]]:
    """Return the changes that make an adapter wrong."""
    return {
        "first block missing": zero("layers.0."),
        "middle block missing": zero(f"layers.{blocks // 2}."),
        "last block missing": zero(f"layers.{blocks - 1}."),
        "o_proj missing": zero("o_proj"),
        "scale 10 % up": alpha(1.1),
        "scale 10 % down": alpha(0.9),
        "alpha halved": alpha(0.5),
        "alpha doubled": alpha(2),
        "another seed": change_weights(shuffled),
        "not applied": zero("lora_B"),
    }


def trained(model: Path, adapter: Path, dtype: str, qlora: bool, tokens: int | None) -> Probe:
    """Return what PEFT computes for an adapter."""
    recipe = resolve("dpo", qlora, {"dtype": dtype})
    count = tokens or probes.tokens_for(models.choose(recipe))
    token_ids = probes.probe_tokens(models.load_tokenizer(str(model)), [], 0, count)
    table, _ = probes.measure(str(model), adapter, token_ids, recipe)
    if qlora:
        table = {name: series for name, series in table.items() if name.startswith("nf4_")}
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Probe(tuple(token_ids), table, probes.window_of(token_ids))


async def rows(
    engine: Engine, dtype: str, name: str, folder: Path, probe: Probe, blocks: int
) -> list[dict[str, Any]]:
    """Test an honest adapter and its wrong variants as the engine serves them."""
    base = await measure(engine, engine.spec.base, probe)
    found, seconds = [], 0.0
    cases: dict[str, Callable[[Path, Path], None] | None] = {"honest": None, **wrongs(blocks)}
    for number, (case, change) in enumerate(cases.items()):
        path = folder
        if change is not None:
            path = folder.with_name(f"{folder.name}-{number}")
            change(folder, path)
        await engine.load_adapter(path.name, path)
        parity = judge(await measure(engine, path.name, probe), base, probe)
        multiple = choose_multiple(parity, base, probe)
        if multiple is not None:
            began = time.perf_counter()
            parity = await compare_at_multiple(engine, path, probe, parity, multiple)
            seconds = round(time.perf_counter() - began, 2)
        cost = await token_cost(engine, path.name) if change is None else None
        await engine.unload_adapter(path.name)
        row = {
            "dtype": dtype, "adapter": name, "served": case, "accepted": parity.ok,
            "distance": round(parity.mean_abs, 6), "tolerance": round(parity.tolerance, 6),
            "base": round(parity.base_mean_abs or 0.0, 6), "effect": round(parity.effect or 0.0, 4),
            "served_share": round(parity.effect_ratio or 0.0, 4), "share_error": round(parity.effect_ratio_error or 0.0, 4),
            "why": (parity.why or parity.note or "")[:90], "shown": _is_shown(parity, case), "cost": cost,
        }  # fmt: skip
        if parity.at_multiple is not None:
            row |= {f"multiple_{key}": round(value, 4) for key, value in parity.at_multiple.items()}
            row["multiple_seconds"] = seconds
        found.append(row)
        print(json.dumps(row), flush=True)
    return found


def _is_shown(parity: Parity, case: str) -> bool:
    """Return whether parity is to tell this case: at a multiple of the scale only coarse faults."""
    return not parity.note or (parity.at_multiple is not None and case in ("honest", *COARSE))


async def bench(args: argparse.Namespace) -> None:
    """Run every case."""
    cuda = torch.cuda.is_available()
    dtypes = args.dtypes.split(",") if args.dtypes else ["bfloat16" if cuda else "float32"]
    names = ["all layers"] if args.quick else list(HONEST)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        model = args.model_dir or (embedded() if args.model == "smollm2" else make_tiny_base(root / "tiny"))
        blocks = int(json.loads((model / "config.json").read_text())["num_hidden_layers"])
        folders = {}
        for number, name in enumerate(names):
            own = HONEST[name]
            folders[name] = make_lora(
                root / f"a{number}",
                model,
                seed=number,
                rank=own.rank,
                scale=own.scale,
                target_modules=own.modules,
            )
        for dtype in dtypes:
            tables = {name: trained(model, folders[name], dtype, args.qlora, args.tokens) for name in names}
            arguments: dict[str, Any] = {"dtype": dtype, "max-model-len": 1024}
            if cuda:
                arguments |= {"gpu-memory-utilization": args.memory, "enforce-eager": True}
            arguments |= json.loads(args.engine_args)
            served = awq_base(model, root / f"awq-{dtype}") if args.served else model
            spec = EngineSpec(
                f"engine-{dtype}", "base", str(served), args=arguments, max_loras=2, max_lora_rank=16
            )
            pool = EnginePool([spec], root / f"data-{dtype}")
            await pool.start()
            try:
                engine = pool.engines()[0]
                await engine.wait_ready(900)
                for name in names:
                    probe = tables[name]
                    copy = Path(shutil.copytree(folders[name], root / f"{dtype}-{folders[name].name}"))
                    found += await rows(engine, dtype, name, copy, probe, blocks)
            finally:
                await pool.stop()
    mistakes = [row for row in found if row["shown"] and row["accepted"] != (row["served"] == "honest")]
    print(
        json.dumps(
            {
                "name": "parity",
                "figure": len(mistakes),
                "unit": "wrong verdicts",
                "budget": 0,
                "ok": not mistakes,
                "verdicts": len(found),
                "not_shown": sum(not row["shown"] for row in found),
                "device": torch.cuda.get_device_name(0) if cuda else "cpu",
                "versions": versions("torch", "transformers", "peft", "vllm"),
            }
        )
    )


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one honest adapter instead of three")
    parser.add_argument("--model", default="smollm2", help="smollm2, tiny, or a Hugging Face directory")
    parser.add_argument(
        "--dtypes", help="of engine and probe, with commas between; default: what the device computes in"
    )
    parser.add_argument("--qlora", action="store_true", help="the probe over the NF4 base alone")
    parser.add_argument(
        "--served", choices=("awq",), help="serve the model in this format, and train on the model"
    )
    parser.add_argument("--tokens", type=int, help="length of the probe; default: as for a publishing")
    parser.add_argument("--engine-args", default="{}", help="further vLLM arguments, a JSON object")
    parser.add_argument("--memory", type=float, default=0.4, help="the engine's share of a card's memory")
    args = parser.parse_args()
    args.model_dir = None if args.model in ("smollm2", "tiny") else Path(args.model).absolute()
    asyncio.run(bench(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
