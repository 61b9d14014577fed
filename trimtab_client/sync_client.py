"""The blocking client: every call runs the asynchronous client's on an event loop of its own.

The loop runs on a thread, so that a `Client` works where a loop runs already, as in notebooks. No operation is
written twice: `blocking` and `streaming` take an asynchronous method with its parameters and its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from functools import wraps
from threading import Thread
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx

from trimtab_client.async_client import AsyncClient
from trimtab_client.resources.admin import Admin
from trimtab_client.resources.chat import Chat
from trimtab_client.resources.data import Data
from trimtab_client.resources.jobs import Jobs
from trimtab_client.resources.preferences import Preferences
from trimtab_client.resources.rollout import Rollout
from trimtab_client.resources.runs import Runs

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_END: Any = object()


class EventLoopThread:
    """An event loop on a thread; `run` may be called from any other thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="trimtab-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the result; an interrupted caller cancels the work. Raises RuntimeError once closed."""
        if self.closed:
            work.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._loop.is_closed()

    def close(self) -> None:
        """End open streams, then the thread."""
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking(Generic[R]):
    """A resource of the asynchronous client with the loop that runs its methods."""

    def __init__(self, target: R, loop: EventLoopThread) -> None:
        self._target = target
        self._loop = loop


def blocking(
    method: Callable[Concatenate[R, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[R], P], T]:
    """Return the method that waits for the result of an asynchronous one."""

    @wraps(method)
    def call(self: Blocking[R], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._target, *args, **kwargs))

    return call


