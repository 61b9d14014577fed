"""Who is asking, and what may they do.

A bearer key (from `store.accounts.keys`, or the local key of this boot), else a session cookie, else, in single-user mode,
anybody on this machine. Checked identities are remembered for a few seconds, as hashes. Host and Origin headers are
the business of the app's middleware.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from common.net import is_loopback
from serve.errors import Forbidden, Unauthenticated
from store.accounts import keys, users
from store.accounts.roles import ROLES
from store.db.database import Store

SESSION_COOKIE = "trimtab_session"
CACHE_S = 10.0  # a key revoked by another process works for at most this long; `drop_cached` is immediate
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
MAX_CACHED_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who is authenticated. `via` says by what: single-user, key, session or local key.

    `user` is the person, where there is one, `key_id` and `key_name` the key that was shown. `stores` says whether
    their chat requests are recorded.
    """

    name: str
    roles: frozenset[str]
    via: str
    user: str | None = None
    key_id: str | None = None
    key_name: str | None = None
    stores: bool = True

    def may(self, role: str) -> bool:
        """Tell whether one of the roles is `role` or above it."""
        level = ROLES.index(role)
        return any(own in ROLES and ROLES.index(own) >= level for own in self.roles)


def require(principal: Principal, role: str) -> None:
    """Raise `Forbidden` unless the principal may act as `role`."""
    if not principal.may(role):
        has = ", ".join(sorted(principal.roles)) or "none"
        raise Forbidden(f"This needs the role {role}; {principal.name} has: {has}.")


class Authenticator:
    """Finds the principal of a request. Thread-safe; reads the store, so it may block for milliseconds.

    `local_keys` maps secrets of this boot to principals. `single_user` None (the default) means: until the first user
    exists; once one was seen, this process never goes back to letting anybody in. A key does not end it: it is for
    programs, and nobody can sign in with it. With `exposed`, for a platform that other machines reach, it does.
    """

    def __init__(
        self,
        db: Store,
        single_user: bool | None = None,
        local_keys: Mapping[str, Principal] | None = None,
        exposed: bool = False,
    ) -> None:
        self._db = db
        self._forced = single_user
        self._exposed = exposed
        self._closed = False
        self._has_keys = False
        self._checked_at = 0.0
        self._local = {_digest(secret): principal for secret, principal in (local_keys or {}).items()}
        self._known: dict[bytes, tuple[float, Principal]] = {}
        self._anybody = Principal("local", frozenset(ROLES), "single-user")

    @property
    def single_user(self) -> bool:
        """Whether anybody on this machine may do everything."""
        if self._forced is not None:
            return self._forced
        if not self._closed and time.monotonic() - self._checked_at > 1.0:
            self._has_keys = bool(keys.count(self._db))
            self._closed = bool(users.count(self._db) or (self._exposed and self._has_keys))
            self._checked_at = time.monotonic()
        return not self._closed

    def recall(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Principal | None:
        """Return the principal when it is remembered, without touching the store."""
        if secret := _bearer(headers):
            return self._remembered(secret)
        if token := cookies.get(SESSION_COOKIE):
            return self._remembered(token)
        return None

    def authenticate(
        self, headers: Mapping[str, str], cookies: Mapping[str, str], client_host: str
    ) -> Principal:
        """Return who is asking. `headers` must look names up without regard to case, or have them in lower case.

        Raises `Unauthenticated` when nobody is known by what came with the request.
        """
        secret = _bearer(headers)
        if secret and (found := self._remembered(secret) or self._by_key(secret)):
            return found
        token = cookies.get(SESSION_COOKIE)
        if token and (found := self._remembered(token) or self._by_session(token)):
            return found
        if self.single_user:
            if secret and (self._has_keys or secret.startswith(keys.PREFIX)):
                raise Unauthenticated(
                    "The key is unknown or was revoked. On this machine none is needed until the first user exists."
                )
            if is_loopback(client_host) and not (self._has_keys and _was_forwarded(headers)):
                return self._anybody
            raise Unauthenticated(
                "Without users only this machine may ask without a key. Make a key there: trimtab keys create NAME"
            )
        if secret:
            raise Unauthenticated("The key is unknown or was revoked.")
        if token:
            raise Unauthenticated("The session has ended; sign in again.")
        raise Unauthenticated("Send a key as `Authorization: Bearer KEY`, or sign in.")

    def drop_cached(self) -> None:
        """Drop cached identities; call it when a key, session or user was changed."""
        self._known.clear()
        self._checked_at = 0.0

    def _by_key(self, secret: str) -> Principal | None:
        key = keys.find(self._db, secret)
        if key is None:
            return None
        return self._remember(
            secret,
            Principal(
                key.user or key.name,
                frozenset(key.roles),
                "key",
                key.user,
                key.id,
                key.name,
                key.stores,
            ),
        )

    def _by_session(self, token: str) -> Principal | None:
        user = users.find_session(self._db, token)
        if user is None:
            return None
        return self._remember(token, Principal(user.name, frozenset(user.roles), "session", user.name))

    def _remembered(self, secret: str) -> Principal | None:
        digest = _digest(secret)
        if local := self._local.get(digest):
            return local
        until, principal = self._known.get(digest, (0.0, None))
        return principal if time.monotonic() < until else None

    def _remember(self, secret: str, principal: Principal) -> Principal:
        if len(self._known) >= MAX_CACHED_KEYS:
            self._known.clear()
        self._known[_digest(secret)] = (time.monotonic() + CACHE_S, principal)
        return principal


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, secret = (headers.get("authorization") or "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _was_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy says that a request came from elsewhere."""
    return any(headers.get(name) for name in FORWARDED)
