"""Write a release as files that others load: `python -m align.export JOB.json`."""

import sys

from align.training.exports.export import main

if __name__ == "__main__":
    sys.exit(main())
