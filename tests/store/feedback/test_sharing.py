"""What people share: no word of somebody who keeps it reaches raters, snapshots or exports."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.accounts import audit, keys, sharing, users
from store.accounts.owners import owner_of
from store.accounts.sharing import SHARES, Share
from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import selection, snapshots
from store.db.database import Store
from store.db.rows import fetch_all, scalar
from store.errors import Conflict, Invalid
from store.feedback import comparisons, decided, prompt_owners, rating_queue
from store.feedback.comparisons import Candidate
from store.privacy import erasure
from store.training_data import pairs
from store.transfer.export_file import export
from store.values import Message

START = datetime(2026, 5, 1, tzinfo=UTC)
ADA = owner_of("ada", None)
PAIR = [Candidate("yes"), Candidate("no")]
minutes = itertools.count()


def say(db: Store, who: str | None, *texts: str, given: str | None = None, **facts: Any) -> str:
    """Record a turn of a person; returns the completion's id."""
    n = next(minutes)
    roles = itertools.cycle(("user", "assistant"))
    said = tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))
    at = START + timedelta(minutes=n)
    turn = Turn(
        f"c{n}", given or f"v{n}", said, f"Answer {n}.", "assistant", user=who, created_at=at, **facts
    )
    conversations.record_turns(db, [turn])
    return turn.completion_id


def drawn(db: Store) -> set[str]:
    return {prompt[-1].content for prompt in conversations.recent_prompts(db)}


def waiting(db: Store) -> set[str]:
    """Return the prompts that the queue shows to a rater who skips each."""
    found = set()
    for n in itertools.count():
        one = rating_queue.next_unvoted(db, f"skipper {n}")
        if one is None:
            return found
        found.add(one.messages[-1].content)
        comparisons.vote(db, one.id, "tie", "skipper")


def compare(db: Store, text: str, owners: list[str], voted: bool = False, **vote: Any) -> str:
    """Ask for a comparison and, where it is `voted` on, choose the first answer: the sides are drawn."""
    made = comparisons.create(db, text, PAIR, "assistant", owners=owners)
    if voted:
        choice = "a" if made.a.content == PAIR[0].content else "b"
        comparisons.vote(db, made.id, choice, "rob", **vote)
    return made.id


def trained_on(db: Store, home: Path, method: str) -> str:
    """Return all that a snapshot's and an export's files say, as text."""
    noun = {"dpo": "pairs", "sft": "demonstrations", "kto": "likes"}[method]
    file = home / f"{noun}-{next(minutes)}.jsonl"
    export(db, file, noun)
    text = file.read_text()
    try:
        made = snapshots.build(db, home / "snapshots", "assistant", method, seed=next(minutes))
    except Invalid:
        return text
    for split in ("train", "heldout"):
        rows = pq.read_table(home / "snapshots" / made.id / f"{split}.parquet").to_pylist()
        text += json.dumps(rows, default=str)
    return text


def test_who_chose_nothing_shares_what_the_store_says(db: Store) -> None:
    for share in SHARES:
        db.share = share
        assert sharing.allow(db, [ADA], "show") == (share != "none")
        assert sharing.allow(db, [ADA], "train") == (share == "train")
        assert sharing.allow(db, [], "train"), "nobody's words"


@pytest.mark.parametrize("default", SHARES)
@pytest.mark.parametrize("share", SHARES)
def test_a_choice_counts_more_than_the_default(db: Store, default: Share, share: Share) -> None:
    db.share = default
    sharing.choose(db, ADA, share, "ada")
    assert sharing.allow(db, [ADA], "show") == (share != "none")
    assert sharing.allow(db, [ADA], "train") == (share == "train")
    assert sharing.everybody_agrees(db.read(), "train", default) == (share == default == "train")
    sharing.choose(db, ADA, None, "ada")
    assert sharing.choice_of(db, ADA) is None
    assert sharing.list_all(db) == []
    assert [(row.action, row.subject) for row in audit.list_recent(db)] == [("person.share", "ada")] * 2


def test_all_whose_words_it_holds_must_agree(db: Store) -> None:
    sharing.choose(db, ADA, "show")
    assert sharing.allow(db, ["user bob", ADA], "show")
    assert not sharing.allow(db, ["user bob", ADA], "train")


