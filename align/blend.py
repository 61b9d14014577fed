"""Combine adapters of one base into one: `python -m align.blend`."""

import sys

from align.training.blend import main

if __name__ == "__main__":
    sys.exit(main())