def streaming(
    method: Callable[Concatenate[R, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Blocking[R], P], Generator[T, None, None]]:
    """Return the method that iterates over an asynchronous one; closing the iterator ends the stream."""

    @wraps(method)
    def call(self: Blocking[R], /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        stream = method(self._target, *args, **kwargs)

        async def following() -> T:
            return await anext(stream, _END)

        try:
            while (item := self._loop.run(following())) is not _END:
                yield item
        finally:
            with suppress(RuntimeError):  # the client is closed, or an interrupted read closes the stream
                self._loop.run(stream.aclose())

    return call


class BlockingChat(Blocking[Chat]):
    """`Chat`, blocking."""

    complete = blocking(Chat.complete)
    stream = streaming(Chat.stream)
    like = blocking(Chat.like)
    rate = blocking(Chat.rate)
    comment = blocking(Chat.comment)
    prefer = blocking(Chat.prefer)
    feedback = blocking(Chat.feedback)
    conversations = blocking(Chat.conversations)
    count_tokens = blocking(Chat.count_tokens)
    conversation = blocking(Chat.conversation)
    change_conversation = blocking(Chat.change_conversation)
    delete_conversation = blocking(Chat.delete_conversation)
    restore_conversation = blocking(Chat.restore_conversation)
    share_link = blocking(Chat.share_link)
    link = blocking(Chat.link)
    revoke_link = blocking(Chat.revoke_link)
    shared_conversation = blocking(Chat.shared_conversation)
    answers = blocking(Chat.answers)
    shared = blocking(Chat.shared)
    set_share = blocking(Chat.set_share)


class BlockingPreferences(Blocking[Preferences]):
    """`Preferences`, blocking."""

    draw_prompt = blocking(Preferences.draw_prompt)
    compare = blocking(Preferences.compare)
    compare_branches = blocking(Preferences.compare_branches)
    offer = blocking(Preferences.offer)
    next = blocking(Preferences.next)
    vote = blocking(Preferences.vote)
    undo_vote = blocking(Preferences.undo_vote)
    comparison = blocking(Preferences.comparison)
    skip = blocking(Preferences.skip)
    votes = blocking(Preferences.votes)
    vote_summary = blocking(Preferences.vote_summary)
    undone_votes = blocking(Preferences.undone_votes)
    skipped = blocking(Preferences.skipped)
    leaderboard = blocking(Preferences.leaderboard)
    raters = blocking(Preferences.raters)
    agreement = blocking(Preferences.agreement)
    add_gold = blocking(Preferences.add_gold)


class BlockingData(Blocking[Data]):
    """`Data`, blocking."""

    pairs = blocking(Data.pairs)
    pair_stats = blocking(Data.pair_stats)
    make_pairs = blocking(Data.make_pairs)
    plan_pairs = blocking(Data.plan_pairs)
    rows = blocking(Data.rows)
    row = blocking(Data.row)
    row_report = blocking(Data.row_report)
    review = blocking(Data.review)
    views = blocking(Data.views)
    save_view = blocking(Data.save_view)
    remove_view = blocking(Data.remove_view)
    pair_lineage = blocking(Data.pair_lineage)
    demonstrations = blocking(Data.demonstrations)
    remove = blocking(Data.remove)
    import_options = blocking(Data.import_options)
    import_file = streaming(Data.import_file)
    export = blocking(Data.export)
    snapshots = blocking(Data.snapshots)
    snapshot = blocking(Data.snapshot)


class BlockingRuns(Blocking[Runs]):
    """`Runs`, blocking."""

    create = blocking(Runs.create)
    plan = blocking(Runs.plan)
    distil = blocking(Runs.distil)
    schedule_preview = blocking(Runs.schedule_preview)
    recipes = blocking(Runs.recipes)
    list = blocking(Runs.list)
    get = blocking(Runs.get)
    metrics = blocking(Runs.metrics)
    events = streaming(Runs.events)
    cancel = blocking(Runs.cancel)
    resume = blocking(Runs.resume)


class BlockingRollout(Blocking[Rollout]):
    """`Rollout`, blocking."""

    releases = blocking(Rollout.releases)
    release = blocking(Rollout.release)
    create_release = blocking(Rollout.create_release)
    blend_releases = blocking(Rollout.blend_releases)
    lineage = blocking(Rollout.lineage)
    release_tree = blocking(Rollout.release_tree)
    release_diff = blocking(Rollout.release_diff)
    evidence = blocking(Rollout.evidence)
    base_models = blocking(Rollout.base_models)
    add_base_model = blocking(Rollout.add_base_model)
    remove_base_model = blocking(Rollout.remove_base_model)
    deployments = blocking(Rollout.deployments)
    deployment = blocking(Rollout.deployment)
    canary = blocking(Rollout.canary)
    promote = blocking(Rollout.promote)
    rollback = blocking(Rollout.rollback)
    adapters = blocking(Rollout.adapters)
    prune_adapters = blocking(Rollout.prune_adapters)
    evaluate = blocking(Rollout.evaluate)
    evaluation = blocking(Rollout.evaluation)
    evaluation_items = blocking(Rollout.evaluation_items)
    evaluation_report = blocking(Rollout.evaluation_report)
    evaluations = blocking(Rollout.evaluations)
    search_prompts = blocking(Rollout.search_prompts)
    compare_releases = blocking(Rollout.compare_releases)
    compare_models = blocking(Rollout.compare_models)
    comparison_table = blocking(Rollout.comparison_table)
    comparison_report = blocking(Rollout.comparison_report)


class BlockingJobs(Blocking[Jobs]):
    """`Jobs`, blocking."""

    list = blocking(Jobs.list)
    get = blocking(Jobs.get)
    cancel = blocking(Jobs.cancel)
    resume = blocking(Jobs.resume)


class BlockingAdmin(Blocking[Admin]):
    """`Admin`, blocking."""

    keys = blocking(Admin.keys)
    create_key = blocking(Admin.create_key)
    revoke_key = blocking(Admin.revoke_key)
    users = blocking(Admin.users)
    add_user = blocking(Admin.add_user)
    remove_user = blocking(Admin.remove_user)
    user_lineage = blocking(Admin.user_lineage)
    erase_user = blocking(Admin.erase_user)
    erasures = blocking(Admin.erasures)
    shares = blocking(Admin.shares)
    set_share_of = blocking(Admin.set_share_of)
    usage = blocking(Admin.usage)
    audit = blocking(Admin.audit)
    audit_options = blocking(Admin.audit_options)
    backup = blocking(Admin.backup)


class Client(Blocking[AsyncClient]):
    """Blocking client of one platform at `url`; a context manager, or close it with `close`.

    Arguments, results and errors are those of `AsyncClient`. It may be used from several threads.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        target = AsyncClient(url, key, headers, timeout, transport)
        super().__init__(target, EventLoopThread())
        self.url = target.url
        self.chat = BlockingChat(target.chat, self._loop)
        self.preferences = BlockingPreferences(target.preferences, self._loop)
        self.data = BlockingData(target.data, self._loop)
        self.runs = BlockingRuns(target.runs, self._loop)
        self.rollout = BlockingRollout(target.rollout, self._loop)
        self.jobs = BlockingJobs(target.jobs, self._loop)
        self.admin = BlockingAdmin(target.admin, self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        if not self._loop.closed:
            self._loop.run(self._target.aclose())
            self._loop.close()

    request = blocking(AsyncClient.request)
    health = blocking(AsyncClient.health)
    ready = blocking(AsyncClient.ready)
    status = blocking(AsyncClient.status)
    whoami = blocking(AsyncClient.whoami)
    models = blocking(AsyncClient.models)
