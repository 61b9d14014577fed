"""
title: Trimtab feedback
description: Sends thumbs, scores, comments and choices between answers to the Trimtab that gave the answers.
version: 1.0.0
required_open_webui_version: 0.12.0
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

log = logging.getLogger(__name__)

_REASONING = re.compile(r"<details\b[^>]*>.*?</details>|<think>.*?</think>", re.DOTALL)


class Event:
    """An event function of Open WebUI: it runs after somebody rated an answer, or changed a rating."""

    class Valves(BaseModel):
        """What an administrator sets."""

        url: str = Field("http://127.0.0.1:7860", description="address of Trimtab, without /v1")
        key: str = Field("", description="a key of Trimtab with the role ops; empty in single-user mode")
        name_people: bool = Field(True, description="send ratings under the e-mail address of who gave them")
        timeout_s: float = Field(10.0, description="max seconds per request")

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def event(self, event: Mapping[str, Any]) -> None:
        """Send the rating that an event is about; other events and answers of other servers are left alone."""
        if event.get("event") not in ("feedback.created", "feedback.updated"):
            return
        from open_webui.models.feedbacks import Feedbacks
        from open_webui.models.users import Users

        feedback = await Feedbacks.get_feedback_by_id((event.get("subject") or {}).get("id"))
        if feedback is None or feedback.type != "rating":
            return
        user = await Users.get_user_by_id(feedback.user_id) if self.valves.name_people else None
        await asyncio.to_thread(self._send, feedback, getattr(user, "email", None))

    def _send(self, feedback: Any, person: str | None) -> None:
        data, meta = feedback.data or {}, feedback.meta or {}
        chat = (feedback.snapshot or {}).get("chat") or {}
        messages = ((chat.get("chat") or chat).get("history") or {}).get("messages") or {}
        rated = messages.get(meta.get("message_id"))
        if rated is None:
            return
        recorded = self._recorded(str(meta.get("chat_id")))
        question = _text(messages.get(rated.get("parentId")) or {})
        rated_id = recorded.get((question, _text(rated)))
        if rated_id is None:
            return  # another server's answer, or one that was not to be stored
        for body in _ratings(rated_id, data):
            self._ask("/api/feedback", body, person)
        liked = {"1": True, "-1": False}.get(str(data.get("rating")))
        for other in _others(messages, rated, liked):
            other_id = recorded.get((question, _text(other)))
            if other_id is not None and other_id != rated_id:
                preferred, worse = (rated_id, other_id) if liked else (other_id, rated_id)
                self._ask("/api/feedback", {"preferred": preferred, "other": worse}, person)

    def _recorded(self, chat: str) -> dict[tuple[str, str], str]:
        """Return the ids of the answers that Trimtab recorded of a chat, by question and text."""
        try:
            answers = self._ask(f"/api/conversations/{urllib.parse.quote(chat, safe='')}/answers")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {}
        return {(row["question"].strip(), row["answer"].strip()): row["completion_id"] for row in answers}

    def _ask(self, path: str, body: Any = None, person: str | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.valves.key:
            headers["Authorization"] = f"Bearer {self.valves.key}"
        if person:
            headers["X-Trimtab-User"] = urllib.parse.quote(person)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.valves.url.rstrip("/") + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.valves.timeout_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                log.warning(
                    "Trimtab answers %s: %s %s", path, error.code, error.read(1000).decode("utf-8", "replace")
                )
            raise


def _ratings(completion: str, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the thumb, the score (1 to 10) and the comment of a rating, as Trimtab takes them."""
    thumb = {"1": 1, "-1": -1}.get(str(data.get("rating")))
    found: list[dict[str, Any]] = [{"completion_id": completion, "key": "thumb", "value": thumb}]
    score = (data.get("details") or {}).get("rating")
    if isinstance(score, int | float):
        found.append({"completion_id": completion, "key": "score", "value": score})
    words = [str(data[name]).strip() for name in ("reason", "comment") if str(data.get(name) or "").strip()]
    if words:
        found.append({"completion_id": completion, "text": ": ".join(words)})
    return found


def _others(
    messages: Mapping[str, Any], rated: Mapping[str, Any], liked: bool | None
) -> list[Mapping[str, Any]]:
    """Return the siblings of a rated answer that were not rated alike and did not fail."""
    if liked is None:
        return []
    alike = "1" if liked else "-1"
    return [
        other
        for other in messages.values()
        if other.get("parentId") == rated.get("parentId")
        and other.get("role") == "assistant"
        and other.get("id") != rated.get("id")
        and not other.get("error")
        and str((other.get("annotation") or {}).get("rating")) != alike
        and _text(other) not in ("", _text(rated))
    ]


def _text(message: Mapping[str, Any]) -> str:
    """Return the text of a message without reasoning, which Open WebUI keeps within it."""
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(part.get("text", "") for part in content if isinstance(part, Mapping))
    return _REASONING.sub("", str(content or "")).strip()