def test_an_unknown_choice_is_refused_and_the_one_before_holds(db: Store) -> None:
    sharing.choose(db, ADA, "none")
    with pytest.raises(Invalid, match="share"):
        sharing.choose(db, ADA, "some")  # type: ignore[arg-type]
    assert not sharing.allow(db, [ADA], "show")


def test_no_prompt_is_drawn_of_who_shows_nothing(db: Store) -> None:
    for who in ("ada", "bob", None):
        say(db, who, f"by {who}", source="chat")
    assert drawn(db) == {"by ada", "by bob", "by None"}
    sharing.choose(db, ADA, "none")
    assert drawn(db) == {"by bob", "by None"}
    sharing.choose(db, owner_of(None, None), "none")
    assert drawn(db) == {"by bob"}
    db.share = "none"
    assert drawn(db) == set()
    sharing.choose(db, ADA, "show")
    assert drawn(db) == {"by ada"}


def test_a_key_has_a_choice_of_its_own(db: Store) -> None:
    key, _ = keys.create(db, "ci", ["chat"])
    say(db, None, "by the key", key_id=key.id)
    say(db, "ci", "by a person of its name")
    sharing.choose(db, owner_of(None, key.id), "none")
    assert drawn(db) == {"by a person of its name"}


def test_words_that_somebody_else_repeats_stay_with_who_said_them_first(db: Store) -> None:
    say(db, "ada", "ada's secret", given="shared")
    say(db, "bob", "ada's secret", "Answer.", "bob's question", given="shared")
    say(db, "bob", "ada's secret", given="elsewhere")
    turn = (Message("user", "ada's secret"), Message("user", "more"))
    assert prompt_owners.of_turn(db, "user cleo", "shared", turn) == [ADA, "user cleo"]
    assert prompt_owners.of_turn(db, "user cleo", "elsewhere", turn) == ["user bob", "user cleo"]
    sharing.choose(db, ADA, "none")
    assert drawn(db) == {"ada's secret"}, "bob's own, elsewhere"
    sharing.choose(db, "user bob", "none")
    sharing.choose(db, ADA, None)
    assert drawn(db) == {"ada's secret"}, "ada's"


def test_a_drawn_prompt_is_whose_conversation_it_is_from(db: Store) -> None:
    say(db, "ada", "Hi", "Hello", "And now?")
    whole = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "And now?"))
    assert prompt_owners.of_drawn(db, whole) == [ADA]
    assert prompt_owners.of_drawn(db, whole[2:]) is None
    assert prompt_owners.of_drawn(db, whole[:1]) is None, "not asked by itself"
    sharing.choose(db, ADA, "none")
    with pytest.raises(Conflict, match="does not share"):
        prompt_owners.of_drawn(db, whole)
    say(db, "bob", "Hi", "Hello", "And now?")
    assert prompt_owners.of_drawn(db, whole) == ["user bob"]


def test_the_queue_shows_nothing_of_who_shows_nothing(db: Store) -> None:
    kept = compare(db, "ada's", [ADA])
    compare(db, "bob's", ["user bob"])
    sharing.choose(db, ADA, "none")
    assert waiting(db) == {"bob's"}
    sharing.choose(db, ADA, "show")
    assert waiting(db) == {"ada's"}
    assert comparisons.get(db, kept).owners == (ADA,)


def test_a_judge_is_not_held_against_what_is_not_shown(db: Store) -> None:
    compare(db, "ada's", [ADA], voted=True)
    assert len(decided.list_decided(db, "assistant")) == 1
    sharing.choose(db, ADA, "none")
    assert decided.list_decided(db, "assistant") == []


