"""Shadow mode: a canary answers a copy of some of the traffic, which nobody sees but raters.

After a stable answer went out, the same request goes to the deployment's canary (one with weight 0 takes no other
traffic), and both answers become a comparison for the Rank queue. Best effort: at most `max_running` at once, the rest
is left out, and a shadow that fails is logged and counted as the canary's failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from serve.errors import EngineUnavailable, RequestError
from serve.gateway.canary_monitor import CanaryMonitor
from serve.gateway.exchange import Exchange
from serve.gateway.forwarder import Completion
from serve.router import Router, Target, share
from store import carried
from store.accounts import sharing
from store.accounts.owners import owner_of
from store.db import erasure_guard
from store.db.database import Store
from store.errors import Invalid, StoreError
from store.feedback import comparisons, prompt_owners
from store.feedback.comparisons import Candidate
from store.message import is_blank
from store.values import conversation

log = logging.getLogger(__name__)
Ask = Callable[[Target, Mapping[str, Any]], Awaitable[Completion]]
"""Has a target answer a chat request whole, as `Forwarder.ask`."""


class Shadow:
    """Sends copies; `fraction` (0 to 1) of the conversations of a deployment with a canary are copied.

    `sources` are those of the conversations that raters may see; None is every source.
    """

    def __init__(
        self,
        ask: Ask,
        canaries: CanaryMonitor,
        router: Router,
        db: Store,
        fraction: float,
        max_running: int = 2,
        sources: Sequence[str] | None = None,
    ) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction is {fraction}; accepted: 0 to 1")
        self._ask, self._canaries, self._router, self._db = ask, canaries, router, db
        self._fraction, self._max, self._sources = fraction, max_running, sources
        self._running: set[asyncio.Task[None]] = set()
        self.left_out = 0

    def offer(self, target: Target, body: Mapping[str, Any], exchange: Exchange) -> None:
        """Copy a request that the stable release has answered, where its conversation falls in the share."""
        route = self._router.table.routes.get(target.deployment or "")
        if target.lane != "stable" or route is None or route.canary is None:
            return
        if self._sources is not None and exchange.request.source not in self._sources:
            return  # a program's traffic, which raters are not to see
        if exchange.request.begun:
            return  # the canary would go on with an answer of the stable release
        if share(f"shadow {route.canary.release}", exchange.request.conversation_id) >= self._fraction:
            return
        if len(self._running) >= self._max:
            self.left_out += 1
            return
        task = asyncio.create_task(self._copy(target, route.canary, body, exchange))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def aclose(self) -> None:
        """Wait for the copies under way."""
        await asyncio.gather(*self._running)

    async def _copy(
        self, stable: Target, canary: Target, body: Mapping[str, Any], exchange: Exchange
    ) -> None:
        try:
            if await asyncio.to_thread(self._owners, exchange) is None:
                return
            answer = (await self._ask(canary, body)).body
            self._canaries.note(canary, ok=True)
            await asyncio.to_thread(self._record, stable, canary, exchange, answer)
        except (RequestError, EngineUnavailable) as error:
            self._canaries.note(canary, ok=False)
            log.warning("shadow of %s: %s", canary.release, error)
        except StoreError as error:
            log.warning("shadow of %s is not recorded: %s", canary.release, error)

    def _owners(self, exchange: Exchange) -> list[str] | None:
        """Return whose words a request holds; None where they are not shared with raters."""
        request = exchange.request
        try:
            messages = conversation(list(request.messages))
        except Invalid:
            return None  # images are not kept
        owners = prompt_owners.of_turn(
            self._db, owner_of(request.user, request.key_id), request.conversation_id, messages
        )
        return owners if sharing.allow(self._db, owners, "show") else None

    def _record(self, stable: Target, canary: Target, exchange: Exchange, answer: Mapping[str, Any]) -> None:
        own, request = exchange.parse(), exchange.request
        choice = answer["choices"][0]
        shown = [
            Candidate(
                own.text or "",
                stable.release_id,
                stable.lane,
                stable.engine_model,
                own.id,
                finish_reason=own.finish_reason,
                carried=carried.read(own.carried, "answer"),
            ),
            Candidate(
                choice["message"].get("content") or "",
                canary.release_id,
                canary.lane,
                canary.engine_model,
                answer.get("id"),
                finish_reason=choice.get("finish_reason"),
                carried=carried.of_answer(choice["message"]),
            ),
        ]
        if any(is_blank(candidate.message) for candidate in shown) or shown[0].answers_as(shown[1]):
            return  # nothing to compare
        with self._db.atomic():
            if erasure_guard.erased_since(self._db, request.user or request.key_id, request.created_at):
                return
            owners = self._owners(exchange)
            if owners is None:
                return
            comparisons.create(
                self._db,
                list(request.messages),
                shown,
                deployment=stable.deployment,
                source="shadow",
                owners=owners,
            )
