"""A GGUF file as a Hugging Face directory in float32: `python -m align.convert FILE --out DIR`.

The directory is complete or absent. Prints the reason where that fails, and exits with status 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from align.errors import ModelError


def main(argv: list[str] | None = None) -> int:
    """Convert the file of the command line."""
    parser = argparse.ArgumentParser(prog="python -m align.convert", description="Dequantise a GGUF file.")
    parser.add_argument("file", type=Path, help="GGUF file")
    parser.add_argument("--out", type=Path, required=True, help="new directory")
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from align.training.gguf import convert

    out = args.out.absolute()
    scratch = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        convert(args.file, scratch, {})
        scratch.rename(out)
    except (ModelError, OSError) as error:
        print(str(error).replace("\n", " "))
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
