"""Prompts before weights on the default model: the search, and the four ways in one table, by one command each.

    python -m bench.deciding.teach --case shorter --keep TAUGHT          # once: votes, and an adapter that learned from them
    python -m bench.deciding.ways --taught TAUGHT --keep DIR [--distil]

Copies the data directory of a taught platform (its snapshot and adapter), starts `trimtab up` on it, and runs

    trimtab prompts search assistant --rules rules.toml --shots 0,2 --prompts 8
    trimtab releases compare assistant --suite suite.toml --rules rules.toml --html ways.html

with the rule "at most two sentences, then the shorter one" on the real prompts that were voted on. With `--distil`
the prompt that was found is then distilled into an adapter (`trimtab train sft --distil`), which is compared with the
prompt. A step that was cut short, also by a kill, goes on when the command is given again. Prints minutes and tables; the
last line is JSON. Exits with 0 if the prompt beats having none at 95% on requests that the search did not see.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from bench.deciding.teach import VERSIONED, make_data, questions
from bench.deciding.teach_cases import CASES, MAX_TOKENS
from bench.versions import versions

RULES = 'rules = [{ rule = "max_sentences", value = 2 }]\nprefer = "shorter"\n'
SUITE = """
[[measurements]]
kind = "heldout"
rows = 24

[[measurements]]
kind = "answers"
heldout = 20
general = 14
max_tokens = 48

