"""Ops: who asks, readiness and the overview."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feedback_ui.double.memory import STATES, Memory, problem
from tests.feedback_ui.double.rows import now


class Operations(Memory):
    """Answers those routes from the memory."""

    async def whoami(self, request: Request) -> Response:
        if self.mode == "multi-user" and not request.cookies.get("session"):
            return problem(401, "Unauthorized", "Sign in first")
        return JSONResponse({"name": "operator", "roles": self.roles, "mode": self.mode})

    async def readyz(self, request: Request) -> Response:
        return JSONResponse({"missing": [] if self.ready else ["engine smollm2"]}, 200 if self.ready else 503)

    async def status(self, request: Request) -> Response:
        engine = {
            "name": "smollm2",
            "base": "smollm2-135m-instruct",
            "state": "ready" if self.ready else "starting",
            "detail": None if self.ready else "loading weights",
            "pid": 41732,
            "restarts": 0,
            "adapters": [r["adapter"] for r in self.releases if r["adapter"]],
            "log_tail": [
                "INFO 11-23 18:02:11 Loading weights took 0.61 seconds",
                "INFO 11-23 18:02:13 init engine (profile, create kv cache, warmup model) took 3.72 seconds",
                "INFO 11-23 18:02:14 Application startup complete.",
            ],
        }
        open_ones = sum(row["state"] == "open" for row in self.comparisons.values())
        return JSONResponse(
            {
                "version": "0.1.0",
                "mode": self.mode,
                "ready": self.ready,
                "missing": [] if self.ready else ["engine smollm2 is starting"],
                "url": "http://127.0.0.1:7860",
                "pid": 41700,
                "started_at": now(4000),
                "engines": [engine],
                "deployments": [self.deployment],
                "pairs": {"total": len(self.pairs), "new": len(self.pairs)},
                "demonstrations": {"total": len(self.demonstrations)},
                "comparisons": {"open": open_ones, "decided": len(self.comparisons) - open_ones},
                "active_runs": [r["id"] for r in self.runs.values() if r["state"] in STATES[:5]],
                "first_steps": self.first_steps,
                "schedule": self._schedule(),
                "schedules": [self._schedule()],
            }
        )

    def _schedule(self) -> dict[str, Any]:
        return {
            "name": "schedule",
            "enabled": True,
            "cron": "0 3 * * *",
            "every_pairs": 200,
            "deployment": "assistant",
            "method": "dpo",
            "qlora": True,
            "recipe": "first-preferences",
            "rollout": "canary",
            "next_at": now(-7200),
            "new_pairs": len(self.pairs),
            "rows": "pairs",
            "new_rows": len(self.pairs),
        }

    def operations_routes(self) -> list[Route]:
        return [
            Route("/readyz", self.readyz),
            Route("/api/status", self.status),
            Route("/api/whoami", self.whoami),
        ]
