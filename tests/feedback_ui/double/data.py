"""Ops, Data: pairs, demonstrations, snapshots, raters."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.feedback_ui.double.memory import Memory
from tests.feedback_ui.double.rows import now


class Data(Memory):
    """Answers those routes from the memory."""

    async def list_pairs(self, request: Request) -> Response:
        return JSONResponse(self.pairs[: int(request.query_params.get("limit", 100))])

    async def list_demonstrations(self, request: Request) -> Response:
        return JSONResponse(self.demonstrations)

    async def import_file(self, request: Request) -> Response:
        noun, query = request.path_params["noun"], request.query_params
        rows = [json.loads(line) for line in (await request.body()).split(b"\n") if line]
        needed = {"pairs": "chosen", "demonstrations": "completion", "likes": "label"}[noun]
        target = {"pairs": self.pairs, "demonstrations": self.demonstrations, "likes": []}[noun]
        dry_run = query["dry_run"] == "true"
        self.requests.append(("POST", request.url.path, dict(query), dict(request.headers)))
        refused = []
        for number, row in enumerate(rows, 1):
            if needed not in row:
                refused.append({"row": number, "why": f"{needed}: missing", "data": row})
            elif not dry_run:
                prompt = [{"role": "user", "content": row["prompt"]}]
                target.insert(
                    0,
                    {**row, "id": self.new("row"), "prompt": prompt, "source": "import", "created_at": now()},
                )
        counts = {"accepted": len(rows) - len(refused), "duplicates": 0}
        progress = {
            "bytes_done": 50,
            "bytes_total": 200,
            "rows": len(rows),
            **counts,
            "rejected": len(refused),
        }
        result = {
            **counts, "rejected": refused, "rejected_count": len(refused), "format": "trl", "container": "jsonl",
            "compression": None, "broke_off": self.import_breaks_off, "dry_run": dry_run, "rejects": None,
        }  # fmt: skip

        async def lines() -> Any:
            done = False
            try:
                yield _line("progress", {} if self.import_faulty else progress | {"waiting": False})
                while self.import_held:
                    yield _line("progress", progress | {"waiting": False})
                    await asyncio.sleep(0.02)
                for row in refused:
                    yield _line("refused", row)
                yield _line("result", result)
                done = True
            finally:
                self.cancelled += not done

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def add_gold(self, request: Request) -> Response:
        body = await request.json()
        self.gold.append(body)
        return JSONResponse({"id": self.new("cmp"), "messages": body["messages"]}, 201)

    async def make_pairs(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("POST", request.url.path, body, dict(request.headers)))
        job = {
            "id": self.new("job"), "kind": "pairs.make", "state": "queued", "params": body, "progress": None, "result": None,
            "error": None, "requested_by": "ada", "created_at": now(), "updated_at": now(),
        }  # fmt: skip
        self.jobs.insert(0, job)
        return JSONResponse(job, 202)

    async def list_jobs(self, request: Request) -> Response:
        return JSONResponse(self.jobs)

    async def job(self, request: Request) -> Response:
        """Each look at a job finds it a step further."""
        job = next(job for job in self.jobs if job["id"] == request.path_params["job"])
        if job["state"] == "queued":
            at = {"done": 1, "total": 3, "doing": "sampling answers", "seconds_left": 4.0}
            job |= {"state": "running", "progress": at}
        elif job["state"] == "running":
            result = {"pairs": 5, "prompts": 9, "heldout": 4, "undecided": 4}
            job |= {"state": "done", "progress": None, "result": result}
        return JSONResponse(job)

    async def stats(self, request: Request) -> Response:
        return JSONResponse({"total": len(self.pairs), "by_source": {"vote": len(self.pairs)}})

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

    def data_routes(self) -> list[Route]:
        return [
            Route("/api/pairs", self.list_pairs, methods=["GET"]),
            Route("/api/imports/{noun}", self.import_file, methods=["POST"]),
            Route("/api/comparisons/gold", self.add_gold, methods=["POST"]),
            Route("/api/pairs/make", self.make_pairs, methods=["POST"]),
            Route("/api/jobs", self.list_jobs),
            Route("/api/jobs/{job}", self.job),
            Route("/api/pairs/stats", self.stats),
            Route("/api/demonstrations", self.list_demonstrations, methods=["GET"]),
            Route("/api/demonstrations/stats", self.stats),
            Route("/api/snapshots", self.snapshots),
            Route("/api/raters", self.raters),
            Route("/api/raters/agreement", self.agreement),
        ]


def _line(kind: str, value: dict[str, Any]) -> str:
    return json.dumps({kind: value}) + "\n"
