"""A development double of the platform's HTTP contract, answering from memory over a real socket.

It lets the screens be built and their faults be caused at will (an engine that loads, a vote that conflicts). It is
no evidence that the platform works: tests/e2e/test_browser.py drives the same screens on the real stack.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

STATES = ("queued", "snapshot", "training", "publishing", "evaluating", "canary")
TRAINING_STEPS = 12
MEASURES = {
    "preference_accuracy": {
        "release": {"value": 0.71, "low": 0.55, "high": 0.84, "n": 24},
        "against": {"value": 0.54, "low": 0.35, "high": 0.72, "n": 24},
        "difference": {"value": 0.17, "low": 0.02, "high": 0.31, "n": 24},
    },
    "loss": {
        "release": {"value": 2.31, "low": 2.1, "high": 2.52, "n": 24},
        "against": {"value": 2.29, "low": 2.08, "high": 2.5, "n": 24},
        "difference": {"value": 0.02, "low": -0.01, "high": 0.05, "n": 24},
    },
}


def now(ago_s: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()


def problem(status: int, title: str, detail: str, **more: Any) -> JSONResponse:
    body = {"title": title, "detail": detail, "status": status, **more}
    return JSONResponse(body, status, media_type="application/problem+json")


class Stub:
    """The double's memory; tests read and bend it directly."""

    def __init__(self) -> None:
        self.ready = True
        self.fail_chat: tuple[int, str] | None = None
        self.reply = "Tides are the sea answering the pull of the Moon."
        self.delta_s = 0.0
        self.pairs_offered = False
        self.models_s = 0.0
        self.cancelled = 0
        self.mode = "single-user"
        self.roles = ["chat", "ops", "rater"]
        self.likes: dict[str, bool | None] = {}
        self.votes: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, Any, dict[str, str]]] = []
        self.conversations: dict[str, dict[str, Any]] = {}
        self.comparisons: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.pairs: list[dict[str, Any]] = []
        self.demonstrations: list[dict[str, Any]] = []
        self.keys: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = []
        self.audit: list[dict[str, Any]] = []
        self.usage = [used("user", "ada", 120, 48_200), used("key", "ci", 9_000, 1_250_000, tokens=1_250_000)]
        self.evals: list[dict[str, Any]] = []
        self.step_s = 0.0
        self.known_people = {"ada"}
        self.erased: list[dict[str, Any]] = []
        self.ids = itertools.count(1)
        self.releases = [release("assistant@1", 1, None, 86_400)]
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

    # ---- chat

    async def models(self, request: Request) -> Response:
        await asyncio.sleep(self.models_s)
        names = ["assistant", *(r["name"] for r in self.releases), "smollm2-135m-instruct"]
        return JSONResponse({"object": "list", "data": [{"id": n, "object": "model"} for n in names]})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("POST", "/v1/chat/completions", body, dict(request.headers)))
        if not self.ready:
            error = {
                "message": "No engine serves smollm2 yet",
                "type": "unavailable",
                "code": "engine_unavailable",
            }
            return JSONResponse({"error": error}, 503, headers={"Retry-After": "1"})
        if self.fail_chat:
            status, message = self.fail_chat
            error = {"message": message, "type": "invalid_request_error", "param": "model"}
            return JSONResponse({"error": error}, status)
        ident, talk = self.new("chatcmpl"), request.headers.get("x-trimtab-conversation") or self.new("conv")
        name = body["model"] if "@" in body["model"] else self.deployment["stable"]
        lane = "pinned" if "@" in body["model"] else "stable"
        reply = self.reply

        async def stream() -> Any:
            done = False
            try:
                for word in reply.split(" "):
                    await asyncio.sleep(self.delta_s)
                    delta = {
                        "id": ident,
                        "choices": [{"delta": {"content": word + " "}, "finish_reason": None}],
                    }
                    yield f"data: {json.dumps(delta)}\n\n"
                end = {"id": ident, "choices": [{"delta": {}, "finish_reason": "stop"}]}
                yield f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n"
                done = True
            finally:
                self.cancelled += not done
            answer = {
                "role": "assistant",
                "content": reply,
                "completion_id": ident,
                "release": name,
                "lane": lane,
            }
            self.conversations[talk] = {
                "id": talk,
                "title": body["messages"][0]["content"][:60],
                "created_at": now(),
                "updated_at": now(),
                "messages": [*body["messages"], answer | {"liked": None}],
            }

        headers = {"x-trimtab-release": name, "x-trimtab-lane": lane, "x-trimtab-conversation": talk}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)

    async def like(self, request: Request) -> Response:
        ident, liked = request.path_params["id"], (await request.json())["liked"]
        self.likes[ident] = liked
        for talk in self.conversations.values():
            for message in talk["messages"]:
                if message.get("completion_id") == ident:
                    message["liked"] = liked
        return JSONResponse({"completion_id": ident, "liked": liked})

    async def list_conversations(self, request: Request) -> Response:
        rows = [{**row, "messages": []} for row in reversed(self.conversations.values())]
        return JSONResponse(rows)

    async def get_conversation(self, request: Request) -> Response:
        found = self.conversations.get(request.path_params["id"])
        if not found:
            return problem(404, "Not Found", f"no conversation {request.path_params['id']}")
        return JSONResponse(found)

    # ---- preferences

    async def draw(self, request: Request) -> Response:
        return JSONResponse({"messages": [{"role": "user", "content": "How do tides work?"}]})

    async def compare(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("POST", "/api/comparisons", body, dict(request.headers)))
        await asyncio.sleep(self.delta_s * 8)
        made = self.add_comparison(body["messages"])
        return JSONResponse({key: made[key] for key in ("id", "messages", "a", "b")}, 201)

    async def offer(self, request: Request) -> Response:
        body = await request.json()
        if not self.pairs_offered:
            return Response(status_code=204)
        made = self.add_comparison(body["messages"])
        offered = {key: made[key] for key in ("id", "a", "b")}
        return JSONResponse(offered | {"conversation": body["conversation"] or self.new("conv")}, 201)

    def add_comparison(self, messages: list[dict[str, Any]], a: str = "", b: str = "") -> dict[str, Any]:
        made = {
            "id": self.new("cmp"),
            "messages": messages,
            "a": a or "The Moon pulls on the sea, and the sea **rises** towards it.",
            "b": b
            or "Tides come from gravity:\n\n1. the Moon pulls the water,\n2. the Earth turns below the bulge,"
            "\n3. so most coasts see two high waters a day.",
            "state": "open",
            "created_at": now(),
        }
        self.comparisons[made["id"]] = made
        return made

    async def next(self, request: Request) -> Response:
        for row in self.comparisons.values():
            if row["state"] == "open" and row.get("queued", True):
                return JSONResponse({key: row[key] for key in ("id", "messages", "a", "b")})
        return Response(status_code=204)

    async def vote(self, request: Request) -> Response:
        body = await request.json()
        found = self.comparisons.get(request.path_params["id"])
        if not found:
            return problem(404, "Not Found", "no such comparison")
        if found["state"] == "decided":
            return problem(409, "Conflict", f"comparison {found['id']} is decided already")
        found["state"] = "decided"
        self.votes.append({"comparison": found["id"], **body})
        made = [self.new("pair")] if body["choice"] in ("a", "b") else []
        for ident in made:
            won, lost = (found["a"], found["b"]) if body["choice"] == "a" else (found["b"], found["a"])
            row = {"id": ident, "prompt": found["messages"], "chosen": won, "rejected": lost, "weight": 1.0}
            self.pairs.insert(0, row | {"source": "vote", "deployment": "assistant", "created_at": now()})
        return JSONResponse(
            {
                "id": self.new("vote"),
                "comparison": found["id"],
                "choice": body["choice"],
                "revealed": {"a": "assistant@1", "b": self.releases[0]["name"]},
                "pairs": made,
                "demonstration": self.new("demo") if body.get("better") else None,
            }
        )

    # ---- operations

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
                "schedule": {
                    "enabled": True,
                    "cron": "0 3 * * *",
                    "every_pairs": 200,
                    "deployment": "assistant",
                    "method": "dpo",
                    "qlora": True,
                    "rollout": "canary",
                    "next_at": now(-7200),
                    "new_pairs": len(self.pairs),
                },
            }
        )

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

    async def list_releases(self, request: Request) -> Response:
        lanes = {self.deployment["stable"]: "stable", self.deployment["canary"]: "canary"}
        return JSONResponse([{**row, "lane": lanes.get(row["name"])} for row in self.releases])

    async def create_release(self, request: Request) -> Response:
        body = await request.json()
        number = len(self.releases) + 1
        made = release(f"assistant@{number}", number, body.get("adapter"), 0)
        made["system_prompt"] = body.get("system_prompt")
        self.releases.insert(0, made)
        self.note("release.create", made["name"])
        return JSONResponse(made, 201)

    async def lineage(self, request: Request) -> Response:
        ref = request.path_params["ref"]
        return JSONResponse(
            {
                "release": {"ref": ref},
                "adapters": [{"hash": "a-02c9e1f2a3b4c5d6", "run": "run-0004"}],
                "runs": [{"id": "run-0004", "method": "dpo"}],
                "snapshots": [{"hash": "s-71c0f2aa91b3d4e5", "train_rows": 20, "heldout_rows": 4}],
                "pairs": {"count": 24},
                "raters": [{"rater": "operator", "votes": 24}],
            }
        )

    async def deployments(self, request: Request) -> Response:
        return JSONResponse([self.deployment])

    async def set_canary(self, request: Request) -> Response:
        body = await request.json()
        self.deployment |= {"canary": body["release"], "weight": body["weight"], "updated_at": now()}
        self.note("deployment.canary", "assistant", **body)
        return JSONResponse(self.deployment)

    async def promote(self, request: Request) -> Response:
        body = await request.json()
        chosen = body.get("release") or self.deployment["canary"]
        if not chosen:
            return problem(
                409, "Conflict", "assistant has no canary to promote; name a release", field="release"
            )
        previous = self.deployment["stable"]
        self.deployment |= {"stable": chosen, "canary": None, "weight": 0.0, "previous": previous}
        self.note("deployment.promote", "assistant", release=chosen)
        return JSONResponse(self.deployment)

    async def rollback(self, request: Request) -> Response:
        if self.deployment["canary"]:
            self.deployment |= {"canary": None, "weight": 0.0}
        elif self.deployment["previous"]:
            self.deployment |= {"stable": self.deployment["previous"], "previous": None}
        else:
            return problem(409, "Conflict", "assistant has nothing to roll back to")
        self.note("deployment.rollback", "assistant")
        return JSONResponse(self.deployment)

    async def leaderboard(self, request: Request) -> Response:
        if len(self.releases) < 2:
            return JSONResponse([])
        first, second = self.releases[0]["name"], self.releases[1]["name"]
        row = {"wins": 14, "losses": 7, "ties": 3, "votes": 24}
        return JSONResponse(
            [
                {"release": first, **row, "score": 1058.0, "low": 986.0, "high": 1131.0},
                {
                    "release": second,
                    **row,
                    "wins": 7,
                    "losses": 14,
                    "score": 942.0,
                    "low": 869.0,
                    "high": 1014.0,
                },
            ]
        )

    async def list_evals(self, request: Request) -> Response:
        return JSONResponse(self.evals)

    async def create_eval(self, request: Request) -> Response:
        body = await request.json()
        made = evaluation(self.new("eval"), body["release"], body.get("against"))
        self.evals.insert(0, made)
        return JSONResponse(made, 202)

    async def get_eval(self, request: Request) -> Response:
        return JSONResponse(next(row for row in self.evals if row["id"] == request.path_params["id"]))

    async def list_pairs(self, request: Request) -> Response:
        return JSONResponse(self.pairs[: int(request.query_params.get("limit", 100))])

    async def list_demonstrations(self, request: Request) -> Response:
        return JSONResponse(self.demonstrations)

    async def import_rows(self, request: Request) -> Response:
        body = await request.json()
        rows = body["rows"] if isinstance(body, dict) else body
        needed = ("chosen", "rejected") if request.url.path.endswith("pairs") else ("completion",)
        target = self.pairs if needed[0] == "chosen" else self.demonstrations
        refused = []
        for number, row in enumerate(rows, 1):
            lacking = [name for name in needed if not isinstance(row, dict) or not row.get(name)]
            if lacking:
                refused.append({"row": number, "why": f"{lacking[0]}: missing"})
                continue
            prompt = row.get("messages") or [{"role": "user", "content": row.get("prompt", "")}]
            made = {**row, "id": self.new("row"), "prompt": prompt, "source": "import", "created_at": now()}
            target.insert(0, made)
        return JSONResponse({"accepted": len(rows) - len(refused), "duplicates": 0, "rejected": refused})

    async def stats(self, request: Request) -> Response:
        return JSONResponse({"total": len(self.pairs), "by_source": {"vote": len(self.pairs)}})

    async def people(self, request: Request) -> Response:
        rows = self.keys if request.url.path.endswith("keys") else self.users
        if request.method == "GET":
            return JSONResponse(rows)
        body = await request.json()
        if any(row["name"] == body["name"] for row in self.users) and rows is self.users:
            return problem(409, "Conflict", f"user {body['name']} exists already")
        made = {"id": self.new("who"), "name": body["name"], "roles": body["roles"], "created_at": now()}
        secret = {}
        if rows is self.keys:
            made |= {"prefix": "tt-4f9", "revoked_at": None}
            secret = {"secret": "tt-4f9c2b8e6a1d7f30"}
        rows.append(made)
        self.note("key.create" if secret else "user.create", made["name"])
        return JSONResponse(made | secret, 201)

    async def list_usage(self, request: Request) -> Response:
        return JSONResponse(self.usage)

    async def remove_person(self, request: Request) -> Response:
        ident = request.path_params["id"]
        self.users = [row for row in self.users if row["name"] != ident]
        for row in self.keys:
            if row["id"] == ident:
                row["revoked_at"] = now()
        return Response(status_code=204)

    async def erase(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name not in self.known_people:
            return problem(404, "Not Found", f"there is no person {name!r}")
        self.known_people.discard(name)
        learned = [{"id": row["id"], "ref": row["name"]} for row in self.releases if row["adapter"]]
        done = {"id": self.new("erase"), "removed": {"votes": 3, "pairs": 2, "likes": 0}, "releases": learned}
        self.erased.append(done)
        return JSONResponse(done)

    async def erasures(self, request: Request) -> Response:
        flagged = [row for done in self.erased for row in done["releases"]]
        return JSONResponse({"erasures": self.erased, "flagged": flagged})

    async def snapshots(self, request: Request) -> Response:
        report = {
            "train_rows": 20,
            "heldout_rows": 4,
            "dropped": {"duplicate": 2},
            "lengths": {"prompt": {"mean": 61.2, "median": 58.0, "p95": 120.0}},
            "languages": {"en": 0.97},
            "agreement": {"alpha": 0.61, "comparisons": 12, "votes": 26},
            "chosen_longer": 0.81,
        }
        row = {"hash": "s-71c0f2aa91b3d4e5", "deployment": "assistant", "method": "dpo", "report": report}
        return JSONResponse([row | {"train_rows": 20, "heldout_rows": 4, "created_at": now(600)}])

    async def raters(self, request: Request) -> Response:
        row = {
            "name": "ada",
            "votes": 24,
            "agreement": 0.83,
            "gold_right": 4,
            "gold_total": 5,
            "share_a": 0.9,
        }
        return JSONResponse([row | {"median_seconds": 12.0, "flags": ["position bias"]}])

    async def agreement(self, request: Request) -> Response:
        return JSONResponse({"alpha": 0.58, "comparisons": 12, "votes": 26})

    async def list_audit(self, request: Request) -> Response:
        return JSONResponse(self.audit)

    def routes(self) -> list[Route]:
        get, post = ["GET"], ["POST"]
        return [
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=post),
            Route("/readyz", self.readyz),
            Route("/api/status", self.status),
            Route("/api/whoami", self.whoami),
            Route("/api/messages/{id}/like", self.like, methods=post),
            Route("/api/conversations", self.list_conversations),
            Route("/api/conversations/{id}", self.get_conversation),
            Route("/api/prompts/draw", self.draw),
            Route("/api/comparisons", self.compare, methods=post),
            Route("/api/comparisons/next", self.next),
            Route("/api/comparisons/offer", self.offer, methods=post),
            Route("/api/comparisons/{id}/vote", self.vote, methods=post),
            Route("/api/pairs", self.list_pairs, methods=get),
            Route("/api/pairs", self.import_rows, methods=post),
            Route("/api/pairs/stats", self.stats),
            Route("/api/demonstrations", self.list_demonstrations, methods=get),
            Route("/api/demonstrations", self.import_rows, methods=post),
            Route("/api/demonstrations/stats", self.stats),
            Route("/api/runs", self.list_runs, methods=get),
            Route("/api/runs", self.create_run, methods=post),
            Route("/api/recipes", self.list_recipes),
            Route("/api/runs/plan", self.plan_run, methods=post),
            Route("/api/runs/{id}", self.get_run),
            Route("/api/runs/{id}/metrics", self.run_metrics),
            Route("/api/runs/{id}/cancel", self.cancel_run, methods=post),
            Route("/api/runs/{id}/resume", self.resume_run, methods=post),
            Route("/api/releases", self.list_releases, methods=get),
            Route("/api/releases", self.create_release, methods=post),
            Route("/api/releases/{ref}/lineage", self.lineage),
            Route("/api/deployments", self.deployments),
            Route("/api/deployments/{name}/canary", self.set_canary, methods=post),
            Route("/api/deployments/{name}/promote", self.promote, methods=post),
            Route("/api/deployments/{name}/rollback", self.rollback, methods=post),
            Route("/api/evals", self.list_evals, methods=get),
            Route("/api/evals", self.create_eval, methods=post),
            Route("/api/evals/{id}", self.get_eval),
            Route("/api/leaderboard", self.leaderboard),
            Route("/api/keys", self.people, methods=["GET", "POST"]),
            Route("/api/keys/{id}", self.remove_person, methods=["DELETE"]),
            Route("/api/users", self.people, methods=["GET", "POST"]),
            Route("/api/usage", self.list_usage),
            Route("/api/users/{id}", self.remove_person, methods=["DELETE"]),
            Route("/api/users/{id}/erase", self.erase, methods=post),
            Route("/api/erasures", self.erasures),
            Route("/api/snapshots", self.snapshots),
            Route("/api/raters", self.raters),
            Route("/api/raters/agreement", self.agreement),
            Route("/api/audit", self.list_audit),
        ]

    def app(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.router.routes.extend(self.routes())
        return app


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


def release(
    name: str, number: int, adapter: str | None, age_s: float, run: str | None = None
) -> dict[str, Any]:
    return {
        "id": f"rel-{number:04d}",
        "name": name,
        "deployment": "assistant",
        "number": number,
        "base": "smollm2-135m-instruct",
        "adapter": adapter,
        "system_prompt": None,
        "sampling": {},
        "run": run,
        "lane": None,
        "parity": {"mean_abs": 0.0004, "max_abs": 0.003, "tolerance": 0.01, "ok": True} if adapter else None,
        "created_by": "operator",
        "created_at": now(age_s),
    }


def used(kind: str, name: str, requests: int, total: int, tokens: int | None = None) -> dict[str, Any]:
    """A row of usage; `tokens` is the month's budget."""
    spent = {"requests": requests, "tokens": total, "requests_budget": None}
    return {
        "kind": kind,
        "id": name,
        "name": name,
        "requests": requests,
        "prompt_tokens": total // 3,
        "completion_tokens": total - total // 3,
        "today": {"requests": 2, "tokens": 900, "requests_budget": 500, "tokens_budget": None},
        "month": spent | {"tokens_budget": tokens},
    }


def evaluation(ident: str, name: str, against: str | None) -> dict[str, Any]:
    return {
        "id": ident,
        "release": name,
        "against": against,
        "suite": "default",
        "state": "done",
        "report": {"suite": "default", "release": name, "against": against, "measures": MEASURES},
        "error": None,
        "created_at": now(),
    }
