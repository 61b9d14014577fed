"""The handlers of Chat that change the list of conversations: names, pins, folders, deletion, links."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat import actions
from feedback_ui.chat.live import LiveAnswers
from feedback_ui.chat.screen import ChatScreen
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk
from feedback_ui.errors import toasts
from feedback_ui.part import Update
from trimtab_client import AsyncClient

_Act = Callable[[AsyncClient, str, str], Awaitable[Any]]


class Filing:
    """Handlers of what the menus of the list do."""

    def __init__(self, screen: ChatScreen, connection: Connection, answers: LiveAnswers) -> None:
        self.screen, self.connection, self.answers = screen, connection, answers

    async def on_act(self, search: str, value: Talk, event: gr.EventData, request: gr.Request) -> Update:
        """Do what was chosen for a conversation, and list them anew."""
        id, act, text = str(event.id), str(event.act), str(event.text).strip()
        act, _, limit = act.partition(":")
        deleted = act == "delete"
        shown: Update = {}
        with toasts():
            async with self.connection.client(request) as client:
                if act == "share":
                    shown[self.screen.dialog] = _dialog(id, await client.chat.share_link(id))
                elif act in _ACTS:
                    if deleted:
                        await self.answers.stop(client, id)
                    await _ACTS[act](client, id, text)
                gone = deleted and value.conversation == id
                html = await actions.listed(
                    client,
                    None if gone else value.conversation,
                    search=search,
                    limit=int(limit or actions.LISTED),
                    undo=id if deleted else "",
                )
        if gone:
            shown |= {**self.screen.shown(Talk()), **self.screen.without_offer()}
        if act == "unshare":
            gr.Info(texts.CHAT_UNSHARED)
        return {**shown, self.screen.past: html}


async def _rename(client: AsyncClient, id: str, text: str) -> Any:
    return await client.chat.change_conversation(id, title=text or None)


async def _file(client: AsyncClient, id: str, text: str) -> Any:
    return await client.chat.change_conversation(id, folder=text or None)


def _pin(pinned: bool) -> _Act:
    async def pin(client: AsyncClient, id: str, _: str) -> Any:
        return await client.chat.change_conversation(id, pinned=pinned)

    return pin


async def _unshare(client: AsyncClient, id: str, _: str) -> Any:
    return await client.chat.revoke_link(id)


async def _delete(client: AsyncClient, id: str, _: str) -> Any:
    return await client.chat.delete_conversation(id)


async def _restore(client: AsyncClient, id: str, _: str) -> Any:
    return await client.chat.restore_conversation(id)


_ACTS: dict[str, _Act] = {
    "rename": _rename,
    "folder": _file,
    "pin": _pin(True),
    "unpin": _pin(False),
    "unshare": _unshare,
    "delete": _delete,
    "restore": _restore,
}


def _dialog(id: str, link: dict[str, Any]) -> str:
    """Return what the page shows of a link; the time makes the same link again another value."""
    return json.dumps(
        {
            "id": id,
            "path": link["path"],
            "at": time.time(),
            "title": texts.CHAT_LINK_TITLE,
            "hint": texts.CHAT_LINK_HINT,
            "copy": texts.CHAT_LINK_COPY,
            "copied": texts.CHAT_LINK_COPIED,
            "revoke": texts.CHAT_LINK_REVOKE,
            "close": texts.SHORTCUTS_CLOSE,
        }
    )