[[measurements]]
kind = "texts"
texts = 6
"""
REQUESTS = 192
"""Real requests that a prompt is distilled on."""
FIRST_REQUEST = 200
"""Requests before this one were voted on, or measured, by `bench.deciding.teach`."""


class Session:
    """The platform, and what each step found and took, kept in a file."""

    def __init__(self, root: Path, taught: Path | None) -> None:
        self.root, self.file = root, root / "ways.json"
        if not (root / "data").exists():
            assert taught is not None, "--taught is needed for the first time"
            shutil.copytree(taught / "data", root / "data", symlinks=True)
            (root / "data" / "platform.json").unlink(missing_ok=True)
        (root / "rules.toml").write_text(RULES)
        (root / "suite.toml").write_text(SUITE)
        asked = questions(FIRST_REQUEST + REQUESTS, None)[FIRST_REQUEST:]
        (root / "requests.json").write_text(json.dumps(asked))
        self.kept: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.platform = make_data(root, CASES["shorter"])

    def step(self, name: str, *command: str) -> dict[str, Any]:
        """Run a command of the command line to its end, or return what it found before."""
        steps = self.kept.setdefault("steps", {})
        if name in steps:
            return dict(steps[name])
        environment = dict(os.environ) | {"TRIMTAB_DATA": str(self.root / "data")}
        argv = [sys.executable, "-m", "trimtab", *command, "--json"]
        began = time.monotonic()
        try:
            done = subprocess.run(
                argv, env=environment, cwd=self.root, stdout=subprocess.PIPE, text=True, check=True
            )
        finally:
            seconds = self.kept.setdefault("seconds", {})
            seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began
            self.kept.setdefault("loads", []).append(os.getloadavg()[0])
            self.keep()
        steps[name] = json.loads(done.stdout)
        self.keep()
        print(f"# {name}: {seconds[name] / 60:.1f} min: trimtab {' '.join(command)}", flush=True)
        return dict(steps[name])

    def keep(self) -> None:
        """Write what is known so far."""
        self.file.write_text(json.dumps(self.kept))


def search(session: Session) -> dict[str, Any]:
    """Search for the best prompt, and print its rounds."""
    found = session.step(
        "search",
        *("prompts", "search", "assistant", "--rules", "rules.toml", "--shots", "0,2"),
        *("--prompts", "8"),
    )
    for one in found["rounds"]:
        best = ", ".join(f"{row['name']} {row['score']:.2f}" for row in one["standings"][:3])
        print(f"#   {one['stage']}: {len(one['standings'])} on {one['prompts']} requests: {best}")
    for one in found["best"]:
        print(
            f"#   {one['name']}: {one['instruction']!r}, {one['shots']} examples, {said(one['development'])}"
        )
    return found


def compare(session: Session, name: str, *releases: str) -> dict[str, Any]:
    """Compare the ways, and print the table."""
    found = session.step(
        name,
        *("releases", "compare", "assistant", *releases, "--suite", str(session.root / "suite.toml")),
        *("--rules", "rules.toml", "--html", f"{name}.html"),
    )
    for row in found["ways"]:
        cost = row["cost"]
        quality = said(row["quality"]) if row["quality"] else "baseline"
        print(
            f"#   {row['way']} ({row['release']}): {quality}; gate {row.get('gate', '-')}, passes {row['passes']}; "
            f"{cost['prompt_tokens']:.0f} prompt tokens, first token {cost['first_token_s']:.3f} s, "
            f"{cost['tokens_per_second']:.1f} tokens/s, {cost['training_minutes'] or 0:.1f} min of training, "
            f"{(cost['adapter_bytes'] or 0) / 1e6:.1f} MB, {cost['seconds_per_day']:.0f} s a day"
        )
        for reason in row.get("reasons", ()):
            print(f"#     {reason}")
    print(f"# recommended: {found['recommended']}: {found['why']}")
    return found


def distil(session: Session, prompt: str) -> dict[str, Any]:
    """Distil a prompt into an adapter of the base, compare both with the base; return what share of the gain is kept."""
    made = session.step(
        "distil",
        *("train", "sft", "--distil", prompt, "--prompts", "requests.json", "--max-tokens", str(MAX_TOKENS)),
        *("--rollout", "none", "--gate", "report", "--start", "base", "--watch"),
    )
    models = compare(session, "distilled", prompt, str(made["ended"]["release"]))["models"]
    of_prompt, of_adapter = (win_rate(models[name]) for name in ("prompt", "adapter"))
    kept = (of_adapter["value"] - 0.5) / (of_prompt["value"] - 0.5)
    print(f"# the distilled adapter keeps {kept:.0%} of the gain: {said(of_adapter)} of {said(of_prompt)}")
    return {"kept": kept, "prompt": of_prompt, "adapter": of_adapter}


def said(found: dict[str, Any]) -> str:
    """Return an estimate as text."""
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f}, n={found['n']})"


def win_rate(model: dict[str, Any]) -> dict[str, Any]:
    """Return the win rate of a compared model."""
    return dict(model["measures"]["win_rate"]["release"])


def main() -> None:
    """Run the session; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--taught", type=Path, help="directory that bench.deciding.teach kept")
    parser.add_argument("--keep", type=Path, required=True, help="directory for data, tables and pages")
    parser.add_argument("--distil", action="store_true", help="distil the prompt into an adapter, too")
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    session = Session(args.keep.absolute(), args.taught)
    try:
        session.platform.start()
        found = search(session)
        assert found["releases"], "no prompt beats having none"
        tested = {
            kind: win_rate(model)
            for kind, model in found["test"]["models"].items()
            if kind in found["releases"]
        }
        for kind, estimate in tested.items():
            print(
                f"#   {found['releases'][kind]} ({kind}) on {found['test_prompts']} other requests: {said(estimate)}"
            )
        table = compare(session, "ways")
        distilled = distil(session, found["releases"]["prompt"]) if args.distil else None
    finally:
        session.platform.stop()
    best = next(iter(tested.values()))
    line = {
        "name": "prompts before weights",
        "figure": round(best["value"], 3),
        "unit": "win rate of the best prompt against none on requests that the search did not see",
        "budget": 0.5,
        "ok": best["low"] > 0.5,
        "tested": tested,
        "recommended": table["recommended"],
        "distilled": distilled,
        "minutes": {name: round(seconds / 60, 1) for name, seconds in session.kept["seconds"].items()},
        "load_average": [round(load, 1) for load in session.kept["loads"]],
        "cores": psutil.cpu_count(),
        "machine": machine.machine(),
        "versions": versions(*VERSIONED),
    }
    print(json.dumps(line))
    sys.exit(0 if line["ok"] else 1)


if __name__ == "__main__":
    main()
