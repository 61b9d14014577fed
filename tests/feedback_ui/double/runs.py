"""Ops, Training: recipes, plans and runs that take their steps as they are asked about."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feedback_ui.double.memory import STATES, Memory, problem
from tests.feedback_ui.double.rows import evaluation, now, release

TRAINING_STEPS = 12


class Runs(Memory):
    """Answers those routes from the memory."""

    async def create_run(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("POST", "/api/runs", body, dict(request.headers)))
        if not self.pairs and body["method"] == "dpo":
            return problem(409, "Conflict", "There are no preference pairs to train on")
        rate = body.get("params", {}).get("learning_rate", 1e-4)
        if not isinstance(rate, float) or not 0 < rate <= 1:
            detail = f"learning_rate is {rate}"
            return problem(422, "Invalid", detail, field="params.learning_rate", accepted="a number above 0")
        run = {
            "id": self.new("run"),
            "method": body["method"],
            "deployment": body.get("deployment", "assistant"),
            "qlora": body.get("qlora", False),
            "params": body.get("params", {}),
            "rollout": body.get("rollout", "canary"),
            "gate": body.get("gate", "enforce"),
            "state": "queued",
            "step": 0,
            "total_steps": None,
            "metrics": {},
            "snapshot": None,
            "adapter": None,
            "release": None,
            "evaluation": None,
            "gate_decision": None,
            "error": None,
            "requested_by": "operator",
            "created_at": now(),
            "updated_at": now(),
            "transitions": [{"state": "queued", "at": now(), "detail": None}],
            "seconds_by_state": {},
            "_started": time.monotonic(),
        }
        self.runs[run["id"]] = run
        self.note("run.create", run["id"], method=body["method"])
        return JSONResponse(public(run), 202)

    def move(self, run: dict[str, Any], state: str) -> None:
        run["state"], run["updated_at"] = state, now()
        run["transitions"].append({"state": state, "at": now(), "detail": None})

    def tick(self, run: dict[str, Any]) -> None:
        """Advance a run by what its age allows; with `step_s` 0 each look moves it on."""
        if run["state"] not in STATES[:5]:
            return
        if run["state"] != "training":
            if run["state"] == "queued":
                self.move(run, "snapshot")
                run["snapshot"] = "s-71c0f2aa91b3d4e5"
            elif run["state"] == "snapshot":
                self.move(run, "training")
                run["total_steps"] = TRAINING_STEPS
                run["_training"] = time.monotonic()
            elif run["state"] == "publishing":
                number = len(self.releases) + 1
                run["adapter"] = f"a-{number:02d}c9e1f2a3b4c5d6"
                run["release"] = f"assistant@{number}"
                self.releases.insert(0, release(run["release"], number, run["adapter"], 0, run["id"]))
                self.move(run, "evaluating")
            elif run["state"] == "evaluating":
                run["evaluation"] = self.new("eval")
                run["gate_decision"] = {
                    "passed": True,
                    "verdict": "pass",
                    "reasons": ["heldout accuracy 0.71 is above 0.50", "win rate 0.58 is above 0.45"],
                }
                self.evals.insert(0, evaluation(run["evaluation"], run["release"], "assistant@1"))
                self.deployment |= {"canary": run["release"], "weight": 0.1}
                self.move(run, "canary")
            return
        age = time.monotonic() - run["_training"]
        run["step"] = min(TRAINING_STEPS, int(age / self.step_s) if self.step_s else run["step"] + 4)
        run["metrics"] = metrics_row(run["step"])
        if run["step"] >= TRAINING_STEPS:
            self.move(run, "publishing")

    async def list_recipes(self, request: Request) -> Response:
        about = ("first-preferences", "dpo", "The first few dozen preferences."), ("thumbs", "kto", "Thumbs.")
        rows = [{"name": n, "method": m, "qlora": False, "about": a, "values": {}} for n, m, a in about]
        return JSONResponse(rows)

    async def plan_run(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("POST", "/api/runs/plan", body, dict(request.headers)))
        fits = body["params"].get("r") != 512
        plan = {"rows": len(self.pairs), "trainable_parameters": 4_884_480, "steps": 12, "seconds": 95.0}
        sizes = {"parts": {"weights": 5.4e8, "logits": 2.1e8}, "total": 1.9e9, "available": 2.2e10}
        advice = {"fits": fits, "notes": ["rows are short"], "advice": "" if fits else "lower r"}
        return JSONResponse({**plan, **sizes, **advice, "values": {"r": 8, "beta": 0.1}})

    async def list_runs(self, request: Request) -> Response:
        return JSONResponse([public(run) for run in reversed(self.runs.values())])

    async def get_run(self, request: Request) -> Response:
        found = self.runs.get(request.path_params["id"])
        if not found:
            return problem(404, "Not Found", "no such run")
        self.tick(found)
        return JSONResponse(public(found))

    async def run_metrics(self, request: Request) -> Response:
        found = self.runs[request.path_params["id"]]
        return JSONResponse([metrics_row(step) for step in range(1, found["step"] + 1)])

    async def cancel_run(self, request: Request) -> Response:
        found = self.runs[request.path_params["id"]]
        self.move(found, "cancelled")
        return JSONResponse(public(found))

    async def resume_run(self, request: Request) -> Response:
        found = self.runs[request.path_params["id"]]
        found["_training"] = time.monotonic()
        self.move(found, "training")
        return JSONResponse(public(found), 202)

    def runs_routes(self) -> list[Route]:
        return [
            Route("/api/runs", self.list_runs, methods=["GET"]),
            Route("/api/runs", self.create_run, methods=["POST"]),
            Route("/api/recipes", self.list_recipes),
            Route("/api/runs/plan", self.plan_run, methods=["POST"]),
            Route("/api/runs/{id}", self.get_run),
            Route("/api/runs/{id}/metrics", self.run_metrics),
            Route("/api/runs/{id}/cancel", self.cancel_run, methods=["POST"]),
            Route("/api/runs/{id}/resume", self.resume_run, methods=["POST"]),
        ]


def public(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if not key.startswith("_")}


def metrics_row(step: int) -> dict[str, Any]:
    loss = 0.693 * 0.93**step
    margin = 0.09 * step
    return {
        "step": step,
        "total_steps": TRAINING_STEPS,
        "loss": loss,
        "rewards/margins": margin,
        "rewards/accuracies": min(1.0, 0.5 + step / 24),
        "learning_rate": 1e-4,
    }
