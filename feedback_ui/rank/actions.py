"""Rank: draw a prompt, sample two responses, vote, take the vote back, skip, take the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from feedback_ui.chat.actions import Candidates, candidates_of
from feedback_ui.turn import read_turn
from trimtab_client import ApiError, AsyncClient
from trimtab_client.values import STRENGTHS, Choice, Strength

MAX_SKIPPED = 100
"""How many skipped comparisons are kept from coming back, as many as the API takes."""

ASKED_EVERY = 5
"""After how many votes the length of the queue is asked again: to ask takes longer than a vote."""

MAX_HISTORY = 30
"""How many of their votes raters see."""


@dataclass(frozen=True)
class Prompt:
    """What a comparison starts from: the earlier messages and the person's last one.

    `drawn` says that it came from what people asked, and not from the rater; `carried` is what the last message has
    beside its text.
    """

    earlier: tuple[dict[str, Any], ...] = ()
    text: str = ""
    drawn: bool = False
    carried: dict[str, Any] = field(default_factory=dict, hash=False)

    def messages(self) -> list[dict[str, Any]]:
        """Return the whole conversation as chat messages."""
        return [*self.earlier, {"role": "user", "content": self.text.strip(), **self.carried}]


@dataclass(frozen=True)
class Said:
    """What a rater says beside a verdict; the fields of a vote."""

    better: str = ""
    tags: tuple[str, ...] = ()
    strength: str = ""
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)
    comment: str = ""
    unsafe: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """What lies before a rater: a comparison, and once it is decided what the vote revealed.

    `votes` counts the votes cast since the page was opened; `view` is how the texts are shown, and `skipped` are the
    newest comparisons that the rater left to others. `last` is the comparison of the last vote, which can be taken back;
    `taken_back` says that this was done to the one that is shown. `summary` is the rater's progress, `queue` how many
    comparisons waited when that was asked last, and `wanted` a prompt to which responses are sampled now.
    """

    pair: Candidates | None = None
    revealed: dict[str, Any] | None = None
    pairs_made: int = 0
    demonstration: bool = False
    votes: int = 0
    view: str = "formatted"
    skipped: tuple[str, ...] = ()
    last: str | None = None
    taken_back: bool = False
    summary: Mapping[str, Any] | None = field(default=None, hash=False)
    queue: int | None = None
    wanted: Prompt | None = None

    def laid(self, pair: Candidates | None) -> Table:
        """Show another comparison, or none; what belongs to the rater stays."""
        return replace(
            self, pair=pair, revealed=None, pairs_made=0, demonstration=False, taken_back=False, wanted=None
        )

    def counted(self, votes: int) -> Table:
        """Add votes to the rater's progress."""
        mine = dict(self.summary or {})
        if mine:
            mine["streak"] += votes > 0 and mine["today"] == 0
            mine["today"] = max(0, mine["today"] + votes)
        return replace(self, votes=max(0, self.votes + votes), summary=mine)

    def passed(self) -> Table:
        """Note the comparison that is shown as skipped, if no vote was cast on it."""
        if self.pair is None or self.revealed is not None:
            return self
        return replace(self, skipped=(*self.skipped, self.pair.comparison)[-MAX_SKIPPED:])

    @property
    def several(self) -> bool:
        """Whether more than two responses are compared, which are put in an order."""
        return self.pair is not None and bool(self.pair.more)

    @property
    def open(self) -> bool:
        """Whether there is a comparison to vote on."""
        return self.pair is not None and self.revealed is None


def split_prompt(messages: list[dict[str, Any]]) -> Prompt:
    """Take a conversation apart into its last user message and what came before."""
    if messages and messages[-1].get("role") == "user":
        last = read_turn(messages[-1])
        return Prompt(tuple(messages[:-1]), last.content, carried=dict(last.carried))
    return Prompt(tuple(messages))


async def draw(client: AsyncClient) -> Prompt:
    """Draw a prompt from what people asked; raises `ApiError` (404) when there is none yet."""
    drawn = await client.preferences.draw_prompt()
    return replace(split_prompt(list((drawn or {}).get("messages", ()))), drawn=True)


async def sample(
    client: AsyncClient,
    prompt: Prompt,
    deployment: str | None,
    table: Table,
    options: dict[str, Any] | None = None,
) -> Table:
    """Sample two responses, blind, and put them on the screen; `options` are sampling fields."""
    made = await client.preferences.compare(
        prompt.messages(), deployment=deployment or None, sampling=options, drawn=prompt.drawn
    )
    return table.laid(candidates_of(made, made.get("messages") or prompt.messages()))


