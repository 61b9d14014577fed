"""Admission: who asks, whether the request is sound, which release answers, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import cookie_parser
from starlette.types import Receive, Scope

from serve.auth import FORWARDED, Authenticator, Principal, require
from serve.errors import Forbidden, RequestError
from serve.gateway import client_headers, requests, responses
from serve.gateway.exchange import Recording
from serve.gateway.protocols.protocol import Protocol
from serve.gateway.recorder import Recorder
from serve.metering.limits import USER, Holder, Limits
from serve.router import Router, Target, sticky_key
from store.ids import new_id


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that was checked and routed.

    `protocol` reads `body`, which is what the client sent. `started` is its arrival by `time.perf_counter`, and `recording`
    what is kept of it, None where it is not recorded.
    """

    protocol: Protocol
    body: dict[str, Any]
    target: Target
    holders: Sequence[Holder]
    conversation: str
    started: float
    recording: Recording | None


class Admission:
    """Admits requests; waits for the store only where a key is not cached or the recorder's queue is full."""

    def __init__(
        self, authenticator: Authenticator, router: Router, recorder: Recorder, limits: Limits
    ) -> None:
        self._auth, self._router, self._recorder, self._limits = authenticator, router, recorder, limits

    async def admit(self, protocol: Protocol, scope: Scope, receive: Receive, started: float) -> Admitted:
        """Read, check and route a request; raises `RequestError`."""
        if scope["method"] != "POST":
            raise wrong_method(protocol.path, "POST")
        headers = dict(scope["headers"])
        principal = await self.identify(scope, headers)
        require(principal, "chat")
        body = requests.parse(await responses.read(receive, headers, self._limits.max_body_bytes))
        model = requests.model_of(body)
        protocol.check(body, self._limits)
        said = client_headers.read(headers)
        user = person_of(principal, said.user)
        named = protocol.user(body)
        sticky = sticky_key(said.conversation, named, user, principal.key_id, principal.name)
        target = self._router.table.resolve(model, sticky)
        conversation = said.conversation or new_id("conv")
        recording = None
        stored = said.store and principal.stores and body.get("store") is not False
        messages = protocol.conversation(body) if stored else None
        if messages is not None:
            source, task = client_headers.source_of(said, messages)
            await self._recorder.wait_for_room()
            begun = requests.continued(body, messages)
            recording = Recording(
                # what a program asks beside a conversation is not a part of it
                new_id("conv") if task else conversation,
                messages[:-1] if begun else messages,
                bool(body.get("stream")),
                model,
                target.deployment,
                user,
                principal.key_id,
                protocol,
                source,
                task,
                begun,
            )
        return Admitted(protocol, body, target, holders(principal, user), conversation, started, recording)

    async def identify(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Principal:
        """Return the principal of a request; raises `Unauthenticated`."""
        found = {}
        if authorization := headers.get(b"authorization"):
            found["authorization"] = authorization.decode("latin-1")
        elif key := headers.get(b"x-api-key"):  # Anthropic's clients
            found["authorization"] = "Bearer " + key.decode("latin-1")
        cookies = {}
        if cookie := headers.get(b"cookie"):
            cookies = cookie_parser(cookie.decode("latin-1"))
        principal = self._auth.recall(found, cookies)
        if principal is not None:
            return principal
        for name in FORWARDED:
            if (value := headers.get(name.encode())) is not None:
                found[name] = value.decode("latin-1")
        host = scope["client"][0] if scope.get("client") else ""
        return await asyncio.to_thread(self._auth.authenticate, found, cookies, host)


def person_of(principal: Principal, named: str | None) -> str | None:
    """Return the person that a request is from: the one that `X-Trimtab-User` names, else the principal's.

    Raises `Forbidden` where the principal may not act for others.
    """
    if named and not principal.may("ops"):
        raise Forbidden("X-Trimtab-User needs a key with the role ops.")
    return named or principal.user


def holders(principal: Principal, user: str | None) -> list[Holder]:
    """Return who pays for a request: the person, where one is known, and the key that was used."""
    found = [Holder(USER + user, user)] if user else []
    if principal.key_id:
        found.append(Holder(principal.key_id, principal.key_name or principal.name))
    return found or [Holder(principal.name, principal.name)]


def wrong_method(path: str, accepted: str) -> RequestError:
    """Return the error of a method that a path does not take."""
    return RequestError(
        f"{path[:200]} takes {accepted}.", status=405, code="method_not_allowed", headers={"Allow": accepted}
    )
