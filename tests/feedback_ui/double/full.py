"""A memory in which every list has rows, for looks at full screens; `text` stands wherever models or people write."""

from __future__ import annotations

from typing import Any

from tests.feedback_ui.double.memory import Memory
from tests.feedback_ui.double.rows import evaluation, now, release


def fill(stub: Memory, text: str = "How do tides work?") -> None:
    """Give the memory a conversation, rows, two runs, a canary with votes, an evaluation, keys, people and a log."""
    _talk(stub, text)
    _rows(stub, text)
    _runs(stub, text)
    _rollout(stub, text)
    _people(stub, text)


def _talk(stub: Memory, text: str) -> None:
    said = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    stub.conversations["conv-full"] = {
        "id": "conv-full",
        "title": text,
        "messages": said,
        "created_at": now(600),
        "updated_at": now(500),
    }


def _rows(stub: Memory, text: str) -> None:
    asked = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    common = {"prompt": asked, "source": "vote", "created_at": now(900), "weight": 0.5}
    stub.pairs = [
        {**common, "id": "pair-1", "chosen": text, "rejected": text, "rater": text},
        {**common, "id": "pair-2", "chosen": "The Moon.", "rejected": "The wind.", "source": "import"},
    ]
    stub.demonstrations = [{**common, "id": "demo-1", "completion": text, "source": "like"}]
    stub.reviews = {"pair-1": {"state": "excluded", "reason": text}}
    stub.views = {text: {"name": text, "noun": "pairs", "filters": {"text": "moon"}}}
    stub.jobs = [
        {
            "id": "job-1", "kind": "pairs.make", "state": "failed", "params": {"deployment": "assistant"}, "progress": None,
            "result": None, "error": text, "requested_by": text, "created_at": now(60), "updated_at": now(30),
        },
        {
            "id": "job-2", "kind": "prompts.search", "state": "running", "params": {"deployment": "assistant"},
            "result": None, "progress": {"done": 3, "total": 9, "doing": text, "seconds_left": 40.0}, "error": None,
            "requested_by": "ada", "created_at": now(70), "updated_at": now(5),
        },
    ]  # fmt: skip


def _runs(stub: Memory, text: str) -> None:
    states = ("queued", "snapshot", "training", "publishing", "evaluating", "canary")
    done = {
        "id": "run-1", "deployment": "assistant", "method": "dpo", "qlora": True, "rollout": "canary", "state": "canary",
        "step": 12, "total_steps": 12, "params": {"r": 8, "note": text}, "metrics": {"loss": 0.31}, "notes": [text],
        "release": "assistant@2", "adapter": "a-02c9e1f2a3b4c5d6", "snapshot": "s-71c0f2aa91b3d4e5", "error": None,
        "requested_by": text, "created_at": now(3000), "updated_at": now(2400), "seconds_by_state": {},
        "evaluation": "eval-1",
        "transitions": [{"state": state, "at": now(3000 - 60 * at), "detail": None} for at, state in enumerate(states)],
        "gate_decision": {"passed": True, "verdict": "pass", "reasons": [text]}, "left_out": {"duplicate": 2},
    }  # fmt: skip
    broken: dict[str, Any] = {
        **done,
        "id": "run-2",
        "state": "failed",
        "step": 5,
        "error": text,
        "release": None,
    }
    stub.runs = {"run-1": done, "run-2": broken}


def _rollout(stub: Memory, text: str) -> None:
    tuned = release("assistant@2", 2, "a-02c9e1f2a3b4c5d6", 2500, "run-1") | {"system_prompt": text}
    stub.releases = [tuned, *stub.releases]
    votes = {
        "wins": 9, "losses": 4, "ties": 2, "win_rate": 0.63, "low": 0.46, "high": 0.78, "blocks": 12, "weighed": "team",
        "needed": 20.0, "evidence_for": 3.1, "evidence_against": 0.2, "min_votes": 10, "undecided_without": [text],
        "max_votes": 200, "ends_at": now(-86_400),
    }  # fmt: skip
    stub.deployment |= {"canary": "assistant@2", "weight": 0.1, "votes": votes}
    stub.evals = [evaluation("eval-1", "assistant@2", "assistant@1")]
    stub.evals.append({**stub.evals[0], "id": "eval-2", "state": "failed", "report": None, "error": text})


def _people(stub: Memory, text: str) -> None:
    made = {"roles": ["rater"], "created_at": now(4000)}
    stub.users = [{**made, "id": "who-1", "name": text}]
    stub.keys = [{**made, "id": "key-1", "name": text, "prefix": "tt-4f9", "revoked_at": None}]
    stub.note("deployment.canary", "assistant", reason=text)
    stub.note("key.create", text)
