"""Which prompt a rater is given next, and which releases answer it: three queues, each draw with its chance.

* uniform: a uniform sample of traffic, between stable and canary. Only its votes decide canaries.
* teach: prompts of which the fewest comparisons exist, so that votes are not spent on a prompt again.
* releases: the same prompts, between two releases that may each be the best one (`store.rollout.top_two`).

While a canary is tested every draw is uniform: its decision needs the votes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serve.router import RoutingTable, Target
from store.db.database import Store
from store.feedback.rating_queue import cluster_of
from store.rollout import leaderboard, top_two
from store.values import Conversation, conversation_hash
from trimtab.config.data_sections import RankSettings

Queue = Literal["uniform", "teach", "releases"]
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Draw:
    """How a prompt was drawn: by which queue, with which chance the queues were, and each of the two samples gave it."""

    queue: Queue
    shares: Mapping[Queue, float]
    uniform: float
    fresh: float

    def with_usual(self, may_choose: bool) -> float:
        """Return the chance of this prompt between stable and canary; `may_choose`: releases can be chosen, too."""
        fresh = self.shares["teach"] + (0.0 if may_choose else self.shares["releases"])
        return self.shares["uniform"] * self.uniform + fresh * self.fresh

    def with_chosen(self, pair: float) -> float:
        """Return the chance of this prompt between releases that were chosen with the chance `pair`."""
        return self.shares["releases"] * self.fresh * pair


class Draws:
    """What was drawn for whom, until it is compared. In memory: after a restart a draw has no chance on record."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[str, str], Draw] = {}
        self._lock = threading.Lock()

    def remember(self, caller: str, prompt: Conversation, draw: Draw) -> None:
        """Keep a draw for a caller."""
        with self._lock:
            while len(self._drawn) >= MAX_REMEMBERED:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[caller, conversation_hash(prompt)] = draw

    def take(self, caller: str, prompt: Conversation) -> Draw | None:
        """Return how a caller's prompt was drawn, once."""
        with self._lock:
            return self._drawn.pop((caller, conversation_hash(prompt)), None)


def shares_of(settings: RankSettings, table: RoutingTable) -> dict[Queue, float]:
    """Return with which chance each queue draws."""
    if any(route.canary is not None for route in table.routes.values()):
        return {"uniform": 1.0, "teach": 0.0, "releases": 0.0}
    rest = 1.0 - settings.uniform - settings.releases
    return {"uniform": settings.uniform, "teach": max(0.0, rest), "releases": settings.releases}


def draw(
    prompts: Sequence[Conversation],
    compared: Mapping[str, int],
    shares: Mapping[Queue, float],
    chance: random.Random,
) -> tuple[int, Draw]:
    """Draw the place of a prompt; `compared` counts the comparisons by cluster."""
    clusters = [cluster_of(prompt) for prompt in prompts]
    least = min(compared.get(cluster, 0) for cluster in clusters)
    fresh = [n for n, cluster in enumerate(clusters) if compared.get(cluster, 0) == least]
    queue = chance.choices(list(shares), list(shares.values()))[0]
    place = chance.randrange(len(prompts)) if queue == "uniform" else chance.choice(fresh)
    return place, Draw(queue, shares, 1 / len(prompts), (place in fresh) / len(fresh))


def may_choose(table: RoutingTable, deployment: str) -> bool:
    """Return whether there are releases to choose from: two that are served, and no canary that needs the votes."""
    route = table.routes.get(deployment)
    return route is not None and route.canary is None and len(_served(table, deployment)) > 1


def choose_releases(
    db: Store, table: RoutingTable, deployment: str, generator: np.random.Generator
) -> tuple[list[str], float]:
    """Return the names of the two releases to compare, and the chance of the pair; where there `may_choose`."""
    served = _served(table, deployment)
    wins = leaderboard.wins_between(db, deployment, [str(target.release_id) for target in served])
    chances = top_two.chances(wins, generator)
    place = int(generator.choice(chances.size, p=chances.ravel() / chances.sum()))
    first, second = divmod(place, len(served))
    return [served[first].release, served[second].release], float(chances[first, second])


def _served(table: RoutingTable, deployment: str) -> list[Target]:
    """Return the newest releases of a deployment that stable's engine serves."""
    route = table.routes.get(deployment)
    if route is None:
        return []
    listed = [table.pinned[name] for name in table.listed if name in table.pinned]
    return [
        target for target in listed if target.deployment == deployment and target.base == route.stable.base
    ]
