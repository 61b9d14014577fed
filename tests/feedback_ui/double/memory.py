"""What the double remembers and how it answers in general; tests read and bend it directly."""

from __future__ import annotations

import itertools
from typing import Any

from starlette.responses import JSONResponse

from tests.feedback_ui.double.rows import now, release, used
from tests.feedback_ui.double.tree import Tree

STATES = ("queued", "snapshot", "training", "publishing", "evaluating", "canary")


def problem(status: int, title: str, detail: str, **more: Any) -> JSONResponse:
    body = {"title": title, "detail": detail, "status": status, **more}
    return JSONResponse(body, status, media_type="application/problem+json")


class Memory:
    """The state behind every route."""

    def __init__(self) -> None:
        self.ready = True
        self.fail_chat: tuple[int, str] | None = None
        self.reply = "Tides are the sea answering the pull of the Moon."
        self.deltas: list[dict[str, Any]] | None = None
        """What an answer streams in the place of `reply`: deltas in OpenAI's form."""
        self.delta_s = 0.0
        self.max_model_len = 2048
        self.held = False
        """Whether answers stay at their first word."""
        self.finish_reason = "stop"
        self.trees: dict[str, Tree] = {}
        self.rank_show = "answers"
        self.pairs_offered = False
        self.models_s = 0.0
        self.records = True
        self.cancelled = 0
        self.mode = "single-user"
        self.roles = ["chat", "ops", "rater"]
        self.share: str | None = None
        self.likes: dict[str, bool | None] = {}
        self.votes: list[dict[str, Any]] = []
        self.skips: list[dict[str, Any]] = []
        self.guidelines = ""
        self.requests: list[tuple[str, str, Any, dict[str, str]]] = []
        self.conversations: dict[str, dict[str, Any]] = {}
        self.links: dict[str, str] = {}
        self.comparisons: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.pairs: list[dict[str, Any]] = []
        self.reviews: dict[str, dict[str, Any]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.demonstrations: list[dict[str, Any]] = []
        self.keys: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = []
        self.audit: list[dict[str, Any]] = []
        self.usage = [used("user", "ada", 120, 48_200), used("key", "ci", 9_000, 1_250_000, tokens=1_250_000)]
        self.evals: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.step_s = 0.0
        self.import_held = False
        self.import_faulty = False
        """Whether progress lacks what the contract promises."""
        self.import_breaks_off: str | None = None
        self.gold: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.known_people = {"ada"}
        self.erased: list[dict[str, Any]] = []
        self.first_steps = [
            {"name": name, "have": have, "wanted": wanted, "done": have >= wanted}
            for name, have, wanted in (
                ("chat", 3, 1),
                ("rank", 4, 10),
                ("train", 0, 1),
                ("look", 0, 1),
                ("roll_out", 0, 1),
            )
        ]
        self.ids = itertools.count(1)
        self.releases = [release("assistant@1", 1, None, 86_400)]
        self.made: list[dict[str, Any]] = []  # bodies of POST /api/releases
        self.deployment = {
            "name": "assistant",
            "base": "smollm2-135m-instruct",
            "stable": "assistant@1",
            "canary": None,
            "weight": 0.0,
            "previous": None,
            "updated_at": now(86_400),
        }

    def new(self, prefix: str) -> str:
        return f"{prefix}-{next(self.ids):04d}"

    def note(self, action: str, subject: str, **detail: Any) -> None:
        row = {"id": self.new("audit"), "actor": "operator", "action": action, "subject": subject}
        self.audit.insert(0, row | {"detail": detail, "created_at": now()})
