"""An adapter merged into its base: one Hugging Face directory for an engine that serves nothing else.

Run as `python -m align.training.merge --model DIR --adapter DIR --out DIR`. The directory is complete or absent. Before it
gets its name, the merge is checked in float32 and what was written value by value (`exports.merged_weights`), and the
log-probabilities of a probe text are computed over the weights as they were written and over base and adapter apart.
Prints one line of JSON: `{"out", "mean_abs", "max_abs", "dtype"}`, in nats per token.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from align.errors import AlignError
from align.training.exports.merged_weights import (
    MergeError,
    digests,
    load_model,
    merge_adapter,
    require_same_values,
)
from align.training.probe import logprobs, probe_tokens
from common.sequences import mean_distance


def merge(model: str, adapter: Path, out: Path) -> dict[str, Any]:
    """Write base `model` with `adapter` merged into it to the new directory `out`; returns what `main` prints.

    Raises `MergeError` when `out` exists, the merge meets values that are not finite, or the merged weights say something
    else than base and adapter.
    """
    out = Path(out).absolute()
    if out.exists():
        raise MergeError(f"{out} exists already; choose a new directory")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = probe_tokens(tokenizer, [], 0)
    merged = merge_adapter(model, adapter, "auto", tokens)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.parent / f".{out.name}.{os.getpid()}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        merged.model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        allow_as_usual(scratch)
        written = load_model(str(scratch))
        require_same_values(digests(merged.model), written)
        found = logprobs(written, tokens)
        mean, accepted = mean_distance(merged.release, found), merged.accepted(written.dtype)
        if not mean <= accepted:
            raise MergeError(
                f"merged and separate weights differ by {mean:.4g} nats per token; accepted: {accepted:g}"
            )
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        "out": str(out),
        "mean_abs": mean,
        "max_abs": max(abs(a - b) for a, b in zip(merged.release, found, strict=True)),
        "dtype": str(written.dtype).removeprefix("torch."),
    }


def allow_as_usual(directory: Path) -> None:
    """Give files the permissions that new files have here: safetensors leaves its own to their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in directory.iterdir():
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 with one line of reason."""
    parser = argparse.ArgumentParser(
        prog="python -m align.training.merge", description="Merge an adapter into its base."
    )
    parser.add_argument("--model", required=True, help="Hugging Face directory of the base model")
    parser.add_argument("--adapter", required=True, type=Path, help="PEFT directory")
    parser.add_argument("--out", required=True, type=Path, help="new directory")
    args = parser.parse_args(argv)
    try:
        print(json.dumps(merge(args.model, args.adapter, args.out)))
    except (AlignError, OSError, ValueError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
