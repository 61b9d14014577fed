"""Ops, Data: pairs, demonstrations, snapshots, raters."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feedback_ui.double.memory import Memory
from tests.feedback_ui.double.rows import now


class Data(Memory):
    """Answers those routes from the memory."""

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
            Route("/api/pairs", self.import_rows, methods=["POST"]),
            Route("/api/pairs/stats", self.stats),
            Route("/api/demonstrations", self.list_demonstrations, methods=["GET"]),
            Route("/api/demonstrations", self.import_rows, methods=["POST"]),
            Route("/api/demonstrations/stats", self.stats),
            Route("/api/snapshots", self.snapshots),
            Route("/api/raters", self.raters),
            Route("/api/raters/agreement", self.agreement),
        ]
