"""The whole loop on one machine, with default settings: chat, rank, train, publish, roll out, roll back, kill, start again.

    python -m bench.whole_loop [--quick] [--model DIR | --random 7b] [--parts lora,qlora,kills,restart] [--streams 8]
    python -m bench.whole_loop --make-room sleep --parts lora       the engine takes 95% of a card, and makes room
    python -m bench.whole_loop --replicas 2 --parts replica,lora    on two cards, or two processes of one

`trimtab up` runs as a user would start it, on a data directory of its own; `--streams` clients chat all through, and what
they see is reported part by part. `--model` serves another Hugging Face directory than SmolLM2-135M, `--random` a shape of
`bench.random_model` with random weights (then with PYTHONPATH=bench). The parts:

* start: seconds to the page, to readiness and to the first token, and the memory of each card;
* rank: 24 comparisons with votes (the shorter answer wins);
* lora, qlora: a DPO run with the default recipe and the default gate, its parity, its verdict, promoted and rolled back;
* replica: one of several replicas is killed; the others answer what it had not begun to answer;
* kills: the engine core, the worker and the platform are killed while a run trains;
* restart: Ctrl-C, then a second start with what the first one left in its caches.

Each part prints a line of JSON when it is done; the last line's figure is the failed requests outside the kills.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.bench_models import embedded, random_directory
from bench.chat_load import ChatLoad
from tests.support.platform import PlatformProcess, wait_for

NEUTRAL = Path(__file__).parent.parent / "align" / "evaluation" / "neutral.jsonl"
PROMPTS = [row["prompt"] for row in map(json.loads, NEUTRAL.read_text().splitlines()) if "prompt" in row]
BASE = "smollm2-135m-instruct"


class Loop:
    """The parts, in order, on one platform."""

    def __init__(self, platform: PlatformProcess, args: argparse.Namespace) -> None:
        self.platform = platform
        self.args = args
        self.began = time.monotonic()
        self.failed = 0

    def report(self, part: str, **facts: Any) -> None:
        """Print and keep what a part measured."""
        line = json.dumps({"part": part, "at_s": round(time.monotonic() - self.began, 1), **facts})
        print(line, flush=True)
        if self.args.out:
            with self.args.out.open("a") as file:
                file.write(line + "\n")

    def start(self, part: str = "start") -> None:
        """Start the platform and wait until it has answered one chat request."""
        began = time.monotonic()
        self.platform.start(ready=False)
        page = time.monotonic() - began
        wait_for(lambda: self.platform.request("GET", "/readyz").status_code == 200, 900, self.platform.say)
        ready = time.monotonic() - began
        answer = self.chat("Hello", 8)
        self.report(
            part, page_s=round(page, 1), ready_s=round(ready, 1), first_answer_s=round(time.monotonic() - began, 1),
            answer=answer[:60], **cards(), **start_facts(self.platform.data),
        )  # fmt: skip

    def chat(self, prompt: str, max_tokens: int) -> str:
        """Return one answer."""
        body = {
            "model": "assistant",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
        }
        return str(self.platform.post("/v1/chat/completions", body)["choices"][0]["message"]["content"])

    def rank(self) -> None:
        """Compare and vote, eight at a time."""
        began = time.monotonic()

        def one(prompt: str) -> None:
            body = {"messages": [{"role": "user", "content": prompt}], "deployment": "assistant"}
            made = self.platform.post("/api/comparisons", body | {"sampling": {"max_tokens": 96}})
            a, b = len(made["a"]), len(made["b"])
            choice = "tie" if a == b else "a" if a < b else "b"
            self.platform.post(f"/api/comparisons/{made['id']}/vote", {"choice": choice})

        prompts = list(itertools.islice(PROMPTS, 8 if self.args.quick else 24))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, prompts))
        self.report("rank", comparisons=len(prompts), seconds=round(time.monotonic() - began, 1))

    def train(self, load: ChatLoad, qlora: bool) -> None:
        """Train, publish and measure a run; promote it whatever the gate says, and roll back."""
        part, began = "qlora" if qlora else "lora", time.monotonic()
        body: dict[str, Any] = {"method": "dpo", "qlora": qlora}
        if self.args.quick:
            body["params"] = {"max_steps": 2, "max_length": 64, "gradient_accumulation_steps": 1}
        plan = self.platform.post("/api/runs/plan", body)
        run = self.platform.post("/api/runs", body)
        max_used: dict[str, int] = {}
        engine: list[tuple[str, float]] = []

        def watch(now: dict[str, Any]) -> None:
            state = self.platform.get("/api/status")["engines"][0]["state"]
            if not engine or engine[-1][0] != state:
                engine.append((state, round(time.monotonic() - began, 1)))
            for card in cards().get("cards", []):
                max_used[card["name"]] = max(max_used.get(card["name"], 0), card["used_mib"])

        found = self.platform.run_to_end(run["id"], 900, watch)
        states = [(row["state"], row["at"]) for row in found["transitions"]]
        facts: dict[str, Any] = {
            "state": found["state"],
            "error": found["error"],
            "states": states,
            "seconds": round(time.monotonic() - began, 1),
        }
        facts |= {"plan": plan.get("memory") or plan, "max_used_mib": max_used, "steps": found["total_steps"]}
        if self.args.make_room != "never":
            wait_for(
                lambda: self.platform.request("GET", "/readyz").status_code == 200, 300, self.platform.say
            )
            engine.append(("ready at the end", round(time.monotonic() - began, 1)))
        facts |= {"engine": engine, "chat": load.summary(began)}
        if found["release"]:
            facts["parity"] = self.platform.get(f"/api/releases/{found['release']}")["parity"]
            facts["gate"] = found["gate_decision"]
            facts |= self.roll(found["release"])
        self.failed += sum(load.summary(began)["failed"].values())
        self.report(part, **facts)

    def roll(self, release: str) -> dict[str, Any]:
        """Promote a release and roll back; return the milliseconds of both."""
        began = time.monotonic()
        self.platform.post(
            "/api/deployments/assistant/promote",
            {"release": release, "reason": "bench: to time the roll-out"},
        )
        promoted = time.monotonic()
        self.chat("Hello", 4)
        answered = time.monotonic()
        self.platform.post("/api/deployments/assistant/rollback")
        back = time.monotonic()
        return {
            "promote_ms": round((promoted - began) * 1000),
            "answer_after_ms": round((answered - promoted) * 1000),
            "roll_back_ms": round((back - answered) * 1000),
        }

    def run_for_kills(self) -> str:
        """Queue a run that is long enough to be killed in, and wait for its first step."""
        steps = 4 if self.args.quick else 60
        params = {"max_steps": steps, "num_train_epochs": 50}
        if self.args.quick:
            params |= {"max_length": 64, "gradient_accumulation_steps": 1}
        body = {"method": "dpo", "rollout": "none", "gate": "report", "params": params}
        ident = str(self.platform.post("/api/runs", body)["id"])
        wait_for(
            lambda: self.run(ident)["step"] >= 1 or self.run(ident)["state"] == "failed",
            300,
            self.platform.say,
        )
        return ident

    def run(self, ident: str) -> dict[str, Any]:
        """Return a run's record."""
        return dict(self.platform.get(f"/api/runs/{ident}"))

    def replica(self, load: ChatLoad) -> None:
        """Kill the engine core of one replica; streams that it had begun break, everything else is answered."""
        began = time.monotonic()
        before = len(load.answers)
        self.engine_cores()[0].kill()
        wait_for(lambda: not all(self.engines_ready()), 60, self.platform.say, 0.05)
        noticed = time.monotonic() - began
        wait_for(lambda: all(self.engines_ready()), 900, self.platform.say)
        seen = Counter(f"{a.status} {a.error}".strip() for a in load.answers[before:])
        whole, broken = seen.pop("200", 0), seen.pop("200 error within the stream", 0)
        self.failed += sum(seen.values())
        self.report(
            "kill a replica", noticed_s=round(noticed, 1), all_ready_s=round(time.monotonic() - began, 1),
            answers=whole, broken_after_their_first_token=broken, failed=dict(seen), **cards(),
        )  # fmt: skip

    def engines_ready(self) -> list[bool]:
        """Return for each engine whether it serves."""
        return [engine["state"] == "ready" for engine in self.platform.get("/api/status")["engines"]]

    def kills(self, load: ChatLoad) -> None:
        """Kill engine core, worker and platform, each while a run trains."""
        ident = self.run_for_kills()
        began = time.monotonic()
        for process in self.engine_cores():
            process.kill()
        wait_for(
            lambda: self.platform.request("GET", "/readyz").status_code != 200, 60, self.platform.say, 0.05
        )
        noticed = time.monotonic() - began
        wait_for(lambda: self.platform.request("GET", "/readyz").status_code == 200, 900, self.platform.say)
        serving = time.monotonic() - began
        found = self.platform.run_to_end(ident, 900)
        self.report(
            "kill engine core", noticed_s=round(noticed, 1), serving_s=round(serving, 1), run=found["state"],
            error=found["error"], chat=load.summary(began),
        )  # fmt: skip
        ident = self.run_for_kills()
        began = time.monotonic()
        for process in self.children("align.worker"):
            process.kill()
        wait_for(lambda: self.run(ident)["state"] not in ("training", "queued"), 60, self.platform.say)
        found = self.run(ident)
        chat = load.summary(began)
        self.failed += sum(chat["failed"].values())
        self.report(
            "kill worker",
            seconds=round(time.monotonic() - began, 1),
            run=found["state"],
            error=found["error"],
            chat=chat,
        )
        self.platform.post(f"/api/runs/{ident}/resume")
        step = found["step"]
        wait_for(
            lambda: self.run(ident)["state"] == "training" and self.run(ident)["step"] >= step,
            300,
            self.platform.say,
        )
        began = time.monotonic()
        orphans = self.platform.kill()
        wait_for(
            lambda: not any(p.is_running() and p.status() != "zombie" for p in orphans), 60, self.platform.say
        )
        gone = time.monotonic() - began
        self.start("start after a kill of the platform")
        load.url = self.platform.url
        found = self.platform.run_to_end(ident, 900)
        self.report(
            "kill platform",
            all_gone_s=round(gone, 1),
            run=found["state"],
            step=found["step"],
            error=found["error"],
        )

    def engine_cores(self) -> list[psutil.Process]:
        """Return the process of each engine that computes, by its log: its command line is its server's."""
        logs = sorted((self.platform.data / "logs").glob("engine-*.log"))
        started = [re.findall(r"\(EngineCore pid=(\d+)\)", log.read_text(errors="replace")) for log in logs]
        return [psutil.Process(int(pids[-1])) for pids in started if pids]

    def children(self, word: str) -> list[psutil.Process]:
        """Return the platform's processes of a name, without their guards."""
        return [
            process
            for process in self.platform.children()
            if word in process.name() or any(word in part for part in process.cmdline())
            if not any("guard.py" in part for part in process.cmdline())
        ]


