"""Settings of a snapshot: typed, complete, and part of its hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast, get_args

from store.db import validation
from store.errors import Invalid
from store.near_duplicates import index as near
from store.training_data.made_rows import MADE_KINDS

MIX: dict[str, float] = {
    "vote": 1.0,
    "rewrite": 1.0,
    "like": 1.0,
    "import": 0.2,
    **dict.fromkeys(MADE_KINDS, 0.25),
}
Ties = Literal["ignore", "discount"]
TIES: tuple[Ties, ...] = get_args(Ties)


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """How rows become a dataset.

    heldout_fraction: share of the conversations (not rows) that is held out, 0 to 0.5, of people's rows and of
        imports each; 0 holds out nothing.
    heldout_clusters: hold out more, up to a third, where the share gives fewer conversations than this.
    mix: rows of each source (vote, rewrite, like, import) for each row of the sources with the highest number; for rows
        that were made (rules, judge, release, distilled) their weight together for each weight of all others.
    seed: whole number; decides which prompts are held out and which rows caps and replay keep.
    ties: `ignore` leaves tie and both_bad votes out; `discount` lets them lower a pair's weight.
    exclude_raters: names whose votes, rewrites and likes do not count.
    min_weight: drops pairs whose margin of agreement is below it, 0 to 1.
    replay: share of the rows that earlier snapshots of the deployment saw, 0 to 1.
    max_per_prompt, max_per_rater: most rows of one prompt and of one person, None for no limit.
    near_duplicates: Jaccard similarity (0.7 to 1) from which prompts count as one prompt for the split, and
    rows
        of one prompt as one row; None compares exactly.
    """

    heldout_fraction: float = 0.1
    heldout_clusters: int = 40
    mix: Mapping[str, float] = field(default_factory=lambda: dict(MIX))
    seed: int = 0
    ties: Ties = "ignore"
    exclude_raters: tuple[str, ...] = ()
    min_weight: float = 0.0
    replay: float = 1.0
    max_per_prompt: int | None = None
    max_per_rater: int | None = None
    near_duplicates: float | None = 0.8

    @property
    def mix_of_rows(self) -> dict[str, float]:
        """The part of `mix` that limits rows; the rest limits weights."""
        return {source: share for source, share in self.mix.items() if source not in MADE_KINDS}

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**asdict(self), "exclude_raters": list(self.exclude_raters)}


def read(settings: Mapping[str, Any]) -> SnapshotSettings:
    """Check settings by name; raises `Invalid` naming the first that is unknown or out of range."""
    known = {field.name for field in fields(SnapshotSettings)}
    for name in settings:
        if name not in known:
            raise Invalid("setting", name, sorted(known))
    values = {**SnapshotSettings().to_json(), **settings}
    raters = values["exclude_raters"]
    if isinstance(raters, str) or not all(isinstance(name, str) for name in raters):
        raise Invalid("exclude_raters", raters, "a list of names")
    return SnapshotSettings(
        heldout_fraction=validation.fraction("heldout_fraction", values["heldout_fraction"], 0.0, 0.5),
        heldout_clusters=validation.whole("heldout_clusters", values["heldout_clusters"], 0, 2**31 - 1),
        mix=_mix(values["mix"]),
        seed=validation.whole("seed", values["seed"], 0, 2**53),
        ties=cast(Ties, validation.one_of("ties", values["ties"], TIES)),
        exclude_raters=tuple(sorted(set(raters))),
        min_weight=validation.fraction("min_weight", values["min_weight"]),
        replay=validation.fraction("replay", values["replay"]),
        max_per_prompt=_limit("max_per_prompt", values["max_per_prompt"]),
        max_per_rater=_limit("max_per_rater", values["max_per_rater"]),
        near_duplicates=None
        if values["near_duplicates"] is None
        else validation.fraction("near_duplicates", values["near_duplicates"], near.MIN_SIMILARITY, 1.0),
    )


def _mix(value: object) -> dict[str, float]:
    accepted = (
        f"numbers of 0 or more by source ({', '.join(MIX)}): one of vote, rewrite, like and import above 0, those of "
        f"{', '.join(MADE_KINDS)} at most 1"
    )
    if not isinstance(value, Mapping) or set(value) - set(MIX):
        raise Invalid("mix", value, accepted)
    mix = {**MIX, **value}
    for share in mix.values():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < float("inf"):
            raise Invalid("mix", value, accepted)
    if not any(share for source, share in mix.items() if source not in MADE_KINDS):
        raise Invalid("mix", value, accepted)
    if any(mix[kind] > 1 for kind in MADE_KINDS):
        raise Invalid("mix", value, accepted)
    return {source: float(share) for source, share in mix.items()}


def _limit(name: str, value: object) -> int | None:
    return None if value is None else validation.whole(name, value, 1, 2**31 - 1)
