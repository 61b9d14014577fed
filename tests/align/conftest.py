"""Makes the helpers of this folder importable as `align_helpers` (tests run with importlib's import mode)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from align_helpers import make_run, tiny  # noqa: F401
