"""Merge an adapter into its base: `python -m align.merge`."""

import sys

from align.training.merge import main

if __name__ == "__main__":
    sys.exit(main())
