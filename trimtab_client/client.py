"""One asynchronous client of the platform's HTTP contract, for the command line and the UI.

Methods are named after the nouns of the contract and answer parsed JSON as the platform sent it. Every
failure is an `ApiError`, from both error forms (OpenAI's under `/v1`, RFC 9457 problem details under `/api`);
a platform that cannot be reached is `PlatformUnreachable`. It knows no store and no engine.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from trimtab_client import ndjson
from trimtab_client.chat_stream import ChatDelta, deltas
from trimtab_client.errors import ApiError, PlatformUnreachable, api_error, problem_error
from trimtab_client.sse import events

__all__ = ["ApiError", "ChatDelta", "PlatformClient", "PlatformUnreachable"]

Json = Any
Messages = Sequence[Mapping[str, Any]]


def _path(*parts: str) -> str:
    return "/" + "/".join(quote(part, safe="@-._~") for part in parts)


class PlatformClient:
    """Client of one platform at `url`; an async context manager, or close it with `aclose`.

    `key` is sent as a bearer token; `headers` go with every request (a UI forwards its user's cookie or
    `X-Trimtab-User`). `timeout` is in seconds and bounds the silence between two reads, not a whole stream.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        all_headers = dict(headers or {})
        if key:
            all_headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=all_headers,
            timeout=httpx.Timeout(timeout, connect=5.0),
            transport=transport,
            trust_env=False,
            verify=self.url.startswith(
                "https:"
            ),  # reading the certificates takes 0.1 s; http has no use for them
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        )

    async def __aenter__(self) -> PlatformClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # ---- plumbing

    async def request(
        self,
        method: str,
        path: str,
        body: Json = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request and return its parsed JSON (None for an empty answer); raises `ApiError`."""
        query = {k: v for k, v in (params or {}).items() if v is not None}
        try:
            response = await self._http.request(
                method, path, json=body, params=query or None, headers=dict(headers or {})
            )
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise api_error(response)
        if response.status_code == 204 or not response.content:
            return None
        if "json" in response.headers.get("content-type", ""):
            return response.json()
        return response.text

    async def _get(self, path: str, **params: Any) -> Json:
        return await self.request("GET", path, params=params)

    async def _post(self, path: str, body: Json = None) -> Json:
        return await self.request("POST", path, body={} if body is None else body)

    def _unreachable(self, error: Exception) -> PlatformUnreachable:
        why = str(error) or type(error).__name__
        return PlatformUnreachable(0, "Platform unreachable", f"No answer from {self.url}: {why}")

    # ---- the platform

    async def health(self) -> Json:
        """GET /healthz."""
        return await self._get("/healthz")

    async def status(self) -> Json:
        """GET /api/status: engines, deployments, counts, schedule."""
        return await self._get("/api/status")

    async def whoami(self) -> Json:
        """GET /api/whoami: name and roles of the caller."""
        return await self._get("/api/whoami")

    async def models(self) -> list[Json]:
        """GET /v1/models: the names that `model` accepts."""
        return list((await self._get("/v1/models"))["data"])

    # ---- chat

    async def chat(
        self, model: str, messages: Messages, *, conversation: str | None = None, **sampling: Any
    ) -> Json:
        """POST /v1/chat/completions, answered whole; `sampling` is any other field of the body."""
        body = {"model": model, "messages": list(messages), **sampling}
        return await self.request("POST", "/v1/chat/completions", body, headers=_conversation(conversation))

    async def stream_chat(
        self,
        model: str,
        messages: Messages,
        *,
        conversation: str | None = None,
        source: str | None = None,
        **sampling: Any,
    ) -> AsyncIterator[ChatDelta]:
        """Stream an answer as `ChatDelta`s; closing the iterator cancels the generation in the engine.

        `source` is what the conversation comes from (`chat`, `cli`, or a name of your own). Raises `ApiError` before the
        first delta for a refused request, and within the stream when the engine reports an error or the connection breaks.
        """
        body = {"model": model, "messages": list(messages), "stream": True, **sampling}
        try:
            async with self._http.stream(
                "POST", "/v1/chat/completions", json=body, headers=_conversation(conversation, source)
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise api_error(response)
                async for delta in deltas(response):
                    yield delta
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def like(self, completion_id: str, liked: bool | None) -> Json:
        """Thumbs up (True), down (False) or neither (None) for one answer."""
        return await self._post(_path("api", "messages", completion_id, "like"), {"liked": liked})

    async def conversations(self, limit: int | None = None, source: Sequence[str] | None = None) -> Json:
        """GET /api/conversations: the caller's recent conversations, of some sources or of all."""
        return await self._get("/api/conversations", limit=limit, source=source)

    async def conversation(self, ident: str) -> Json:
        """GET /api/conversations/{id}: one conversation with its messages."""
        return await self._get(_path("api", "conversations", ident))

    # ---- preferences

    async def draw_prompt(self) -> Json:
        """GET /api/prompts/draw: `{messages}` to start a comparison from."""
        return await self._get("/api/prompts/draw")

    async def create_comparison(
        self,
        messages: Messages,
        deployment: str | None = None,
        releases: Sequence[str] | None = None,
        sampling: Mapping[str, Any] | None = None,
        drawn: bool | None = None,
    ) -> Json:
        """POST /api/comparisons: two blind candidates `{id, a, b}` for one conversation.

        `drawn` says whether the prompt came from `draw_prompt` (False: this caller brought it; None: unknown).
        """
        body: dict[str, Any] = {"messages": list(messages)}
        if deployment is not None:
            body["deployment"] = deployment
        if releases is not None:
            body["releases"] = list(releases)
        if sampling:
            body["sampling"] = dict(sampling)
        if drawn is not None:
            body["drawn"] = drawn
        return await self._post("/api/comparisons", body)

    async def offer_pair(
        self, messages: Messages, deployment: str, conversation: str | None, sampling: Mapping[str, Any]
    ) -> Json | None:
        """POST /api/comparisons/offer: `{id, a, b, conversation}` where this turn is to be judged, else None."""
        body = {"messages": list(messages), "deployment": deployment, "sampling": dict(sampling)}
        return await self._post("/api/comparisons/offer", {**body, "conversation": conversation})

    async def next_comparison(self) -> Json | None:
        """GET /api/comparisons/next: a comparison this caller has not voted on, or None."""
        return await self._get("/api/comparisons/next")

    async def vote(
        self,
        comparison: str,
        choice: str,
        better: str | None = None,
        tags: Iterable[str] = (),
        seconds: float | None = None,
    ) -> Json:
        """POST /api/comparisons/{id}/vote with `a`, `b`, `tie` or `both_bad`, at times a better response.

        `seconds` is how long the rater took.
        """
        body: dict[str, Any] = {"choice": choice}
        if better:
            body["better"] = better
        if tags := list(tags):
            body["tags"] = tags
        if seconds is not None:
            body["seconds"] = seconds
        return await self._post(_path("api", "comparisons", comparison, "vote"), body)

    async def leaderboard(self, deployment: str | None = None) -> Json:
        """GET /api/leaderboard: releases ranked from votes."""
        return await self._get("/api/leaderboard", deployment=deployment)

    # ---- training data

    async def pairs_list(
        self, limit: int | None = None, after: str | None = None, deployment: str | None = None
    ) -> Json:
        """GET /api/pairs: one page of preference pairs."""
        return await self._get("/api/pairs", limit=limit, after=after, deployment=deployment)

    async def pairs_stats(self) -> Json:
        """GET /api/pairs/stats."""
        return await self._get("/api/pairs/stats")

    async def demonstrations_list(
        self, limit: int | None = None, after: str | None = None, deployment: str | None = None
    ) -> Json:
        """GET /api/demonstrations: one page of demonstrations."""
        return await self._get("/api/demonstrations", limit=limit, after=after, deployment=deployment)

    async def remove_row(self, noun: str, ident: str, reason: str) -> Json:
        """DELETE /api/{noun}/{id}: take a row of pairs, demonstrations or likes out of the training data."""
        return await self.request("DELETE", _path("api", noun, ident), params={"reason": reason})

    async def import_options(
        self, noun: str, format: str | None = None, deployment: str | None = None
    ) -> Json:
        """GET /api/imports/{noun}: what an import accepts; refuses (`ApiError`) the options that one would refuse."""
        return await self._get(_path("api", "imports", noun), format=format, deployment=deployment)

    async def import_file(
        self, noun: str, content: AsyncIterator[bytes], **options: Any
    ) -> AsyncGenerator[Json, None]:
        """POST /api/imports/{noun}: send a file in pieces, as they are read, then yield what becomes of it.

        Each is an object with one key: `progress`, `refused` (a row) and, last, `result`. Closing the iterator ends the
        import. Raises `ApiError` before the first, or instead of the result.
        """
        query = {k: v for k, v in options.items() if v is not None}
        path = _path("api", "imports", noun)
        headers = {"Accept": "application/x-ndjson"}
        try:
            async with self._http.stream(
                "POST", path, content=content, params=query, headers=headers
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise api_error(response)
                async for told in ndjson.objects(response.aiter_bytes()):
                    if (problem := told.get("problem")) is not None:
                        raise problem_error(problem["status"], "Import failed", problem)
                    yield told
                    if "result" in told:
                        return
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        raise self._unreachable(EOFError("the platform stopped before the import had ended"))

    async def demonstrations_stats(self) -> Json:
        """GET /api/demonstrations/stats."""
        return await self._get("/api/demonstrations/stats")

    async def export_file(self, noun: str, file: str, **fields: Any) -> Json:
        """POST /api/exports/{noun}: write rows to `file`, a path on the platform's machine -> `{file, rows, format}`."""
        return await self._post(_path("api", "exports", noun), {"file": file, **fields})

    async def pair_lineage(self, pair: str) -> Json:
        """GET /api/pairs/{id}/lineage: the releases that learned from a pair."""
        return await self._get(_path("api", "pairs", pair, "lineage"))

    async def snapshots_list(self) -> Json:
        """GET /api/snapshots, newest first."""
        return await self._get("/api/snapshots")

    async def snapshots_get(self, ident: str) -> Json:
        """GET /api/snapshots/{id}: settings, rows, data report."""
        return await self._get(_path("api", "snapshots", ident))

    # ---- raters

    async def raters(self) -> Json:
        """GET /api/raters: agreement, gold questions, speed and position bias of each."""
        return await self._get("/api/raters")

    async def raters_agreement(self, deployment: str | None = None) -> Json:
        """GET /api/raters/agreement: Krippendorff's alpha."""
        return await self._get("/api/raters/agreement", deployment=deployment)

    async def add_gold(self, messages: Messages, good: str, bad: str, **fields: Any) -> Json:
        """POST /api/comparisons/gold (deployment, votes_wanted): a question whose answer is known, to measure raters by."""
        body = {"messages": list(messages), "good": good, "bad": bad, **fields}
        return await self._post("/api/comparisons/gold", body)

    # ---- runs

    async def create_run(self, method: str, **fields: Any) -> Json:
        """POST /api/runs (deployment, qlora, recipe, params, rollout, gate) -> `{id, state}`."""
        return await self._post("/api/runs", {"method": method, **fields})

    async def plan_run(self, method: str, **fields: Any) -> Json:
        """POST /api/runs/plan (as create_run) -> what such a run would need; starts nothing."""
        return await self._post("/api/runs/plan", {"method": method, **fields})

    async def list_recipes(self) -> Json:
        """GET /api/recipes: `{name, method, qlora, about, values}` each."""
        return await self._get("/api/recipes")

    async def list_runs(self, limit: int | None = None) -> Json:
        """GET /api/runs, newest first."""
        return await self._get("/api/runs", limit=limit)

    async def get_run(self, run: str) -> Json:
        """GET /api/runs/{id}."""
        return await self._get(_path("api", "runs", run))

    async def run_metrics(self, run: str) -> Json:
        """GET /api/runs/{id}/metrics: one row a logged step."""
        return await self._get(_path("api", "runs", run, "metrics"))

    async def run_events(self, run: str) -> AsyncIterator[Json]:
        """Follow GET /api/runs/{id}/events: each event's parsed data, with its name under `event`."""
        try:
            async with self._http.stream("GET", _path("api", "runs", run, "events")) as response:
                if response.is_error:
                    await response.aread()
                    raise api_error(response)
                async for event in events(response.aiter_lines()):
                    data = json.loads(event.data)
                    yield {"event": event.event, **data} if isinstance(data, dict) else data
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def cancel_run(self, run: str) -> Json:
        """POST /api/runs/{id}/cancel."""
        return await self._post(_path("api", "runs", run, "cancel"))

    async def resume_run(self, run: str) -> Json:
        """POST /api/runs/{id}/resume."""
        return await self._post(_path("api", "runs", run, "resume"))

    # ---- releases and deployments

    async def releases_list(self, deployment: str | None = None) -> Json:
        """GET /api/releases."""
        return await self._get("/api/releases", deployment=deployment)

    async def releases_get(self, ref: str) -> Json:
        """GET /api/releases/{ref}, `assistant@3` or a record id."""
        return await self._get(_path("api", "releases", ref))

    async def releases_create(self, deployment: str, **fields: Any) -> Json:
        """POST /api/releases (base, adapter, system_prompt, sampling)."""
        return await self._post("/api/releases", {"deployment": deployment, **fields})

    async def lineage(self, ref: str) -> Json:
        """GET /api/releases/{ref}/lineage: what trained this release."""
        return await self._get(_path("api", "releases", ref, "lineage"))

    async def deployments_list(self) -> Json:
        """GET /api/deployments."""
        return await self._get("/api/deployments")

    async def deployments_get(self, name: str) -> Json:
        """GET /api/deployments/{name}."""
        return await self._get(_path("api", "deployments", name))

    async def canary(self, deployment: str, release: str, weight: float, reason: str | None = None) -> Json:
        """Give a release this share (0 to 1) of a deployment's traffic; one that its gate rejected needs a reason."""
        body = {"release": release, "weight": weight} | ({} if reason is None else {"reason": reason})
        return await self._post(_path("api", "deployments", deployment, "canary"), body)

    async def promote(self, deployment: str, release: str | None = None, reason: str | None = None) -> Json:
        """Make the canary (or the named release) stable; one that its gate rejected needs a reason."""
        given = {"release": release, "reason": reason}
        body = {name: value for name, value in given.items() if value is not None}
        return await self._post(_path("api", "deployments", deployment, "promote"), body)

    async def rollback(self, deployment: str) -> Json:
        """Drop the canary, or return to the stable release before this one."""
        return await self._post(_path("api", "deployments", deployment, "rollback"))

    async def adapters_list(self) -> Json:
        """GET /api/adapters."""
        return await self._get("/api/adapters")

    async def adapters_prune(
        self, keep_last: int | None = None, max_age_days: float | None = None, dry_run: bool = False
    ) -> Json:
        """POST /api/adapters/prune -> `{removed, dry_run}`."""
        body = {"keep_last": keep_last, "max_age_days": max_age_days, "dry_run": dry_run}
        return await self._post("/api/adapters/prune", body)

    # ---- evaluation

    async def create_eval(self, release: str, against: str | None = None, suite: str | None = None) -> Json:
        """POST /api/evals -> `{id}`."""
        body = {"release": release, "against": against, "suite": suite}
        return await self._post("/api/evals", {k: v for k, v in body.items() if v is not None})

    async def get_eval(self, ident: str) -> Json:
        """GET /api/evals/{id}."""
        return await self._get(_path("api", "evals", ident))

    async def eval_items(self, ident: str, **filters: Any) -> list[Json]:
        """GET /api/evals/{id}/items, one page; filters are measure, side, after and limit."""
        found: list[Json] = await self._get(_path("api", "evals", ident, "items"), **filters)
        return found

    # ---- administration

    async def keys_list(self) -> Json:
        """GET /api/keys."""
        return await self._get("/api/keys")

    async def keys_create(
        self, name: str, roles: Sequence[str], user: str | None = None, store: bool = True
    ) -> Json:
        """POST /api/keys; the answer holds the secret, once."""
        body: dict[str, Any] = {"name": name, "roles": list(roles)}
        if user is not None:
            body["user"] = user
        return await self._post("/api/keys", body if store else {**body, "store": False})

    async def keys_revoke(self, ident: str) -> Json:
        """DELETE /api/keys/{id}."""
        return await self.request("DELETE", _path("api", "keys", ident))

    async def users_list(self) -> Json:
        """GET /api/users."""
        return await self._get("/api/users")

    async def users_add(self, name: str, roles: Sequence[str], password: str | None = None) -> Json:
        """POST /api/users."""
        body: dict[str, Any] = {"name": name, "roles": list(roles)}
        return await self._post("/api/users", body if password is None else {**body, "password": password})

    async def users_remove(self, name: str) -> Json:
        """DELETE /api/users/{name}."""
        return await self.request("DELETE", _path("api", "users", name))

    async def users_lineage(self, name: str) -> Json:
        """GET /api/users/{name}/lineage: the releases that learned from a person."""
        return await self._get(_path("api", "users", name, "lineage"))

    async def users_erase(self, name: str, dry_run: bool = False) -> Json:
        """POST /api/users/{name}/erase: forget a person; what went (with `dry_run`: would go), what learned from it."""
        if name in (".", ".."):  # a client takes these out of a path
            return await self._post("/api/erasures", {"name": name, "dry_run": dry_run})
        path = _path("api", "users", name, "erase")
        return await self._post(path + "?dry_run=true" if dry_run else path)

    async def usage(self, since: str | None = None, until: str | None = None) -> Json:
        """GET /api/usage: who used what from `since` to `until` (YYYY-MM-DD in UTC; default: this month)."""
        return await self._get("/api/usage", since=since, until=until)

    async def audit(self, limit: int | None = None) -> Json:
        """GET /api/audit, newest first."""
        return await self._get("/api/audit", limit=limit)

    async def backup(self, file: str) -> Json:
        """POST /api/backup: write a backup to `file`, a path on the platform's machine."""
        return await self._post("/api/backup", {"file": file})


def _conversation(ident: str | None, source: str | None = None) -> dict[str, str]:
    headers = {"X-Trimtab-Conversation": ident, "X-Trimtab-Source": source}
    return {name: value for name, value in headers.items() if value is not None}