async def prepare(
    client: AsyncClient, name: str | None, table: Table, options: dict[str, Any] | None = None
) -> bool:
    """Have the next comparison sampled while a rater reads this one, if none waits beside it; return whether it was.

    It waits in the queue of all raters: one who leaves takes nothing away.
    """
    count = await waiting(client)
    if not table.open or count is None or count > 1:
        return False
    await sample(client, await draw(client), name, table, options)
    return True


async def take_next(client: AsyncClient, table: Table) -> Table:
    """Take the next waiting comparison, none that was skipped; the table is empty when none waits."""
    table = table.passed()
    waiting = await client.preferences.next(table.skipped)
    if not waiting:
        return table.laid(None)
    return table.laid(candidates_of(waiting, waiting.get("messages", ())))


async def vote(
    client: AsyncClient,
    table: Table,
    choice: Choice | None,
    said: Said = Said(),
    ranking: Sequence[Sequence[str]] | None = None,
) -> Table:
    """Record a verdict (a choice, or an order of several) and reveal who wrote what.

    Text equal to a response is no better response and is not sent; how much better an answer is only goes with a choice
    of one of two.
    """
    if table.pair is None or table.revealed is not None:
        return table
    text = said.better.strip()
    shown = [answer.strip() for answer, _ in table.pair.answers.values()]
    written = text if text and text not in shown else None
    cast = await client.preferences.vote(
        table.pair.comparison,
        choice,
        better=written,
        tags=said.tags,
        seconds=table.pair.seconds(),
        strength=strength_of(said.strength) if choice in ("a", "b") and not table.several else None,
        reasons=said.reasons,
        comment=said.comment.strip() or None,
        unsafe=said.unsafe,
        ranking=ranking,
    )
    return replace(
        table.counted(1),
        revealed=dict((cast or {}).get("revealed") or {}),
        pairs_made=len((cast or {}).get("pairs") or ()),
        demonstration=bool((cast or {}).get("demonstration")),
        last=table.pair.comparison,
        taken_back=False,
    )


def ranking_of(order: str, sides: Iterable[str]) -> list[list[str]] | None:
    """Read an order as the screen writes it (`c>a=b`); the only side that it leaves out comes last. None if more are."""
    ranking = [[side for side in tied.split("=") if side] for tied in order.split(">")]
    ranking = [tied for tied in ranking if tied]
    left = [side for side in sides if not any(side in tied for tied in ranking)]
    if not ranking or len(left) > 1:
        return None
    return [*ranking, left] if left else ranking


def strength_of(value: str) -> Strength | None:
    """Return the strength that a value names; None for nothing."""
    return next((strength for strength in STRENGTHS if strength == value), None)


async def undo(client: AsyncClient, table: Table, comparison: str | None = None) -> Table:
    """Take back the rater's vote on a comparison, by default the last one, and show it again, open to a vote."""
    wanted = comparison or table.last
    if wanted is None:
        return table
    await client.preferences.undo_vote(wanted)
    found = await client.preferences.comparison(wanted)
    laid = table.counted(-1).laid(candidates_of(found, found.get("messages", ())))
    left = tuple(id for id in table.skipped if id != wanted)
    return replace(laid, taken_back=True, skipped=left, last=None if wanted == table.last else table.last)


async def skip(client: AsyncClient, table: Table, reason: str) -> None:
    """Leave the comparison that is shown undecided, with a reason."""
    if table.pair is not None and table.open:
        await client.preferences.skip(table.pair.comparison, reason)


async def history(client: AsyncClient) -> list[dict[str, Any]]:
    """Return the rater's newest votes."""
    return await client.preferences.votes(limit=MAX_HISTORY)


async def summary(client: AsyncClient) -> dict[str, Any] | None:
    """Return the rater's progress; None for a role that has none."""
    try:
        return dict(await client.preferences.vote_summary())
    except ApiError:
        return None


async def queue_of(client: AsyncClient, table: Table) -> int | None:
    """Return how many comparisons wait, as far as is known: the platform is asked once in `ASKED_EVERY` votes."""
    if table.queue is None or table.votes % ASKED_EVERY == 0:
        return await waiting(client)
    return table.queue


async def waiting(client: AsyncClient) -> int | None:
    """Return how many comparisons are open on the whole platform; None for a role that may not read the status."""
    try:
        counts = (await client.status()).get("comparisons", {})
    except ApiError:
        return None
    return int(counts.get("open", counts.get("waiting", 0)))


async def deployments(client: AsyncClient) -> list[str]:
    """Return the deployments a comparison can be sampled from."""
    names = [str(row["id"]) for row in await client.models()]
    return [name for name in names if any(other.startswith(f"{name}@") for other in names)] or names[:1]
