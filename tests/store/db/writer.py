"""Processes that write and acknowledge until they are killed.

For each line `STORE SEED` on standard input, forks a writer (so that only the first start pays for the imports), prints
its `pid`, and `dead` once it has ended. A writer prints one line for each commit that returned: `vote ID`, `turn ID`,
`pairs IMPORT ACCEPTED` or `promote NUMBER`.
"""

from __future__ import annotations

import os
import random
import sys

from store.conversations import conversations
from store.conversations.turn import Turn
from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.ids import new_id
from store.rollout import deployments, releases
from store.training_data import pairs
from store.values import Message


def say(line: str) -> None:
    """Write a line at once: `print` writes its end separately, and a writer killed in between leaves a line without."""
    os.write(1, f"{line}\n".encode())


def main(path: str, seed: str) -> None:
    """Write for ever."""
    chance = random.Random(seed)
    with Store.open(path) as db:
        deployments.ensure(db, "assistant", "smol")
        say("open")
        while True:
            what = chance.choice(["vote", "vote", "turn", "pairs", "promote", "checkpoint"])
            if what == "vote":
                made = comparisons.create(db, new_id("q"), [Candidate("x"), Candidate("y")], "assistant")
                done = comparisons.vote(db, made.id, "a", "ada", better="z", tags=["t"]).id
            elif what == "turn":
                done = new_id("chat")
                conversations.record_turns(
                    db, [Turn(done, new_id("conv"), (Message("user", "Hi"),), "Hello")]
                )
            elif what == "pairs":
                rows = [
                    {"prompt": new_id("p"), "chosen": "x" * 500, "rejected": "y" * 500} for _ in range(200)
                ]
                result = pairs.import_rows(db, rows, "test")
                done = f"{result.id} {result.accepted}"
            elif what == "promote":
                release = releases.create(db, "assistant", "smol")
                deployments.promote(db, "assistant", "ada", release.id)
                done = str(release.number)
            else:
                db.read().execute("checkpoint")
                continue
            say(f"{what} {done}")


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if not child:
            main(*line.split())
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("dead")
