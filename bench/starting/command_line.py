"""Start of the command line against the imports that it cannot omit.

    python -m bench.starting.command_line [--quick]

Processor time (user and system) of `trimtab --help` and of `trimtab status` against a port where nobody answers, beside
that of importing typer and rich; interleaved, medians. The budget is 0.6 s on cores where those imports take 0.25 s.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

BUDGET = 0.6 / 0.25
COMMAND = str(Path(sys.executable).with_name("trimtab"))
CASES = {
    "imports": [sys.executable, "-c", "import typer, rich.console, rich.table, typer.rich_utils"],
    "help": [COMMAND, "--help"],
    "status": [COMMAND, "status"],
}


def processor_seconds(command: list[str]) -> float:
    """Run `command` and return the processor time it took, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"TRIMTAB_URL": "http://127.0.0.1:9"}
    subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print the medians, then the line that every benchmark ends with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 rounds in place of 21")
    rounds = 5 if parser.parse_args().quick else 21
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, command in CASES.items():
            taken[name].append(processor_seconds(command))
    medians = {name: round(statistics.median(values), 3) for name, values in taken.items()}
    print(json.dumps({"median_s": medians, "rounds": rounds}))
    figure = max(medians["help"], medians["status"]) / medians["imports"]
    line = {
        "name": "command_line",
        "figure": round(figure, 2),
        "unit": "times the processor time of importing typer and rich",
        "budget": BUDGET,
        "ok": figure <= BUDGET,
        "versions": {name: version(name) for name in ("typer", "rich", "httpx")},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
