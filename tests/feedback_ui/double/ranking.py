"""Rank: prompts, comparisons, votes."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feedback_ui.double.memory import Memory, problem
from tests.feedback_ui.double.rows import now


def blind(row: dict[str, Any]) -> dict[str, Any]:
    """What a rater gets of a comparison."""
    shown = ("id", "messages", "a", "b", "c", "d", "a_message", "b_message", "branches", "show")
    written = ("reasons", "skip_reasons", "guidelines")
    return {key: row[key] for key in (*shown, *written) if key in row}


class Ranking(Memory):
    """Answers those routes from the memory."""

    async def draw(self, request: Request) -> Response:
        return JSONResponse({"messages": [{"role": "user", "content": "How do tides work?"}]})

    async def compare(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("POST", "/api/comparisons", body, dict(request.headers)))
        await asyncio.sleep(self.delta_s * 8)
        made = self.add_comparison(body["messages"])
        return JSONResponse(blind(made), 201)

    async def offer(self, request: Request) -> Response:
        body = await request.json()
        if not self.pairs_offered:
            return Response(status_code=204)
        made = self.add_comparison(body["messages"])
        offered = {key: value for key, value in blind(made).items() if key != "messages"}
        return JSONResponse(offered | {"conversation": body["conversation"] or self.new("conv")}, 201)

    def add_comparison(
        self, messages: list[dict[str, Any]], a: str = "", b: str = "", **whole: Any
    ) -> dict[str, Any]:
        """Add a comparison; `whole` are further fields: `a_message`, `c`, `branches`, …"""
        made = {
            "id": self.new("cmp"),
            "messages": messages,
            "a": a or "The Moon pulls on the sea, and the sea **rises** towards it.",
            "b": b
            or "Tides come from gravity:\n\n1. the Moon pulls the water,\n2. the Earth turns below the bulge,"
            "\n3. so most coasts see two high waters a day.",
            **whole,
            "show": self.rank_show,
            "reasons": ["accurate", "clear"],
            "skip_reasons": ["too long", "not my language"],
            "guidelines": self.guidelines,
            "state": "open",
            "created_at": now(),
        }
        self.comparisons[made["id"]] = made
        return made

    async def next(self, request: Request) -> Response:
        for row in self.comparisons.values():
            skipped = row["id"] in request.query_params.getlist("skip")
            if row["state"] == "open" and row.get("queued", True) and not skipped:
                return JSONResponse(blind(row))
        return Response(status_code=204)

    async def vote(self, request: Request) -> Response:
        body = await request.json()
        found = self.comparisons.get(request.path_params["id"])
        if not found:
            return problem(404, "Not Found", "no such comparison")
        if found["state"] == "decided":
            return problem(409, "Conflict", f"comparison {found['id']} is decided already")
        found["state"] = "decided"
        asked = found["messages"][-1]["content"]
        self.votes.append({"comparison": found["id"], "asked": asked, "created_at": now(), **body})
        made = [self.new("pair")] if body.get("choice") in ("a", "b") else []
        for ident in made:
            won, lost = (found["a"], found["b"]) if body["choice"] == "a" else (found["b"], found["a"])
            row = {"id": ident, "prompt": found["messages"], "chosen": won, "rejected": lost, "weight": 1.0}
            self.pairs.insert(0, row | {"source": "vote", "deployment": "assistant", "created_at": now()})
        return JSONResponse(
            {
                "id": self.new("vote"),
                "comparison": found["id"],
                "choice": body.get("choice"),
                "revealed": {side: "assistant@1" for side in "abcd" if side in found},
                "pairs": made,
                "demonstration": self.new("demo") if body.get("better") else None,
            }
        )

    async def undo(self, request: Request) -> Response:
        id = request.path_params["id"]
        cast = next((vote for vote in self.votes if vote["comparison"] == id), None)
        if cast is None:
            return problem(404, "Not Found", "no such vote")
        self.votes.remove(cast)
        self.comparisons[id]["state"] = "open"
        return JSONResponse({"id": self.new("vote"), "comparison": id, "choice": cast["choice"]})

    async def comparison(self, request: Request) -> Response:
        return JSONResponse(blind(self.comparisons[request.path_params["id"]]))

    async def skip(self, request: Request) -> Response:
        found = self.comparisons[request.path_params["id"]]
        found["queued"] = False
        self.skips.append({"comparison": found["id"], **await request.json()})
        return Response(status_code=204)

    async def cast(self, request: Request) -> Response:
        return JSONResponse(self.votes[::-1])

    async def progress(self, request: Request) -> Response:
        known = {"votes": 40, "skipped": 0, "undone": 0, "agreement": None, "compared": 0}
        return JSONResponse({**known, "today": 11, "streak": 3, "gold_right": 9, "gold_total": 10})

    def ranking_routes(self) -> list[Route]:
        return [
            Route("/api/prompts/draw", self.draw),
            Route("/api/comparisons", self.compare, methods=["POST"]),
            Route("/api/comparisons/next", self.next),
            Route("/api/comparisons/offer", self.offer, methods=["POST"]),
            Route("/api/comparisons/{id}", self.comparison),
            Route("/api/comparisons/{id}/vote", self.vote, methods=["POST"]),
            Route("/api/comparisons/{id}/vote", self.undo, methods=["DELETE"]),
            Route("/api/comparisons/{id}/skip", self.skip, methods=["POST"]),
            Route("/api/votes", self.cast),
            Route("/api/votes/summary", self.progress),
        ]
