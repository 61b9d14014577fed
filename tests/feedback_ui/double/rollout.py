"""Ops, Releases: releases, deployments, evaluations, the leaderboard."""

from __future__ import annotations

from itertools import pairwise

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feedback_ui.double.memory import Memory, problem
from tests.feedback_ui.double.rows import evaluation, now, release


class Rollout(Memory):
    """Answers those routes from the memory."""

    async def list_releases(self, request: Request) -> Response:
        lanes = {self.deployment["stable"]: "stable", self.deployment["canary"]: "canary"}
        return JSONResponse([{**row, "lane": lanes.get(row["name"])} for row in self.releases])

    async def create_release(self, request: Request) -> Response:
        body = await request.json()
        self.made.append(body)
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

    async def tree(self, request: Request) -> Response:
        made = {None: "base"}
        rows = [
            {"release": row["name"], "made_by": made.get(row["adapter"], "training"), "parents": []}
            for row in reversed(self.releases)
        ]
        for before, row in pairwise(rows):
            row["parents"] = [before["release"]]
        return JSONResponse(rows)

    async def diff(self, request: Request) -> Response:
        names = (request.path_params["ref"], request.path_params["against"])
        after, before = (next(row for row in self.releases if row["name"] == name) for name in names)
        fields = [
            {"name": name, "before": before[name], "after": after[name]}
            for name in ("base", "adapter")
            if before[name] != after[name]
        ]
        prompt = [f"-{before['system_prompt']}", f"+{after['system_prompt']}"]
        return JSONResponse({"release": names[0], "against": names[1], "fields": fields, "prompt": prompt})

    async def evidence(self, request: Request) -> Response:
        point = {"votes": 1, "blocks": 1, "evidence_for": 1.0, "evidence_against": 1.0}
        shares = ((0.5, 0.0, 1.0), (0.6, 0.3, 0.9), (0.63, 0.46, 0.78))
        return JSONResponse(
            [
                {**point, "at": now(3000 - 1000 * at), "win_rate": rate, "low": low, "high": high}
                for at, (rate, low, high) in enumerate(shares)
            ]
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
        reason = {"reason": body["reason"]} if body.get("reason") else {}
        if not chosen:
            return problem(
                409, "Conflict", "assistant has no canary to promote; name a release", field="release"
            )
        previous = self.deployment["stable"]
        self.deployment |= {"stable": chosen, "canary": None, "weight": 0.0, "previous": previous}
        self.note("deployment.promote", "assistant", release=chosen, **reason)
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

    async def list_jobs(self, request: Request) -> Response:
        return JSONResponse(self.jobs)

    async def create_job(self, request: Request) -> Response:
        kind = request.url.path.removeprefix("/api/").replace("/", ".")
        made = {
            "id": self.new("job"), "kind": kind, "state": "queued", "params": await request.json(), "progress": None,
            "result": None, "error": None, "requested_by": "operator", "created_at": now(), "updated_at": now(),
        }  # fmt: skip
        self.jobs.insert(0, made)
        return JSONResponse(made, 202)

    async def cancel_job(self, request: Request) -> Response:
        job = next(row for row in self.jobs if row["id"] == request.path_params["id"])
        job["state"] = "cancelled"
        return JSONResponse(job)

    def rollout_routes(self) -> list[Route]:
        return [
            Route("/api/releases", self.list_releases, methods=["GET"]),
            Route("/api/releases", self.create_release, methods=["POST"]),
            Route("/api/releases/tree", self.tree),
            Route("/api/releases/{ref}/lineage", self.lineage),
            Route("/api/releases/{ref}/diff/{against}", self.diff),
            Route("/api/deployments/{name}/evidence", self.evidence),
            Route("/api/jobs", self.list_jobs),
            Route("/api/jobs/{id}/cancel", self.cancel_job, methods=["POST"]),
            Route("/api/prompts/search", self.create_job, methods=["POST"]),
            Route("/api/releases/compare", self.create_job, methods=["POST"]),
            Route("/api/deployments", self.deployments),
            Route("/api/deployments/{name}/canary", self.set_canary, methods=["POST"]),
            Route("/api/deployments/{name}/promote", self.promote, methods=["POST"]),
            Route("/api/deployments/{name}/rollback", self.rollback, methods=["POST"]),
            Route("/api/evals", self.list_evals, methods=["GET"]),
            Route("/api/evals", self.create_eval, methods=["POST"]),
            Route("/api/evals/{id}", self.get_eval),
            Route("/api/leaderboard", self.leaderboard),
        ]
