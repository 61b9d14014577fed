"""Compute an adapter's log-probabilities on its base: `python -m align.probe`."""

import sys

from align.training.probe import main

if __name__ == "__main__":
    sys.exit(main())
