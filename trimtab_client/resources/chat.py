"""Chat completions, feedback on them, and recorded conversations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from trimtab_client.chat_stream import ChatDelta, deltas
from trimtab_client.resources.base import Resource
from trimtab_client.transport import given, path
from trimtab_client.types import Shared
from trimtab_client.values import Json, Rows, Share

COMPLETIONS = "/v1/chat/completions"

Messages = Sequence[Mapping[str, Any]]


class Chat(Resource):
    """Chat with a deployment, a release or a base model."""

    async def complete(
        self,
        /,
        model: str,
        messages: Messages,
        *,
        conversation: str | None = None,
        source: str | None = None,
        **sampling: Any,
    ) -> Json:
        """POST /v1/chat/completions, answered whole; `sampling` is any other field of the body."""
        body = {"model": model, "messages": list(messages), **sampling}
        return await self._http.request("POST", COMPLETIONS, body, headers=_headers(conversation, source))

    async def stream(
        self,
        /,
        model: str,
        messages: Messages,
        *,
        conversation: str | None = None,
        source: str | None = None,
        **sampling: Any,
    ) -> AsyncGenerator[ChatDelta, None]:
        """Stream an answer as `ChatDelta`s; closing the iterator cancels the generation in the engine.

        `source` names where the conversation comes from (`chat`, `cli`, or a name of your own). Raises `ApiError`
        before the first delta for a refused request, and within the stream for an error of the engine or connection.
        """
        body = {"model": model, "messages": list(messages), "stream": True, **sampling}
        headers = _headers(conversation, source)
        async with self._http.stream("POST", COMPLETIONS, body, headers=headers) as response:
            async for delta in deltas(response):
                yield delta

    async def count_tokens(self, model: str, messages: Messages) -> Json:
        """POST /tokenize: `count` and `max_model_len` of a conversation as a model would read it."""
        return await self._http.post("/tokenize", {"model": model, "messages": list(messages)})

    async def like(self, completion_id: str, liked: bool | None) -> Json:
        """Like (True) or dislike (False) an answer, or take either back (None)."""
        return await self._http.post(path("api", "messages", completion_id, "like"), {"liked": liked})

    async def rate(
        self, completion_id: str, key: str, value: bool | float | None, text: str | None = None
    ) -> Json:
        """POST /api/feedback: a number under a key (`thumb` takes a bool) for an answer, None takes it back.

        `text` is a comment as well.
        """
        body = {"completion_id": completion_id, "key": key, "value": value}
        return await self._http.post("/api/feedback", body | given(text=text))

    async def comment(self, completion_id: str, text: str) -> Json:
        """POST /api/feedback: a comment on an answer; an empty one takes it back."""
        return await self._http.post("/api/feedback", {"completion_id": completion_id, "text": text})

    async def prefer(self, preferred: str, other: str, text: str | None = None) -> Json:
        """POST /api/feedback: of two answers to one question the first is better; `text` says why."""
        return await self._http.post("/api/feedback", given(preferred=preferred, other=other, text=text))

    async def feedback(
        self, completion_id: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Rows:
        """GET /api/feedback: numbers and comments, those that changed last first."""
        query = given(completion_id=completion_id, key=key, limit=limit)
        return list(await self._http.get("/api/feedback", **query) or ())

    async def conversations(
        self,
        limit: int | None = None,
        source: Sequence[str] | None = None,
        search: str | None = None,
        *,
        mine: bool | None = None,
        deleted: bool | None = None,
    ) -> Rows:
        """GET /api/conversations: the caller's recent conversations, of some sources or of all; those pinned come first.

        `search` picks those with a text in their name or one of their messages. `mine` leaves out those of others for an
        operator too, `deleted` lists those that can still be restored.
        """
        query = given(limit=limit, source=source, search=search, mine=mine, deleted=deleted)
        return list(await self._http.get("/api/conversations", **query) or ())

    async def conversation(self, ident: str, message: str | None = None) -> Json:
        """GET /api/conversations/{id}: one conversation with its messages, of the branch with `message` or the last."""
        return await self._http.get(path("api", "conversations", ident), **given(message=message))

    async def change_conversation(self, /, ident: str, **fields: Any) -> Json:
        """PATCH /api/conversations/{id}: `title`, `folder` (None takes either away) and `pinned`."""
        return await self._http.patch(path("api", "conversations", ident), fields)

    async def delete_conversation(self, ident: str) -> Json:
        """DELETE /api/conversations/{id}: out of sight at once; erased at `erased_at` unless it is restored."""
        return await self._http.delete(path("api", "conversations", ident))

    async def restore_conversation(self, ident: str) -> Json:
        """POST /api/conversations/{id}/restore: take a deletion back."""
        return await self._http.post(path("api", "conversations", ident, "restore"))

    async def share_link(self, ident: str) -> Json:
        """PUT /api/conversations/{id}/link: a read-only link to the conversation as it is now."""
        return await self._http.put(path("api", "conversations", ident, "link"), {})

    async def link(self, ident: str) -> Json:
        """GET /api/conversations/{id}/link: the link, None without one."""
        return await self._http.get(path("api", "conversations", ident, "link"))

    async def revoke_link(self, ident: str) -> None:
        """DELETE /api/conversations/{id}/link: it leads nowhere from now on."""
        await self._http.delete(path("api", "conversations", ident, "link"))

    async def shared_conversation(self, token: str) -> Json:
        """GET /api/shared/{token}: the conversation of a link, `title` and `messages`."""
        return await self._http.get(path("api", "shared", token))

    async def answers(self, ident: str) -> Rows:
        """GET /api/conversations/{id}/answers: every answer, regenerated ones too, with its question."""
        return list(await self._http.get(path("api", "conversations", ident, "answers")) or ())

    async def shared(self) -> Shared:
        """GET /api/me/share: what may be done with the caller's conversations."""
        found: Shared = await self._http.get("/api/me/share")
        return found

    async def set_share(self, share: Share | None) -> Shared:
        """PUT /api/me/share: `none`, `show` or `train`; None goes back to the platform's setting."""
        found: Shared = await self._http.put("/api/me/share", {"share": share})
        return found


def _headers(conversation: str | None, source: str | None) -> dict[str, str]:
    return given(**{"X-Trimtab-Conversation": conversation, "X-Trimtab-Source": source})