@pytest.mark.parametrize("share", ["none", "show"])
def test_nothing_is_trained_on_that_is_not_shared_for_it(db: Store, tmp_path: Path, share: Share) -> None:
    for who in ("ada", "bob"):
        for n in range(3):
            compare(
                db, f"{who} compares {n}", [owner_of(who, None)], voted=True, better=f"Better for {who}, {n}."
            )
            conversations.like(db, say(db, who, f"{who} likes {n}"), True, "rob")
    texts = {method: trained_on(db, tmp_path, method) for method in ("dpo", "sft", "kto")}
    assert ("ada compares" in texts["dpo"], "ada likes" in texts["sft"], "ada likes" in texts["kto"]) == (
        True, True, True,
    )  # fmt: skip
    sharing.choose(db, ADA, share)
    for method in ("dpo", "sft", "kto"):
        text = trained_on(db, tmp_path, method)
        assert "ada" not in text
        assert "bob" in text
    dropped = snapshots.build(db, tmp_path / "s", "assistant", "dpo").report["dropped"]
    assert dropped[selection.WITHHELD] == 9
    sharing.choose(db, ADA, "train")
    assert "ada compares" in trained_on(db, tmp_path, "dpo")


def test_a_rewrite_is_not_trained_on_where_who_wrote_it_shares_nothing(db: Store, tmp_path: Path) -> None:
    for n in range(3):
        made = comparisons.create(db, f"bob's {n}", PAIR, "assistant", owners=["user bob"])
        comparisons.vote(db, made.id, "a", "ada", better="Ada's own words.", owner=ADA)
    sharing.choose(db, ADA, "none")
    assert "Ada's own" not in trained_on(db, tmp_path, "sft")
    text = trained_on(db, tmp_path, "dpo")
    assert "Ada's own" not in text
    assert "bob's" in text, "a vote holds no words"


def test_dislikes_by_a_vote_are_not_trained_on_where_the_prompt_is_not_shared(
    db: Store, tmp_path: Path
) -> None:
    for who in ("ada", "bob"):
        made = comparisons.create(db, f"{who} asks", PAIR, "assistant", owners=[owner_of(who, None)])
        comparisons.vote(db, made.id, "both_bad", "rob")
    assert "ada asks" in trained_on(db, tmp_path, "kto")
    sharing.choose(db, ADA, "show")
    text = trained_on(db, tmp_path, "kto")
    assert "ada asks" not in text
    assert "bob asks" in text


def test_a_row_that_others_support_too_stays(db: Store, tmp_path: Path) -> None:
    compare(db, "both", [ADA], voted=True)
    compare(db, "both", ["user bob"], voted=True)
    compare(db, "other", ["user cleo"], voted=True)
    assert scalar(db.read(), "select count(*) from pairs") == 2
    sharing.choose(db, ADA, "none")
    assert "both" in trained_on(db, tmp_path, "dpo")
    sharing.choose(db, "user bob", "none")
    assert "both" not in trained_on(db, tmp_path, "dpo")
    pairs.import_rows(db, [{"prompt": "both", "chosen": "yes", "rejected": "no"}], "import")
    assert "both" in trained_on(db, tmp_path, "dpo"), "who imports answers for it"


def test_an_erasure_takes_the_choice_and_the_name_along(db: Store) -> None:
    users.create(db, "ada", ["chat"])
    sharing.choose(db, ADA, "none")
    conversations.like(db, say(db, "bob", "Hi"), True, "bob")
    say(db, "ada", "Hi")
    compare(db, "Hi", [ADA, "user bob"], voted=True)
    assert erasure.is_known(db, "ada")
    erasure.erase_person(db, "ada")
    assert not erasure.is_known(db, "ada")
    assert sharing.list_all(db) == []
    assert not [row for row in fetch_all(db.read(), "from comparisons") if "user ada" in row["owners"]]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["say", "draw", "type", "vote", "like", "share"]),
        st.sampled_from(["ada", "bob", "cleo"]),
        st.sampled_from(SHARES),
        st.sampled_from(["own", "shared"]),
    ),
    max_size=25,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=ACTIONS, default=st.sampled_from(SHARES))
