"""Chat: models, streamed answers, likes, conversations."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from common.tool_calls import ToolCalls
from tests.feedback_ui.double.memory import Memory, problem
from tests.feedback_ui.double.rows import now
from tests.feedback_ui.double.tree import Tree


def whole(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that deltas make, as the platform records it."""
    calls = ToolCalls()
    for delta in deltas:
        calls.add(delta.get("tool_calls") or ())
    made = {
        "content": "".join(delta.get("content") or "" for delta in deltas),
        "reasoning_content": "".join(delta.get("reasoning") or "" for delta in deltas),
        "tool_calls": calls.whole(),
    }
    return {key: value for key, value in made.items() if value or key == "content"}


class Chat(Memory):
    """Answers those routes from the memory."""

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
        deltas = (
            [{"content": f"{word} "} for word in reply.split(" ")] if self.deltas is None else self.deltas
        )

        async def stream() -> Any:
            done = False
            try:
                for delta in deltas:
                    await asyncio.sleep(self.delta_s)
                    event = {"id": ident, "choices": [{"delta": delta, "finish_reason": None}]}
                    yield f"data: {json.dumps(event)}\n\n"
                    while self.held:
                        await asyncio.sleep(0.02)
                end = {"id": ident, "choices": [{"delta": {}, "finish_reason": self.finish_reason}]}
                yield f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n"
                done = True
            finally:
                self.cancelled += not done
                record()

        def record() -> None:
            said = {"content": reply} if self.deltas is None else whole(deltas)
            asked = body["messages"]
            if body.get("continue_final_message"):
                asked, said = asked[:-1], {"content": asked[-1]["content"] + reply}
            answer = {
                "role": "assistant",
                **said,
                "completion_id": ident,
                "release": name,
                "lane": lane,
                "thought_s": 4.2 if said.get("reasoning_content") else None,
                "finish_reason": self.finish_reason,
                "liked": None,
            }
            tree = self.trees.setdefault(talk, Tree())
            leaf = tree.add([*asked, answer])
            self.conversations[talk] = {
                "id": talk,
                "title": body["messages"][0]["content"][:60],
                "created_at": now(),
                "updated_at": now(),
                "messages": tree.branch(leaf),
            }

        headers = {"x-trimtab-release": name, "x-trimtab-lane": lane, "x-trimtab-conversation": talk}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)

    async def tokenize(self, request: Request) -> Response:
        words = sum(len((m.get("content") or "").split()) for m in (await request.json())["messages"])
        return JSONResponse({"count": words, "max_model_len": self.max_model_len, "tokens": []})

    async def like(self, request: Request) -> Response:
        ident, liked = request.path_params["id"], (await request.json())["liked"]
        answers = [m for talk in self.conversations.values() for m in talk["messages"]]
        if not any(answer.get("completion_id") == ident for answer in answers):
            return problem(404, "Not Found", f"no completion {ident}")
        self.likes[ident] = liked
        for talk in self.conversations.values():
            for message in talk["messages"]:
                if message.get("completion_id") == ident:
                    message["liked"] = liked
        return JSONResponse({"completion_id": ident, "liked": liked})

    async def list_conversations(self, request: Request) -> Response:
        search = request.query_params.get("search", "").lower()
        deleted = request.query_params.get("deleted") == "true"
        rows = [
            {**row, "messages": []}
            for row in reversed(self.conversations.values())
            if bool(row.get("deleted_at")) == deleted
            and (not search or any(search in (m.get("content") or "").lower() for m in row["messages"]))
        ]
        rows.sort(key=lambda row: not row.get("pinned"))
        limit = int(request.query_params.get("limit", 50))
        return JSONResponse(rows[:limit] if self.records else [])

    async def one_conversation(self, request: Request) -> Response:
        id = request.path_params["id"]
        found = self.conversations.get(id)
        if not found or found.get("deleted_at"):
            return problem(404, "Not Found", f"no conversation {id}")
        if request.method == "PATCH":
            change = await request.json()
            if "title" in change:
                change["named"] = change["title"] is not None
                change["title"] = change["title"] or found["messages"][0]["content"]
            found.update(change)
        if request.method == "DELETE":
            found.update(deleted_at=now(), erased_at=now(-600))
        if key := request.query_params.get("message"):
            return JSONResponse({**found, "messages": self.trees[id].through(key)})
        return JSONResponse(found)

    async def restore(self, request: Request) -> Response:
        found = self.conversations[request.path_params["id"]]
        found["deleted_at"] = None
        return JSONResponse(found)

    async def link(self, request: Request) -> Response:
        id = request.path_params["id"]
        if request.method == "DELETE":
            self.links = {token: of for token, of in self.links.items() if of != id}
            return Response(status_code=204)
        token = f"token-of-{id}"
        self.links[token] = id
        return JSONResponse({"token": token, "conversation": id, "path": f"/?shared={token}"})

    async def read_link(self, request: Request) -> Response:
        found = self.conversations.get(self.links.get(request.path_params["token"], ""))
        if not found:
            return problem(404, "Not Found", "no link of that token")
        return JSONResponse({"title": found["title"], "messages": found["messages"]})

    async def own_share(self, request: Request) -> Response:
        if request.method == "PUT":
            self.share = (await request.json())["share"]
        shared = {"share": self.share or "train", "chosen": self.share is not None}
        return JSONResponse(shared | {"default": "train", "name": None})

    def chat_routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/api/messages/{id}/like", self.like, methods=["POST"]),
            Route("/api/me/share", self.own_share, methods=["GET", "PUT"]),
            Route("/api/conversations", self.list_conversations),
            Route("/api/conversations/{id}", self.one_conversation, methods=["GET", "PATCH", "DELETE"]),
            Route("/api/conversations/{id}/restore", self.restore, methods=["POST"]),
            Route("/api/conversations/{id}/link", self.link, methods=["PUT", "DELETE"]),
            Route("/api/shared/{token}", self.read_link),
        ]
