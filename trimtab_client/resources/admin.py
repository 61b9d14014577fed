"""Users, API keys, erasures, usage, the audit log, backups."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab_client.resources.base import Resource
from trimtab_client.transport import given, path
from trimtab_client.types import Key, Shared, User
from trimtab_client.values import Json, Rows, Share


class Admin(Resource):
    """Administer people and the store."""

    async def keys(self) -> list[Key]:
        """GET /api/keys."""
        return list(await self._http.get("/api/keys") or ())

    async def create_key(
        self, name: str, roles: Sequence[str], user: str | None = None, store: bool = True
    ) -> Key:
        """POST /api/keys; only this answer holds the secret. `store` records chat requests made with it."""
        body = given(name=name, roles=list(roles), user=user, store=None if store else False)
        made: Key = await self._http.post("/api/keys", body)
        return made

    async def revoke_key(self, ident: str) -> None:
        """DELETE /api/keys/{id}."""
        await self._http.delete(path("api", "keys", ident))

    async def users(self) -> list[User]:
        """GET /api/users."""
        return list(await self._http.get("/api/users") or ())

    async def add_user(self, name: str, roles: Sequence[str], password: str) -> User:
        """POST /api/users."""
        body = {"name": name, "roles": list(roles), "password": password}
        made: User = await self._http.post("/api/users", body)
        return made

    async def remove_user(self, name: str) -> None:
        """DELETE /api/users/{name}: end a person's access; their data stays."""
        await self._http.delete(path("api", "users", name))

    async def user_lineage(self, name: str) -> Rows:
        """GET /api/users/{name}/lineage: the releases that learned from a person."""
        return list(await self._http.get(path("api", "users", name, "lineage")) or ())

    async def erase_user(self, name: str, dry_run: bool = False) -> Json:
        """POST /api/users/{name}/erase: delete a person's data; with `dry_run` only count it."""
        if name in (".", ".."):  # a client takes these out of a path
            return await self._http.post("/api/erasures", {"name": name, "dry_run": dry_run})
        erase = path("api", "users", name, "erase")
        return await self._http.post(f"{erase}?dry_run=true" if dry_run else erase)

    async def erasures(self) -> Json:
        """GET /api/erasures: `{erasures, flagged}`; flagged releases learned from something erased."""
        return await self._http.get("/api/erasures")

    async def shares(self) -> list[Shared]:
        """GET /api/shares: who chose what may be done with their conversations."""
        return list(await self._http.get("/api/shares") or ())

    async def set_share_of(self, name: str, share: Share | None) -> Shared:
        """PUT /api/shares: choose for a person, such as one of a front end; None goes back to the setting."""
        found: Shared = await self._http.put("/api/shares", {"name": name, "share": share})
        return found

    async def usage(self, since: str | None = None, until: str | None = None) -> Rows:
        """GET /api/usage: requests and tokens by caller, days YYYY-MM-DD in UTC; default: this month."""
        return list(await self._http.get("/api/usage", since=since, until=until) or ())

    async def audit(self, /, limit: int | None = None, **filters: str | None) -> Rows:
        """GET /api/audit, newest first; filters are actor, action, subject, text, since and until (ISO 8601)."""
        return list(await self._http.get("/api/audit", limit=limit, **filters) or ())

    async def audit_options(self) -> Json:
        """GET /api/audit/options: `{actors, actions}` that the log has."""
        return await self._http.get("/api/audit/options")

    async def backup(self, file: str) -> Json:
        """POST /api/backup: write a backup to `file`, a path on the platform's machine."""
        return await self._http.post("/api/backup", {"file": file})
