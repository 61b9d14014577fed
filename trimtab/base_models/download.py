"""Download a hub id into the Hugging Face cache: `python -m trimtab.base_models.download ID [--revision R]`.

A process of its own, since a download in threads can't be interrupted from within. Progress goes to standard error, the
directory or the reason of a failure to standard output.
"""

from __future__ import annotations

import argparse
import signal
import sys

from trimtab.base_models.hub import fetch
from trimtab.errors import ModelRefused


def main(argv: list[str] | None = None) -> int:
    """Download what the arguments name; return 1 with one sentence where that fails."""
    parser = argparse.ArgumentParser(prog="python -m trimtab.base_models.download")
    parser.add_argument("model", help="hub id")
    parser.add_argument("--revision", help="commit, tag or branch")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        print(fetch(args.model, args.revision), flush=True)
    except (ModelRefused, OSError) as error:
        print(getattr(error, "why", str(error)).replace("\n", " "), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
