"""Model directories for benchmarks of training on the CPU."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

CACHE = Path(os.environ.get("TRIMTAB_TEST_CACHE", Path.home() / ".cache" / "trimtab-tests"))


def embedded() -> Path:
    """Return SmolLM2-135M-Instruct, prepared once per machine."""
    from align.prepare import prepare

    return prepare(CACHE / "smollm2-135m-instruct", lambda line: print(f"# {line}", file=sys.stderr))


def random_directory(shape: str, out: Path, tokenizer: Path) -> Path:
    """Write a model of a shape of `random_model` with random weights, and another's tokenizer, to `out`."""
    import torch
    from random_model import build

    if not out.exists():
        build(shape, False, "cpu", torch.float32).save_pretrained(out)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (tokenizer / name).exists():
                shutil.copy(tokenizer / name, out)
    return out
