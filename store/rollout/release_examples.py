"""Examples in the system prompts of releases, and the rows of the store that they quote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from store.db.database import Cursor, Store
from store.db.rows import fetch_all


@dataclass(frozen=True, slots=True)
class ReleaseExample:
    """One example: the text as it stands in the system prompt, and the row and prompt that it quotes."""

    reference: str | None
    prompt_hash: str
    text: str


def record(db: Store, release: str, examples: Iterable[ReleaseExample]) -> None:
    """Record the examples of a release, in place of those that it had."""
    rows = [(release, place, e.reference, e.prompt_hash, e.text) for place, e in enumerate(examples)]
    with db.atomic() as cursor:
        cursor.execute("delete from release_examples where release = $id", {"id": release})
        for row in rows:
            cursor.execute("insert into release_examples values (?, ?, ?, ?, ?)", list(row))


def counts(db: Store) -> dict[str, int]:
    """Return how many examples each release has, without those that have none."""
    rows = fetch_all(db.read(), "select release, count(*) as n from release_examples group by release")
    return {row["release"]: int(row["n"]) for row in rows}


def references(db: Store, release: str) -> list[str]:
    """Return the ids of the rows that a release's examples are from, in their order."""
    rows = fetch_all(
        db.read(),
        "select reference from release_examples where release = $id and reference is not null order by place",
        {"id": release},
    )
    return [str(row["reference"]) for row in rows]


def take_out(cursor: Cursor, gone: list[str], prompts: str) -> list[str]:
    """Take examples out of their releases' system prompts: of rows in `gone`, and of prompts that the query `prompts` names.

    Return the ids of these releases.
    """
    rows = fetch_all(
        cursor,
        f"""
        delete from release_examples
        where list_contains($gone, reference) or prompt_hash in ({prompts})
        returning release, text
        """,
        {"gone": gone},
    )
    for row in rows:
        cursor.execute(
            "update releases set system_prompt = replace(system_prompt, $text, '') where id = $id",
            {"text": row["text"], "id": row["release"]},
        )
    return sorted({row["release"] for row in rows})
