"""A conversation has one owner, also where several people use one id; who said something is what its turn says."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.accounts.owners import owner_of
from store.conversations import conversations, stored_conversations
from store.conversations.turn import Turn
from store.db.database import Store
from store.db.rows import fetch_all, scalar
from store.errors import NotFound
from store.feedback import comparisons, rating_queue
from store.feedback.comparisons import Candidate
from store.maintenance import verify
from store.privacy import erasure
from store.training_data import likes
from store.values import Message

START = datetime(2026, 5, 1, tzinfo=UTC)


def said(*texts: str) -> tuple[Message, ...]:
    return tuple(Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts))


def turn(
    id: str, who: str | None, *texts: str, answer: str = "Yes.", given: str = "shared", at: int = 0
) -> Turn:
    when = START + timedelta(minutes=at)
    return Turn(id, given, said(*texts), answer, "assistant", user=who, created_at=when)


def texts(db: Store, id: str, owner: str | None = None) -> list[str]:
    return [message.content for message in stored_conversations.get(db, id, owner).messages]


def test_each_speaker_under_one_id_has_a_conversation_of_their_own(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", "ada", "ada asks", at=0)])
    conversations.record_turns(
        db, [turn("c2", "bob", "bob asks", at=1), turn("c3", None, "nobody asks", at=2)]
    )
    conversations.record_turns(db, [turn("c4", "bob", "bob asks", "Yes.", "bob again", at=3)])
    assert texts(db, "shared") == ["ada asks", "Yes."]
    assert texts(db, "shared", "user bob") == ["bob asks", "Yes.", "bob again", "Yes."]
    assert texts(db, "shared", "") == ["nobody asks", "Yes."]
    bobs = stored_conversations.list_recent(db, user="bob")
    assert [(one.id, one.title) for one in bobs] == [
        (stored_conversations.get(db, "shared", "user bob").id, "bob asks")
    ]
    assert stored_conversations.list_recent(db, owner="user bob") == bobs
    with pytest.raises(NotFound):
        stored_conversations.get(db, "shared", "user cy")
    with pytest.raises(NotFound):
        stored_conversations.get(db, bobs[0].id, "user ada")


def test_a_conversation_of_a_key_is_not_that_of_a_person_of_its_name(db: Store) -> None:
    conversations.record_turns(
        db,
        [
            Turn("c1", "v", said("by a key"), "Yes.", key_id="key-1"),
            Turn("c2", "v", said("by another"), "Yes.", key_id="key-2"),
            Turn("c3", "v", said("by ada"), "Yes.", user="ada", key_id="key-1"),
        ],
    )
    owners = [owner_of(None, "key-1"), owner_of(None, "key-2"), owner_of("ada", "key-1")]
    assert [texts(db, "v", owner)[0] for owner in owners] == ["by a key", "by another", "by ada"]


def test_a_thumb_is_on_an_answer_of_one_s_own(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", "ada", "ada asks")])
    with pytest.raises(NotFound):
        conversations.like(db, "c1", True, "bob", owner="user bob")
    conversations.like(db, "c1", True, "ada", owner="user ada")
    assert likes.count(db)["liked"] == 1


def test_an_id_that_an_erasure_freed_is_not_mixed_up(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", "ada", "ada asks"), turn("c2", "bob", "bob asks", at=1)])
    erasure.erase_person(db, "ada")
    conversations.record_turns(
        db, [turn("c3", "bob", "bob asks", "Yes.", "more", at=2), turn("c4", "cy", "cy asks", at=3)]
    )
    assert texts(db, "shared", "user bob") == ["bob asks", "Yes.", "more", "Yes."]
    assert texts(db, "shared", "user cy") == ["cy asks", "Yes."]


def test_erasing_one_speaker_takes_what_others_repeat_and_says_so(db: Store) -> None:
    history = ("ada's secret", "Yes.", "bob's question")
    conversations.record_turns(
        db,
        [
            turn("c1", "ada", "ada's secret", at=0),
            turn("c2", "bob", *history, at=1),
            turn("c3", "bob", "bob alone", at=2),
        ],
    )
    conversations.like(db, "c2", True, "bob")
    made = comparisons.create(
        db, said(*history), [Candidate("x"), Candidate("y")], "assistant", source="drawn"
    )
    comparisons.vote(db, made.id, "a", "cy")
    done = erasure.erase_person(db, "ada")
    assert done.of_others == {"votes": 1, "likes": 1, "completions": 1}
    assert places_of(db, "ada") == []
    assert texts(db, "shared", "user bob") == ["bob alone", "Yes."]
    assert verify.verify(db) == []


def test_erasing_the_second_speaker_leaves_the_first_s_words(db: Store) -> None:
    conversations.record_turns(
        db,
        [
            turn("c1", "ada", "ada asks", at=0),
            turn("c2", "bob", "ada asks", "Yes.", "bob asks", at=1),
            turn("c3", "ada", "ada asks", "Yes.", "bob asks", "Yes.", "ada again", at=2),
        ],
    )
    done = erasure.erase_person(db, "bob")
    assert done.of_others == {"completions": 1}
    assert places_of(db, "bob") == []
    assert texts(db, "shared") == ["ada asks", "Yes."]
    assert verify.verify(db) == []


def places_of(db: Store, word: str) -> list[str]:
    """Return every table and column whose values hold a word."""
    columns = fetch_all(
        db.read(),
        """
        select table_name, column_name
        from duckdb_columns()
        where not internal and database_name not in ('temp', 'system')
        """,
    )
    return [
        f"{row['table_name']}.{row['column_name']}"
        for row in columns
        if scalar(
            db.read(),
            f'select count(*) from {row["table_name"]} where contains("{row["column_name"]}"::varchar, $word)',
            {"word": word},
        )
    ]


PEOPLE = ("zoe", "yan", "xia")
step = st.tuples(
    st.sampled_from(PEOPLE),
    st.sampled_from(("room-1", "room-2")),
    st.sampled_from(("ask", "ask", "follow", "follow", "again", "like", "compare", "vote")),
    st.integers(0, 3),
)


class History:
    """Plays steps as clients of one front end do, which send the conversation so far with each turn."""

    def __init__(self, db: Store) -> None:
        self.db = db
        self.rooms: dict[str, list[tuple[str, ...]]] = {"room-1": [], "room-2": []}
        self.completions: list[str] = []
        self.first: dict[tuple[str, ...], str] = {}
        self.count = itertools.count()

    def play(self, who: str, room: str, what: str, which: int) -> None:
        n = next(self.count)
        known = self.rooms[room]
        before = known[which % len(known)] if known else ()
        if what in ("ask", "follow"):
            asked = (*(before if what == "follow" else ()), f"{who} says {n}")
            self._answer(n, who, room, asked)
        elif what == "again" and before:
            self._answer(n, who, room, before[:-1])
        elif what == "like" and self.completions:
            conversations.like(self.db, self.completions[which % len(self.completions)], bool(n % 2), who)
        elif what == "compare" and before:
            sides = [Candidate(f"side a {n}"), Candidate(f"side b {n}")]
            own = self.first.get(before[:-1]) == who
            facts = {"asked_by": who, "source": ("typed", "drawn", "rank", "pair")[which if own else 1]}
            comparisons.create(self.db, said(*before[:-1]), sides, "assistant", votes_wanted=2, **facts)
        elif what == "vote" and (waiting := rating_queue.next_unvoted(self.db, who)):
            comparisons.vote(self.db, waiting.id, "ab"[which % 2], who, better=f"{who} writes {n}")

    def _answer(self, n: int, who: str, room: str, asked: tuple[str, ...]) -> None:
        made = turn(f"completion-{n}", who, *asked, answer=f"answer {n}", given=room, at=n)
        conversations.record_turns(self.db, [made])
        self.completions.append(made.completion_id)
        self.first.setdefault(asked, who)
        self.rooms[room].append((*asked, f"answer {n}"))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "trimtab.duckdb"
    Store.open(path).close()
    return path


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(step, min_size=4, max_size=12), gone=st.sampled_from(PEOPLE))
def test_erasure_deletes_all_of_a_person_and_lists_all_it_deletes(
    steps: list[tuple[str, str, str, int]], gone: str, template: Path, tmp_path: Path
) -> None:
    path = tmp_path / "history.duckdb"
    shutil.copy(template, path)
    with Store.open(path) as db:
        history = History(db)
        history.play(gone, "room-1", "ask", 0)
        for one in steps:
            history.play(*one)
        others = {
            what: scalar(db.read(), f"select count(*) from {what} where {column} is distinct from '{gone}'")
            for what, column in (("completions", "user_name"), ("votes", "rater"), ("likes", "user_name"))
        }
        told = erasure.preview(db, gone)
        done = erasure.erase_person(db, gone)
        assert told.of_others == done.of_others
        left = {what: scalar(db.read(), f"select count(*) from {what}") for what in others}
        assert {
            what: count - left[what] for what, count in others.items() if count != left[what]
        } == done.of_others
        assert places_of(db, gone) == []
        assert verify.verify(db) == []
        dangling = """
            select count(*)
            from completions
            where prompt_id not in (select id from messages) or message_id not in (select id from messages)
                or conversation_id not in (select id from conversations)
        """
        assert scalar(db.read(), dangling) == 0


def test_turns_that_were_shared_before_are_moved_to_their_speakers(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with Store.open(path, version=10) as old, old.atomic() as cursor:
        cursor.execute(
            "insert into conversations values ('shared', 'ada', 'assistant', $t, $t)", {"t": START}
        )
        messages = (
            ("m1", None, "user", "ada asks"), ("m2", "m1", "assistant", "Yes."), ("m3", "m2", "user", "bob asks"),
            ("m4", "m3", "assistant", "No."), ("m5", None, "user", "a key asks"),
        )  # fmt: skip
        for row in messages:
            cursor.execute("insert into messages values (?, 'shared', ?, ?, ?, ?)", [*row, START])
        turns = (
            ("c1", "m1", "m2", "ada", None),
            ("c2", "m3", "m4", "bob", None),
            ("c3", "m5", None, None, "key-1"),
        )
        for place, row in enumerate(turns):
            cursor.execute(
                "insert into completions (id, conversation_id, prompt_id, message_id, user_name, key_id, created_at) "
                "values (?, 'shared', ?, ?, ?, ?, ?)",
                [*row, START + timedelta(minutes=place)],
            )
    with Store.open(path) as db:
        assert texts(db, "shared") == ["ada asks", "Yes."]
        assert texts(db, "shared", "user bob") == ["ada asks", "Yes.", "bob asks", "No."]
        assert texts(db, "shared", "key key-1") == ["a key asks"]
        before = scalar(db.read(), "select count(*) from messages")
        conversations.record_turns(
            db, [turn("c4", "bob", "ada asks", "Yes.", "bob asks", answer="No.", at=5)]
        )
        assert scalar(db.read(), "select count(*) from messages") == before, "the ids are those of a new turn"
        assert {one.source for one in stored_conversations.list_recent(db)} == {"chat", "api"}
        done = erasure.erase_person(db, "ada")
        assert done.of_others == {"completions": 2}
        assert places_of(db, "ada") == []
        assert [one.title for one in stored_conversations.list_recent(db)] == ["a key asks"]
        assert verify.verify(db) == []