def cards() -> dict[str, Any]:
    """Return what each card holds, from nvidia-smi; nothing where there is none."""
    query = ["nvidia-smi", "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [line.split(", ") for line in out.strip().splitlines()]
    return {
        "cards": [
            {"name": f"cuda:{n}", "used_mib": int(used), "total_mib": int(total)} for n, used, total in rows
        ]
    }


def start_facts(data: Path) -> dict[str, Any]:
    """Return the stages of the last start in seconds, and whether the engine's processes shared their imports."""
    facts: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        starts = json.loads((data / "cache" / "engine-starts.json").read_text())
        facts["stages"] = next(iter(starts.values()))[-1]["stages"]
    with contextlib.suppress(OSError):
        log = next((data / "logs").glob("engine-*.log")).read_text(errors="replace")
        facts["imported_one_by_one"] = "import vLLM one by one" in log
    return facts


def settings(model: Path, base: str, make_room: str, replicas: int) -> str:
    """Return the settings file; one replica of the default model needs none."""
    if base == BASE and make_room == "never" and replicas == 1:
        return ""
    found = f'[deployments.assistant]\nbase = "{base}"\n[engines.main]\nbase = "{base}"\nmodel = "{model}"\n'
    found += f"replicas = {replicas}\n"
    return found + (
        "" if make_room == "never" else f'gpu_memory = 0.95\n[training]\nmake_room = "{make_room}"\n'
    )


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="few comparisons and steps, for a machine without a GPU"
    )
    parser.add_argument("--model", type=Path, help="a Hugging Face directory; default: SmolLM2-135M-Instruct")
    parser.add_argument("--random", help="a shape of bench/random_model.py with random weights")
    parser.add_argument("--parts", default="lora,qlora,kills,restart", help="which, with commas between")
    parser.add_argument("--streams", type=int, default=8, help="chat streams all through")
    parser.add_argument(
        "--make-room", choices=("never", "shrink", "sleep"), default="never", help="training.make_room"
    )
    parser.add_argument("--replicas", type=int, default=1, help="processes of the engine")
    parser.add_argument("--data", type=Path, help="data directory; default: a new one that is deleted")
    parser.add_argument("--out", type=Path, help="append each line of JSON to this file too")
    args = parser.parse_args()
    parts = args.parts.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        data = (args.data or Path(scratch) / "data").absolute()
        model = args.model or embedded()
        if args.random:
            model = random_directory(args.random, Path(scratch) / f"random-{args.random}", model)
        model = model.absolute()
        base = model.name if args.model or args.random else BASE
        (data / "models").mkdir(parents=True, exist_ok=True)
        if not (data / "models" / base).exists():
            (data / "models" / base).symlink_to(model, target_is_directory=True)
        loop = Loop(PlatformProcess(data, settings(model, base, args.make_room, args.replicas)), args)
        try:
            loop.start()
            loop.rank()
            with ChatLoad(loop.platform.url, PROMPTS, args.streams) as load:
                began = time.monotonic()
                time.sleep(3 if args.quick else 8)
                loop.report("chat alone", chat=load.summary(began))
                for part in ("lora", "qlora"):
                    if part in parts:
                        loop.train(load, part == "qlora")
                if "replica" in parts:
                    wait_for(lambda: all(loop.engines_ready()), 900, loop.platform.say)
                    loop.replica(load)
                if "kills" in parts:
                    loop.kills(load)
            if "restart" in parts:
                loop.platform.stop()
                loop.start("second start")
        except (AssertionError, httpx.HTTPError) as error:
            loop.report("failed", error=str(error)[-3000:])
            raise
        finally:
            loop.platform.stop()
    packages = ("torch", "trl", "peft", "transformers", "bitsandbytes")
    print(json.dumps({
        "name": "whole_loop", "figure": loop.failed, "unit": "failed requests outside the kills", "budget": 0,
        "ok": loop.failed == 0, "versions": {package: importlib.metadata.version(package) for package in packages},
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
