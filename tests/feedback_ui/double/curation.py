"""Ops, Curate: rows, reviews, saved views, the data report."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feedback_ui.double.memory import Memory
from tests.feedback_ui.double.rows import now


class Curation(Memory):
    """Answers those routes from the memory."""

    def _found(self, asked: Any) -> list[dict[str, Any]]:
        rows = [
            {
                "id": row["id"],
                "noun": "pairs",
                "prompt": row["prompt"],
                "responses": {
                    part: [{"role": "assistant", "content": row[part]}] for part in ("chosen", "rejected")
                },
                "source": row["source"],
                "tags": row.get("tags", []),
                "people": [row["rater"]] if "rater" in row else [],
                "review": self.reviews.get(row["id"]),
                "created_at": row["created_at"],
                "weight": row.get("weight"),
                "liked": None,
            }
            for row in self.pairs
        ]
        text, state = asked.get("text", "").lower(), asked.get("state")
        return [
            row
            for row in rows
            if text in str(row["responses"]).lower()
            and state in (None, (row["review"] or {"state": "unreviewed"})["state"])
        ]

    async def search_rows(self, request: Request) -> Response:
        self.requests.append(("GET", request.url.path, dict(request.query_params), {}))
        rows = self._found(request.query_params) if request.path_params["noun"] == "pairs" else []
        return JSONResponse({"rows": rows, "next": None, "total": len(rows)})

    async def row(self, request: Request) -> Response:
        row = next(row for row in self._found({}) if row["id"] == request.path_params["row"])
        person = row["people"][0] if row["people"] else None
        vote = {"kind": "vote", "person": person, "choice": "a", "release": "assistant@1", "at": now(900)}
        review = row["review"]
        history = (
            [{"actor": person, "action": "pair.exclude", "reason": review["reason"], "at": now()}]
            if review
            else []
        )
        more = {
            "evidence": [vote],
            "imported": None,
            "snapshots": [],
            "releases": ["assistant@2"],
            "history": history,
        }
        return JSONResponse(row | more)

    async def review_rows(self, request: Request) -> Response:
        body = await request.json()
        ids = [row["id"] for row in self._found(body["filters"])] if "filters" in body else body["ids"]
        for ident in ids:
            self.reviews.pop(ident, None)
            if body["state"]:
                self.reviews[ident] = {"state": body["state"], "reason": body["reason"]}
        return JSONResponse({"changed": len(ids), "state": body["state"]})

    async def row_report(self, request: Request) -> Response:
        return JSONResponse(
            {
                "noun": "pairs", "rows": 3, "edges": [0, 50, 100], "snapshot": "s-71c0f2aa91b3d4e5",
                "lengths": {"prompt": [1, 1, 1], "chosen": [0, 2, 1], "rejected": [3, 0, 0]}, "chosen_longer": 0.8,
                "sources": [{"name": row["source"], "rows": 2} for row in self.pairs[:1]],
                "people": [{"name": row.get("rater", "ada"), "rows": 2} for row in self.pairs[:1]],
                "states": [{"name": "unreviewed", "rows": 3}], "agreement": [0, 0, 0, 1, 0, 0, 0, 0, 0, 2],
                "left_out": [{"name": "exact duplicate", "rows": 4}],
            }
        )  # fmt: skip

    async def list_views(self, request: Request) -> Response:
        return JSONResponse(list(self.views.values()))

    async def change_view(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "DELETE":
            del self.views[name]
            return Response(status_code=204)
        self.views[name] = {"name": name, **await request.json()}
        return JSONResponse(self.views[name])

    def curation_routes(self) -> list[Route]:
        return [
            Route("/api/rows/{noun}", self.search_rows),
            Route("/api/rows/{noun}/report", self.row_report),
            Route("/api/rows/{noun}/review", self.review_rows, methods=["POST"]),
            Route("/api/rows/{noun}/{row}", self.row),
            Route("/api/views", self.list_views),
            Route("/api/views/{name}", self.change_view, methods=["PUT", "DELETE"]),
        ]
