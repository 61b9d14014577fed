"""Erase the conversations that their owners deleted, once the time to undo that has passed."""

from __future__ import annotations

import asyncio
import logging

from store.conversations import conversation_list
from store.errors import NotFound, StoreError
from store.privacy import erasure
from trimtab.background import call_store
from trimtab.erasure import delete_erased_files, suggested_prompts
from trimtab.platform import Platform

log = logging.getLogger(__name__)
CHECK_S = 20.0
"""How often it is looked whether something is due."""


async def watch(platform: Platform) -> None:
    """Erase what is due, for as long as the platform runs."""
    while True:
        try:
            await erase_due(platform)
        except StoreError:
            log.exception("deleted conversations cannot be erased; retrying in %.0f s", CHECK_S)
        await asyncio.sleep(CHECK_S)


async def erase_due(platform: Platform) -> list[str]:
    """Erase the conversations whose time to undo has passed; return their ids.

    Runs under way keep the rows that they took: the releases that they make are flagged as having learned from them.
    """
    undo_s = platform.settings.privacy.undo_minutes * 60
    ids = await call_store(platform.db, conversation_list.due, undo_s)
    if not ids:
        return []
    try:
        await platform.long_work.run(erasure.erase_conversations, ids, suggested_prompts())
    except NotFound:  # erased meanwhile, with the person
        return []
    await platform.serving.refresh()  # a release's examples may have been among them
    await platform.long_work.run(delete_erased_files, platform.paths)
    return ids
