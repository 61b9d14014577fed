"""What was acknowledged survives `kill -9` at any instant, and what was not is whole or absent."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from store.db.database import Store
from store.db.rows import scalar
from store.feedback import comparisons
from store.maintenance import verify
from store.rollout import deployments, releases

ROUNDS = 30
REPOSITORY = Path(__file__).parents[3]


def killed_writer(zygote: subprocess.Popen[str], path: Path, seed: int, after_s: float) -> list[list[str]]:
    """Start a writer, kill it `after_s` seconds after it opened the store, and return what it acknowledged."""
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(f"{path} {seed}\n")
    zygote.stdin.flush()
    pid, opened, said = 0, False, []
    while not (pid and opened):
        word, *rest = zygote.stdout.readline().split()
        pid = int(rest[0]) if word == "pid" else pid
        opened = opened or word == "open"
        if word not in ("pid", "open"):
            said.append([word, *rest])
    threading.Timer(after_s, os.kill, (pid, signal.SIGKILL)).start()
    while (line := zygote.stdout.readline()) != "dead\n":
        said.append(line.split())
    return said


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_killing_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    chance = random.Random(7)
    said: list[list[str]] = []
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("writer.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as zygote:
        for seed in range(ROUNDS):
            said += killed_writer(zygote, path, seed, chance.uniform(0.0, 0.8))
        assert zygote.stdin is not None
        zygote.stdin.close()
    assert len(said) > ROUNDS
    with Store.open(path) as db:
        read = db.read()
        votes = {row[0] for row in read.execute("select id from votes").fetchall()}
        turns = {row[0] for row in read.execute("select id from completions").fetchall()}
        pairs_of = dict(
            read.execute(
                "select ref, count(*) from evidence where subject_id like 'pair-%' group by ref"
            ).fetchall()
        )
        imports = dict(read.execute("select id, accepted from imports").fetchall())
        for kind, *facts in said:
            if kind == "vote":
                assert facts[0] in votes
                assert pairs_of[facts[0]] == 3
            elif kind == "turn":
                assert facts[0] in turns
            elif kind == "pairs":
                assert imports[facts[0]] == int(facts[1]) == 200
            else:
                assert releases.get(db, f"assistant@{facts[0]}")
        # Whole or absent: a vote has its pairs and its decision, a change of the deployment its audit row.
        assert scalar(read, "select count(*) from votes") == scalar(
            read, "select count(*) from comparisons where state = 'decided'"
        )
        assert scalar(read, "select count(*) from evidence where kind = 'vote'") == len(votes)
        promotions = [
            change for change in deployments.history(db, "assistant") if change["action"] == "promote"
        ]
        assert len(promotions) == scalar(
            read, "select count(*) from audit where action = 'deployment.promote'"
        )
        assert all(c.state in ("open", "decided") for c in comparisons.list_all(db, limit=1000))
        assert verify.verify(db) == []
