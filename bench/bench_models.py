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
    """Write a model of a shape of `random_model` with random weights, and another's tokenizer, to `out`.

    In float32 where it is made on the CPU, in bfloat16 on a GPU.
    """
    import torch
    from random_model import build

    if not out.exists():
        cuda = torch.cuda.is_available()
        model = build(shape, False, "cuda" if cuda else "cpu", torch.bfloat16 if cuda else torch.float32)
        model.save_pretrained(out)
        del model
        torch.cuda.empty_cache()
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (tokenizer / name).exists():
                shutil.copy(tokenizer / name, out)
    return out
