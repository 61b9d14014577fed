"""Several adapters of one base combined into one, by PEFT's `add_weighted_adapter`.

Run as `python -m align.blend --model DIR --adapter DIR:WEIGHT … --out DIR [--combination KIND] [--rank N] [--density D]
[--seed N]`. The directory is complete or absent. Prints one line of JSON: `{"rank", "combination", "distance"}`, where
`distance` is how far the new adapter's change of the weights is from the weighted sum of the adapters' changes, as a share
of that sum's size (Frobenius norm over all modules): 0 for `cat`, and for `svd` what the rank left out.

PEFT computes with the adapters alone, so the base is a skeleton of its layers without weights: memory and time do not go
with its size. Not covered: adapters that PEFT does not combine (of experts, `modules_to_save`), which it refuses in words.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM

from align.errors import AlignError
from common.lora import COMBINATIONS

TEMPLATE = "chat_template.jinja"
NEW = "default"  # PEFT saves an adapter of this name in the directory itself, any other below it

Factors = tuple[torch.Tensor, torch.Tensor]


class BlendError(AlignError):
    """The adapters cannot be combined; the text says why."""

    kind = "blend"


@dataclass(frozen=True)
class Options:
    """How to combine: `rank` for the `svd` kinds (None: the largest), `density` the share of values that pruning kinds keep.

    `seed` decides what the kinds with `dare` drop, which is drawn.
    """

    combination: str = "cat"
    rank: int | None = None
    density: float = 0.5
    seed: int = 0


def blend(model: str, parts: Sequence[tuple[Path, float]], out: Path, options: Options) -> dict[str, Any]:
    """Write the combination of PEFT directories of base `model`, each with its weight, to the new directory `out`.

    Returns what `main` prints. Raises `BlendError` when `out` exists or PEFT cannot combine them.
    """
    if out.exists():
        raise BlendError(f"{out} exists already; choose a new directory")
    names = [f"part_{place}" for place in range(len(parts))]
    weights = [weight for _, weight in parts]
    peft = _load(model, dict(zip(names, (path for path, _ in parts), strict=True)))
    torch.manual_seed(options.seed)
    try:
        peft.base_model.add_weighted_adapter(
            names,
            weights,
            NEW,
            combination_type=options.combination,
            svd_rank=options.rank,
            density=options.density,
            svd_full_matrices=False,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise BlendError(f"PEFT does not combine these adapters: {error}") from error
    # PEFT puts all of the scale into the factors, and leaves rank-stabilised scaling on where the first adapter had it.
    peft.peft_config[NEW] = replace(peft.peft_config[NEW], use_rslora=False, inference_mode=True)
    rank = int(peft.peft_config[NEW].r)
    distance = _distance(peft, names, weights, rank)
    _save(peft, out, [path for path, _ in parts])
    return {"rank": rank, "combination": options.combination, "distance": distance}


def _load(model: str, adapters: Mapping[str, Path]) -> PeftModel:
    """Return the skeleton of a base with the named adapters on it."""
    (first, *others) = adapters
    peft = PeftModel.from_pretrained(
        skeleton(model), str(adapters[first]), adapter_name=first, torch_device="cpu"
    )
    for name in others:
        peft.load_adapter(str(adapters[name]), adapter_name=name, torch_device="cpu")
    return peft


def skeleton(model: str) -> Any:
    """Return the layers of a base model with its shapes and without its weights: all zeros, which take no memory."""
    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config)
    for module in base.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            empty = torch.zeros((), dtype=torch.float32).expand(weight.shape)
            setattr(module, name, torch.nn.Parameter(empty, requires_grad=False))
    return base.eval()


def _distance(peft: PeftModel, names: Sequence[str], weights: Sequence[float], rank: int) -> float:
    """Return how far the new adapter is from the weighted sum. Raises `BlendError` for a module that it lacks."""
    off = whole = 0.0
    for name, layer in peft.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        parts = [
            (
                layer.lora_B[part].weight.double() * (weight * layer.scaling[part]),
                layer.lora_A[part].weight.double(),
            )
            for part, weight in zip(names, weights, strict=True)
            if part in layer.lora_A
        ]
        if parts and NEW not in layer.lora_A:
            raise BlendError(f"PEFT leaves out {name}, which one of the adapters changes")
        if NEW not in layer.lora_A:
            continue
        own = (layer.lora_B[NEW].weight.double(), layer.lora_A[NEW].weight.double())
        if own[1].shape[0] != rank:
            raise BlendError(
                f"the rank is {rank}, and {name} has room for {own[1].shape[0]}; accepted: at most that"
            )
        whole += _squared(parts)
        off += _squared([*parts, (-own[0], own[1])])
    return float((max(off, 0.0) / whole) ** 0.5) if whole > 0 else 0.0


def _squared(parts: Sequence[Factors]) -> float:
    """Return the squared norm of a sum of products B A, without computing the products."""
    b = torch.cat([left for left, _ in parts], dim=1)
    a = torch.cat([right for _, right in parts], dim=0)
    return float(((b.T @ b) * (a @ a.T)).sum())


def _save(peft: PeftModel, out: Path, sources: Sequence[Path]) -> None:
    """Write the new adapter beside `out`, then rename; the chat template of the adapters stays with it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        peft.save_pretrained(str(scratch), selected_adapters=[NEW], save_embedding_layers=False)
        template = next((path / TEMPLATE for path in sources if (path / TEMPLATE).is_file()), None)
        if template is not None:
            shutil.copyfile(template, scratch / TEMPLATE)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _part(text: str) -> tuple[Path, float]:
    path, _, weight = text.rpartition(":")
    return Path(path), float(weight)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 with one line of reason."""
    parser = argparse.ArgumentParser(prog="python -m align.blend", description="Combine adapters into one.")
    parser.add_argument("--model", required=True, help="Hugging Face directory of the base model")
    parser.add_argument("--adapter", required=True, type=_part, action="append", help="PEFT directory:weight")
    parser.add_argument("--out", required=True, type=Path, help="new directory")
    parser.add_argument("--combination", default="cat", choices=COMBINATIONS, help="how, as PEFT names it")
    parser.add_argument("--rank", type=int, help="of the new adapter, for the svd kinds")
    parser.add_argument("--density", type=float, default=0.5, help="share of values that pruning kinds keep")
    parser.add_argument("--seed", type=int, default=0, help="of what the dare kinds drop")
    args = parser.parse_args(argv)
    options = Options(args.combination, args.rank, args.density, args.seed)
    try:
        print(json.dumps(blend(args.model, args.adapter, args.out.absolute(), options)))
    except (AlignError, OSError, ValueError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
