"""What a release is measured on that learned from made pairs alone: the prompts that their jobs kept, by the same rules."""

from __future__ import annotations

from typing import Any

from align.evaluation.heldout_prompts import HeldoutPrompts
from align.evaluation.suite_file import WinRate
from align.pair_making.preference import Preference
from store.datasets import made_sources
from store.db.database import Store

NO_VOTES = "no vote is held out, since it learned from rows that no person judged"


def of_snapshot(db: Store, snapshot: str) -> HeldoutPrompts | None:
    """Return the held-out prompts of the jobs behind a snapshot; None where no row of it was made by a job.

    The rules are those that most of its pairs were decided by, where it were rules.
    """
    sources = made_sources.of_snapshot(db, snapshot)
    if not sources:
        return None
    jobs = sorted({job for row in sources for job in row["jobs"]})
    rows = [
        {"prompt_id": id, "prompt": [message.to_json() for message in prompt], "cluster": cluster}
        for id, cluster, prompt in made_sources.heldout_prompts(db, snapshot, jobs)
    ]
    rules = _rules(sources[0]["params"]) if sources[0]["kind"] == "rules" else None
    return HeldoutPrompts(rows, rules)


def _rules(params: dict[str, Any]) -> WinRate:
    preference = Preference.model_validate(params["by"]["preference"])
    return WinRate(kind="win_rate", rules=preference.rules, prefer=preference.prefer)
