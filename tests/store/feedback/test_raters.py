"""Rater quality by hand-made votes, and redaction."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from store.conversations import conversations, stored_conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db import redaction
from store.db.database import Store
from store.errors import Invalid
from store.feedback import comparisons, raters
from store.feedback.comparisons import Candidate
from store.training_data import pairs
from store.values import Message


def ask(
    db: Store, verdicts: dict[str, str], gold: str | None = None, seconds: dict[str, float] | None = None
) -> None:
    made = comparisons.create(
        db, "Q", [Candidate("good"), Candidate("bad")], "assistant", votes_wanted=len(verdicts), gold=gold
    )
    for rater, verdict in verdicts.items():
        side = verdict if verdict in ("tie", "both_bad") else "a" if made.a.content == verdict else "b"
        if verdict == "left":
            side = "a"
        comparisons.vote(db, made.id, side, rater, seconds=(seconds or {}).get(rater))


def test_alpha_by_hand(db: Store) -> None:
    nothing = {"alpha": None, "comparisons": 0, "votes": 0, "judged_twice": 0, "same": None}
    assert raters.alpha(db.read()) == nothing
    # Ten votes in five pairs, four pairs agree. Observed disagreement 2/10; with k of one value and 10 - k of the
    # other expected disagreement is 2 k (10 - k) / 90. Sides are drawn, so only ties give fixed values here.
    for verdicts in ("tie tie", "tie tie", "good good", "good good", "tie good"):
        one, other = verdicts.split()
        ask(db, {"ada": one, "bob": other})
    found = raters.alpha(db.read(), "assistant")
    assert (found["comparisons"], found["votes"]) == (5, 10)
    assert (found["judged_twice"], found["same"]) == (2, 1.0)  # ties say nothing of flips
    assert 0.3 < found["alpha"] < 0.75
    assert raters.alpha(db.read(), "poet")["votes"] == 0


def test_gold_questions_say_nothing_of_agreement(db: Store) -> None:
    """Ordinary questions disagree half the time; one gold question that eight got right hid that."""
    for n in range(10):
        ask(db, {"ada": "good", "bob": "good" if n % 2 else "bad"})
    before = raters.alpha(db.read())
    ask(db, {f"rater {n}": "good" for n in range(8)}, gold="first")
    assert raters.alpha(db.read()) == before
    assert (before["judged_twice"], before["same"]) == (10, 0.5)


def test_an_honest_rater_is_seldom_flagged_for_position_however_often_one_looks() -> None:
    draw, flagged = random.Random(4), 0
    for _ in range(400):
        a = b = 0
        for _ in range(300):
            a, b = (a + 1, b) if draw.random() < 0.5 else (a, b + 1)
            if raters.lopsidedness(a, b) >= 1 / raters.UNLIKELY and abs(a / (a + b) - 0.5) >= raters.LOPSIDED:
                flagged += 1
                break
    assert flagged <= 9  # 1% of 400 stories, and what chance adds
    assert raters.lopsidedness(0, 0) == 1
    assert raters.lopsidedness(1, 0) == pytest.approx(1.0)
    assert raters.lopsidedness(2, 0) == pytest.approx(4 / 3)
    assert raters.lopsidedness(14, 0) > 100 > raters.lopsidedness(40, 30)


def test_bad_raters_are_flagged_and_good_ones_are_not(db: Store) -> None:
    for n in range(14):
        ask(
            db,
            {"ada": "good", "bob": "good", "cy": "good", "lefty": "left"},
            seconds=dict.fromkeys(["ada", "bob", "cy"], 20.0) | {"lefty": 1.0},
        )
        ask(db, {"ada": "good", "lefty": "bad" if n % 2 else "left"}, gold="first")
    found = {row.name: row for row in raters.report(db)}
    assert found["ada"].flags == found["bob"].flags == ()
    assert (found["ada"].gold_right, found["ada"].gold_total, found["ada"].agreement) == (
        14,
        14,
        pytest.approx(found["ada"].agreement),
    )
    assert found["bob"].agreement == 1.0
    assert {"fails gold", "too fast"} <= set(found["lefty"].flags)
    assert found["lefty"].share_a is not None
    assert found["lefty"].share_a > 0.6
    assert found["ada"].median_seconds == 20.0
    assert raters.report(db, "poet") == []


def test_report_lists_agreement_and_languages(db: Store, tmp_path: Path) -> None:
    ask(db, {"ada": "good", "bob": "good"})
    ask(db, {"ada": "tie", "bob": "good"})
    rows = [
        {
            "prompt": f"Wie ist das Wetter heute in Hamburg, und wie wird es morgen? {n}",
            "chosen": "x",
            "rejected": "y",
        }
        for n in range(20)
    ]
    pairs.import_rows(db, rows, "test")
    made = snapshots.build(db, tmp_path, "assistant", "dpo", near_duplicates=None, mix={"import": 1})
    assert made.report["languages"]["de"] > 0.8
    assert made.report["agreement"]["comparisons"] == 2
    page = (Path(made.directory) / "report.md").read_text()
    assert "Krippendorff" in page
    assert "| de |" in page


PLAIN = "The meeting is at 12:30 on 2024-01-05 in room 4415."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, PLAIN),
        ("Write to ada.l+x@mail.example.org now", "Write to [email] now"),
        ("Call +49 30 901820 or (415) 555-2671.", "Call [phone] or [phone]."),
        ("key AKIAIOSFODNN7EXAMPLE ok", "key [secret] ok"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[secret]"),
        ("see https://user:pa55word@host/x", "see https://user:[secret]@host/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- end", "[secret] end"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    redact = redaction.redactor()
    assert redact(text) == expected
    assert redact(redact(text)) == redact(text)


def test_kinds_can_be_chosen() -> None:
    assert redaction.redactor(["phone"])("a@b.org +49 30 901820") == "a@b.org [phone]"
    with pytest.raises(Invalid, match="email"):
        redaction.redactor(["names"])


def test_nothing_that_is_redacted_reaches_the_file(db: Store) -> None:
    db.redact = redaction.redactor()
    mail = "ada@mail.example.org"
    conversations.record_turns(db, [Turn("c1", "conv", (Message("user", f"I am {mail}"),), f"Hi {mail}")])
    made = comparisons.create(db, f"to {mail}", [Candidate(f"x {mail}"), Candidate("y")], "assistant")
    comparisons.vote(db, made.id, "a", "ada", better=f"z {mail}", tags=[mail, f"from {mail}", "a@b.org"])
    rows = [
        {"prompt": f"p {mail}", "chosen": "x", "rejected": "y", "tags": [mail, "plain"]},
        {"prompt": "p", "chosen": "a@b.org", "rejected": "c@d.org"},
    ]
    result = pairs.import_rows(db, rows, "test")
    assert (result.accepted, "redacted" in result.rejected[0].why) == (1, True)
    assert stored_conversations.get(db, "conv").messages[0].content == "I am [email]"
    assert comparisons.votes(db, made.id)[0].tags == ("[email]", "from [email]")
    assert pairs.list_page(db)[0].pair.tags == ("[email]", "plain")
    db.read().execute("checkpoint")
    assert mail.encode() not in db.path.read_bytes()
