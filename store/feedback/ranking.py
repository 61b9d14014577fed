"""The order in which a vote puts the answers of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from store.errors import Invalid

SIDES = ("a", "b", "c", "d")
UNDECIDED = ("tie", "both_bad")
CHOICES = (*SIDES, *UNDECIDED)


class Order(NamedTuple):
    """A choice, and the place of each side (1 is best, the same for a tie)."""

    choice: str
    places: Mapping[str, int]

    def preferred(self) -> list[tuple[str, str]]:
        """Return each two sides of which the first is better."""
        both = combinations(self.places, 2)
        found = [(x, y) if self.places[x] < self.places[y] else (y, x) for x, y in both]
        return [(x, y) for x, y in found if self.places[x] != self.places[y]]

    def column(self) -> list[int] | None:
        """Return the places as the column of votes; None where two were compared."""
        return list(self.places.values()) if len(self.places) > 2 else None


def read(choice: str | None, ranking: Sequence[Sequence[str]] | None, sides: Iterable[str]) -> Order:
    """Read a choice, a ranking (best first, those in one list are tied), or both that agree. Raises `Invalid`.

    A side that is chosen is better than all others, which are tied.
    """
    known = tuple(sides)
    if ranking is None:
        if choice not in (*known, *UNDECIDED):
            raise Invalid("choice", choice, (*known, *UNDECIDED))
        return Order(str(choice), {side: 1 if choice in (side, *UNDECIDED) else 2 for side in known})
    named = list(chain.from_iterable(ranking))
    if sorted(named) != sorted(known) or not all(ranking):
        raise Invalid(
            "ranking", [list(tied) for tied in ranking], f"each of {', '.join(known)} once, best first"
        )
    places = {side: place for place, tied in enumerate(ranking, 1) for side in tied}
    best = ranking[0][0] if len(ranking[0]) == 1 else "tie"
    if choice == "both_bad" and len(ranking) == 1:
        best = "both_bad"
    if choice not in (None, best):
        raise Invalid("choice", choice, f"{best}, as the ranking says, or nothing")
    return Order(best, {side: places[side] for side in known})
