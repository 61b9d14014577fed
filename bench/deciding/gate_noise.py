"""How often a release that is as good as stable passes the gate's checks of generated answers.

    python -m bench.deciding.gate_noise sampled.duckdb [--prompts 18 28 40] [--stories 400]

The store is one that `bench.deciding.teach --keep DIR` left: two answers of the same release to each of 80 real prompts.
One of the two plays the new release, at random, so that nothing but sampling noise differs. Prints the share of stories in
which the check passes, and in which it rejects (its value is beyond the margin), by number of prompts; the budget is nine
of ten passes for each check at the default suite's number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from align.evaluation.gate import DEFAULT_CHECKS
from align.evaluation.health import refuses, rep4
from align.evaluation.suite_file import Answers, load_suite
from align.stats import difference_interval

MEASURES: dict[str, Callable[[str, str], float]] = {
    "rep4": lambda text, reason: rep4(text),
    "cut_share": lambda text, reason: float(reason == "length"),
    "refusal_share": lambda text, reason: float(refuses(text)),
}
SIDES = """
    select a.content, a.finish_reason, b.content, b.finish_reason
    from candidates a
    join candidates b using (comparison_id)
    where a.side = 'a' and b.side = 'b' and a.release = b.release
"""


def outcomes(
    values: npt.NDArray[np.float64], prompts: int, margin: float, stories: int
) -> tuple[float, float]:
    """Return the shares of stories whose interval of the difference lies below the margin, and whose value is above it."""
    rng, passed, rejected = np.random.default_rng(0), 0, 0
    for _ in range(stories):
        drawn = values[rng.integers(0, len(values), prompts)]
        new = rng.integers(0, 2, prompts)
        rows = np.arange(prompts)
        found = difference_interval(drawn[rows, new], drawn[rows, 1 - new])
        passed += found["high"] <= margin
        rejected += found["value"] > margin
    return passed / stories, rejected / stories


def main() -> None:
    """Print the table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--prompts", type=int, nargs="+", default=[18, 28, 40, 56])
    parser.add_argument("--stories", type=int, default=400)
    args = parser.parse_args()
    with duckdb.connect(str(args.store), read_only=True) as db:
        found = db.sql(SIDES).fetchall()
    asked = sum(part.prompts for part in load_suite("default").measurements if isinstance(part, Answers))
    lowest = 1.0
    for name, measure in MEASURES.items():
        (margin,) = (
            check.limit
            for check in DEFAULT_CHECKS
            if (check.measure, check.bound) == (name, "not_worse_than_stable_by")
        )
        values = np.array([[measure(a, why_a), measure(b, why_b)] for a, why_a, b, why_b in found])
        shares = {n: outcomes(values, n, margin, args.stories) for n in sorted({*args.prompts, asked})}
        lowest = min(lowest, shares[asked][0])
        cells = ", ".join(f"{n} prompts {good:.0%} ({bad:.1%} rejected)" for n, (good, bad) in shares.items())
        differ = (values[:, 0] != values[:, 1]).mean()
        print(f"{name} (mean {values.mean():.3f}, differs in {differ:.0%}), margin {margin}: {cells}")
    line = {
        "name": "gate_noise",
        "figure": round(lowest, 3),
        "unit": "share of equal releases that pass",
        "budget": 0.9,
    }
    print(json.dumps(line | {"ok": lowest >= 0.9, "pairs": len(found), "prompts": asked}))


if __name__ == "__main__":
    main()