def test_no_word_of_who_keeps_it_reaches_queue_or_snapshot(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, Share, str]], default: Share
) -> None:
    home = tmp_path_factory.mktemp("share")
    with Store.open(home / "store.duckdb") as db:
        db.share = default
        shares: dict[str, Share] = {}
        open_ids: list[str] = []
        history: list[str] = []
        said: list[str] = []
        for step, (what, who, share, where) in enumerate(actions):
            text = f"{who}-words-{step}"
            if what == "say":
                before = history if where == "shared" else []
                said.append(say(db, who, *before, text, given=None if where == "own" else "team"))
                if where == "shared":
                    history += [text, f"Answer {step}."]
            elif what == "draw" and (prompts := conversations.recent_prompts(db)):
                owners = prompt_owners.of_drawn(db, prompts[0])
                made = comparisons.create(db, prompts[0], PAIR, "assistant", owners=owners)
                open_ids.append(made.id)
            elif what == "type":
                open_ids.append(compare(db, text, [owner_of(who, None)]))
            elif what == "vote" and open_ids:
                better = f"{who}-words-better-{step}"
                owner = owner_of(who, None)
                comparisons.vote(db, open_ids.pop(), "b", who, better=better, owner=owner)
            elif what == "like" and said:
                conversations.like(db, said[-1], step % 2 == 0, who)
            elif what == "share":
                sharing.choose(db, owner_of(who, None), share)
                shares[who] = share
        held = {who: shares.get(who, default) for who in ("ada", "bob", "cleo")}
        shown = " ".join(message.content for prompt in conversations.recent_prompts(db) for message in prompt)
        shown += " ".join(waiting(db))
        taught = " ".join(trained_on(db, home, method) for method in ("dpo", "sft", "kto"))
        for who, share in held.items():
            assert share != "none" or f"{who}-words" not in shown
            assert share == "train" or f"{who}-words" not in taught


def test_older_stores_learn_whose_their_comparisons_are(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with Store.open(path, version=17) as db, db.atomic() as cursor:
        users_of = "insert into users values ('ada', 'user-1', ['chat', 'rater'], null, now())"
        cursor.execute(users_of)
        for statement in _OLDER:
            cursor.execute(statement)
    with Store.open(path) as db:
        rows = fetch_all(db.read(), "select id, owners from comparisons order by id")
        assert {row["id"]: row["owners"] for row in rows} == {
            "cmp-drawn": [ADA],
            "cmp-gold": None,
            "cmp-key": ["key key-1"],
            "cmp-local": [""],
            "cmp-shadow": [ADA],
            "cmp-typed": ["user bob"],
        }
        votes = fetch_all(db.read(), "select owner from votes")
        assert [row["owner"] for row in votes] == [ADA]
        sharing.choose(db, ADA, "none")
        assert "Ada's question" not in waiting(db)


_OLDER = [
    "insert into conversations (id, user_name, deployment, created_at, updated_at, given_id) "
    "values ('v1', 'ada', 'assistant', now(), now(), 'v1')",
    "insert into messages values ('m1', 'v1', null, 'user', 'Ada''s question', now())",
    "insert into completions (id, conversation_id, prompt_id, user_name, created_at) "
    "values ('c1', 'v1', 'm1', 'ada', now())",
    "insert into keys (id, name, roles, secret_hash, hint, created_at) "
    "values ('key-1', 'ci', ['rater'], 'x', 'tt-x', now())",
    """
    insert into comparisons (id, messages, prompt_hash, versus_hash, source, asked_by, state, votes_wanted, created_at,
        gold)
    select id, [{'role': 'user', 'content': text}], text, id, source, who, 'open', 1, now(), gold
    from (values
        ('cmp-drawn', 'Ada''s question', 'drawn', 'bob', null),
        ('cmp-typed', 'Bob''s', 'typed', 'bob', null),
        ('cmp-key', 'The key''s', 'rank', 'ci', null),
        ('cmp-local', 'Mine', 'typed', 'local', null),
        ('cmp-shadow', 'Something that the store redacted', 'shadow', null, null),
        ('cmp-gold', 'Gold', 'rank', null, 'a')
    ) as given (id, text, source, who, gold)
    """,
    """
    insert into candidates (comparison_id, side, content, completion_id)
    select id, unnest(['a', 'b']), 'text', unnest([if(source = 'shadow', 'c1', null), null]) from comparisons
    """,
    "insert into votes (id, comparison_id, rater, choice, tags, created_at) "
    "values ('vote-1', 'cmp-typed', 'ada', 'a', [], now())",
]  # fmt: skip
