"""Log-probabilities that PEFT computes for a probe text: what a served adapter is compared with.

Run as `python -m align.training.probe --model DIR --adapter DIR --out probe.json [--qlora]`. `probe.json` holds
`token_ids` (T) and `logprobs`, a table of T - 1 natural-log probabilities of tokens 1 to T - 1: `base` and
`adapter` over the base in full precision, as it is served; with QLoRA also `nf4_adapter`, over the 4-bit
base that it was trained on. It uses plain transformers and PEFT, none of the training code, so that it
checks that code too.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from align.errors import AlignError, ModelError
from align.recipe.recipe import Recipe, resolve
from align.run_directory import write_atomic
from align.training.chat_template import render
from align.training.data import Row, encode, read_rows
from align.training.model import choose, load_base, load_tokenizer

TOKENS = 96
TEXT = (
    "A trim tab is a small surface on the trailing edge of a rudder: moving it moves the rudder, and the "
    "rudder turns the ship. Explain in two sentences why so little force is needed, then give one everyday "
    "example."
)


def probe_tokens(tokenizer: Any, rows: Sequence[Row], seed: int) -> list[int]:
    """Return at most `TOKENS` token ids: the start of one row drawn with `seed`, then the fixed text.

    Without rows it is the fixed text alone, which has several dozen tokens.
    """
    fixed = encode(tokenizer, [render(tokenizer, [{"role": "user", "content": TEXT}], True)])[0]
    if not rows:
        return fixed[:TOKENS]
    tree = rows[random.Random(seed).randrange(len(rows))].tree
    return [*tree.prompt, *tree.answers[0]][: TOKENS // 2] + fixed[: TOKENS // 2]


@torch.no_grad()
def logprobs(model: torch.nn.Module, token_ids: Sequence[int]) -> list[float]:
    """Return the natural-log probability of each token but the first, given those before it (T - 1)."""
    ids = torch.tensor([list(token_ids)], device=next(model.parameters()).device)
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    picked: list[float] = logits.log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1).tolist()
    return picked


def measure(
    model_path: str, adapter: Path, token_ids: Sequence[int], recipe: Recipe
) -> tuple[dict[str, list[float]], str]:
    """Return the table `logprobs` for an adapter on disk, loading one model at a time, and what could not be
    measured.

    A base that was trained in 4 bits may not fit in full precision; then `base` and `adapter` are missing
    and the text says why. It is empty when nothing is missing.
    """
    hardware = choose(recipe)
    table: dict[str, list[float]] = {}
    if recipe.qlora:
        model: Any = PeftModel.from_pretrained(load_base(model_path, recipe, hardware), str(adapter)).eval()
        table["nf4_adapter"] = logprobs(model, token_ids)
        del model
        gc.collect()
    try:
        base = (
            AutoModelForCausalLM.from_pretrained(model_path, dtype=hardware.dtype).to(hardware.device).eval()
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        if not recipe.qlora:
            raise
        return table, str(error).partition("\n")[0]
    table["base"] = logprobs(base, token_ids)
    table["adapter"] = logprobs(PeftModel.from_pretrained(base, str(adapter)).eval(), token_ids)
    return table, ""


def write(path: Path, token_ids: Sequence[int], table: dict[str, list[float]]) -> None:
    """Write `probe.json` whole."""
    write_atomic(path, json.dumps({"token_ids": list(token_ids), "logprobs": table}) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 with one line of reason."""
    parser = argparse.ArgumentParser(prog="python -m align.training.probe", description="Probe an adapter.")
    parser.add_argument("--model", required=True, help="Hugging Face directory of the base model")
    parser.add_argument("--adapter", required=True, type=Path, help="PEFT directory")
    parser.add_argument("--out", required=True, type=Path, help="file to write")
    parser.add_argument("--qlora", action="store_true", help="measure over the NF4 base too")
    parser.add_argument("--heldout", type=Path, help="Parquet file of pairs to draw a part of the text from")
    parser.add_argument("--seed", type=int, default=42, help="of that draw")
    args = parser.parse_args(argv)
    try:
        recipe = resolve("dpo", args.qlora)
        tokenizer = load_tokenizer(args.model)
        rows = read_rows(args.heldout, "dpo", tokenizer, recipe.max_length)[0] if args.heldout else []
        token_ids = probe_tokens(tokenizer, rows, args.seed)
        table, missing = measure(args.model, args.adapter, token_ids, recipe)
        if missing:
            raise ModelError(missing)
        write(args.out, token_ids, table)
    except (AlignError, OSError, ValueError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
