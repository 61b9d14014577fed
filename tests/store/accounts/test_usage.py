"""What callers used: increments add up, and an erased person is in none of them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from store.accounts import audit, keys, usage, users
from store.accounts.usage import Usage
from store.db.database import Store
from store.db.rows import scalar
from store.maintenance import backup
from store.privacy import erasure

MONDAY, TUESDAY = date(2026, 11, 30), date(2026, 12, 1)


def used(holder: str, requests: int, prompt: int, completion: int, name: str = "") -> Usage:
    return Usage(holder, name or holder.removeprefix("user "), requests, prompt, completion)


def test_increments_add_up_by_day_and_holder(db: Store) -> None:
    usage.add(db, {MONDAY: [used("user ada", 1, 10, 5), used("key-1", 1, 10, 5, "ci")]})
    usage.add(db, {MONDAY: [used("user ada", 2, 20, 7)], TUESDAY: [used("user ada", 1, 1, 1)]})
    usage.add(db, {})
    assert usage.sums(db, MONDAY, MONDAY) == [used("user ada", 3, 30, 12), used("key-1", 1, 10, 5, "ci")]
    assert usage.sums(db, MONDAY, TUESDAY)[0] == used("user ada", 4, 31, 13)
    assert usage.sums(db, TUESDAY, TUESDAY) == [used("user ada", 1, 1, 1)]
    assert usage.sums(db, TUESDAY, MONDAY) == []


def test_the_newest_name_of_a_holder_is_shown(db: Store) -> None:
    usage.add(db, {MONDAY: [used("key-1", 1, 1, 1, "old")], TUESDAY: [used("key-1", 1, 1, 1, "new")]})
    assert usage.sums(db, MONDAY, TUESDAY) == [used("key-1", 2, 2, 2, "new")]


def test_many_holders_are_one_commit(db: Store) -> None:
    crowd = [used(f"user {n}", 1, n, 0) for n in range(5_000)]
    for _ in range(2):
        usage.add(db, {MONDAY: crowd})
    found = usage.sums(db, MONDAY, MONDAY)
    assert found[0] == used("user 4999", 2, 9998, 0)
    assert len(found) == 5_000


def test_erased_person_has_no_usage_and_no_name_on_a_key(db: Store) -> None:
    users.create(db, "ada", ["chat"], "correct horse")
    hers, _ = keys.create(db, "laptop of Ada L.", ["chat"], user="ada")
    shared = [used("key-2", 1, 1, 1, "ci"), used("user bob", 1, 1, 1)]
    usage.add(
        db,
        {
            MONDAY: [used("user ada", 3, 30, 12), used(hers.id, 3, 30, 12, hers.name), *shared],
            TUESDAY: [used("key-3", 1, 5, 5, "ada"), used("user ada", 1, 1, 1)],
        },
    )
    done = erasure.erase_person(db, "ada")
    assert done.removed["usage"] == 2
    left = {row.holder: row for row in usage.sums(db, MONDAY, TUESDAY)}
    assert set(left) == {hers.id, "key-2", "key-3", "user bob"}
    assert left[hers.id] == used(hers.id, 3, 30, 12, done.id)
    assert (left["key-3"].name, left["key-2"].name) == (done.id, "ci")
    assert (
        scalar(db.read(), "select count(*) from usage where name ilike '%ada%' or holder ilike '%ada%'") == 0
    )


def test_person_with_usage_only_can_be_erased(db: Store) -> None:
    usage.add(db, {MONDAY: [used("user eve", 1, 1, 1)]})
    assert erasure.erase_person(db, "eve").removed == {"usage": 1}
    assert usage.sums(db, MONDAY, MONDAY) == []
    assert [entry.action for entry in audit.list_recent(db)] == ["person.erase"]


@pytest.mark.parametrize("again", [False, True])
def test_a_backup_holds_it_and_grows_on(db: Store, tmp_path: Path, again: bool) -> None:
    usage.add(db, {MONDAY: [used("user ada", 1, 2, 3)]})
    backup.write(db, tmp_path / "b.duckdb")
    with Store.open(tmp_path / "b.duckdb") as copy:
        if again:  # the key of the table came along, or this would be refused
            usage.add(copy, {MONDAY: [used("user ada", 1, 2, 3)]})
        assert usage.sums(copy, MONDAY, MONDAY) == [used("user ada", 1 + again, 2 + 2 * again, 3 + 3 * again)]
