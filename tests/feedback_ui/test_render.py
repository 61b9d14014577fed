"""Rendering as pure functions: what a person reads, and that nothing from outside becomes markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from feedback_ui import days, dialogue, html, texts
from feedback_ui.chat.actions import Candidates
from feedback_ui.chat.conversation_list import conversations
from feedback_ui.chat.reasons import reason
from feedback_ui.chat.shared import shared_page
from feedback_ui.frame import render as frame
from feedback_ui.frame.actions import Readiness
from feedback_ui.model_text import text_content
from feedback_ui.ops.access import render as people
from feedback_ui.ops.audit import render as audit
from feedback_ui.ops.data import imports_render as imports
from feedback_ui.ops.data import jobs_render
from feedback_ui.ops.data.imports_actions import Import
from feedback_ui.ops.overview import render as overview
from feedback_ui.ops.overview.evidence import evidence
from feedback_ui.ops.overview.first_steps import first_steps
from feedback_ui.ops.releases import render as releases
from feedback_ui.ops.releases import tree
from feedback_ui.ops.releases.comparisons import comparisons
from feedback_ui.ops.training import render as runs
from feedback_ui.ops.training.actions import Followed
from feedback_ui.rank import differences
from feedback_ui.rank import render as rank_render
from feedback_ui.rank.actions import Table
from tests.feedback_ui.double.rows import used
from trimtab_client import ApiError

EVIL = "<img src=x onerror=alert(1)>"


def outcome(rejected: list[dict], broke_off: str | None = None, accepted: int = 1) -> dict:
    counts = {"accepted": accepted, "duplicates": 0, "rejected_count": len(rejected), "dry_run": False}
    return {**counts, "rejected": rejected, "broke_off": broke_off, "format": "trl", "container": "jsonl"}


def test_durations_and_times() -> None:
    assert [html.duration(s) for s in (0.42, 12.3, 65, 3600, 7800, 200_000)] == [
        "0.4 s", "12 s", "1 min 5 s", "1 h", "2 h 10 min", "2 d",
    ]  # fmt: skip
    now = datetime.now(UTC)
    assert ">3 min ago<" in html.ago((now - timedelta(seconds=185)).isoformat(), now)
    assert ">in 2 h<" in html.ago((now + timedelta(seconds=7300)).isoformat(), now)
    assert "never" in html.ago(None)


@pytest.mark.parametrize(
    ("status", "code", "message", "advice"),
    [
        (400, "BadRequestError", "This model's maximum context length is 8 tokens.", texts.CHAT_WHY_FULL),
        (429, "insufficient_quota", "ada has used its 10 tokens a day", texts.CHAT_WHY_QUOTA),
        (429, "rate_limit_exceeded", "try again in 3 s.", texts.CHAT_WHY_LIMIT),
        (502, "stream_failed", "The engine stopped in the middle of the answer.", texts.CHAT_WHY_ENGINE),
        (422, "invalid", "temperature is too hot", ""),
    ],
)
def test_a_failed_answer_says_what_to_do(status: int, code: str, message: str, advice: str) -> None:
    said = reason(ApiError(status, code, message))
    assert said.startswith(html.esc(message.rstrip(".")))
    assert said.endswith(html.esc(advice) or ".")


def test_everything_from_outside_is_escaped() -> None:
    row = {
        "id": EVIL,
        "name": EVIL,
        "state": EVIL,
        "method": EVIL,
        "error": EVIL,
        "log_tail": [EVIL],
        "title": EVIL,
    }
    shown = [
        conversations(
            [row | {"folder": EVIL}, row | {"pinned": True}], None, EVIL, [row, row | {"id": "x"}], "x"
        ),
        shared_page({"title": EVIL, "messages": [{"role": EVIL, "content": EVIL}]}),
        dialogue.messages([{"role": EVIL, "content": EVIL}]),
        rank_render.outcome(Table(Candidates("c", EVIL, EVIL), revealed={"a": EVIL, "b": EVIL})),
        rank_render.guidelines(EVIL),
        rank_render.skip_menu([EVIL]),
        rank_render.history([{"choice": EVIL, "strength": EVIL, "asked": EVIL, "comparison": EVIL}]),
        differences.marked(EVIL, "x"),
        differences.changed(EVIL, "x") + differences.changed("x", EVIL),
        differences.same_length(EVIL, 1),
        dialogue.readiness(Readiness(False, (EVIL,), (EVIL,))),
        overview.engines([row]),
        runs.progress(
            Followed(
                {**row, "params": {EVIL: EVIL}, "gate_decision": {"passed": True, "reasons": [EVIL]}}, []
            )
        ),
        runs.progress(Followed({**row, "activity": {"phase": EVIL, "stage": "sft"}}, [])),
        runs.runs([row], None),
        releases.releases([{**row, "system_prompt": EVIL, "lane": EVIL, "adapter": EVIL}]),
        people.usage([used(EVIL, EVIL, 1, 1)]),
        audit.audit([{"actor": EVIL, "action": EVIL, "subject": EVIL, "detail": {EVIL: EVIL}}]),
        imports.imported(
            Import(dry_run=False, result=outcome([]) | {"unused_columns": {EVIL: 1}, "rules": {EVIL: 1}})
        ),
        imports.imported(Import(dry_run=False, result=outcome([{"row": 1, "why": EVIL}], broke_off=EVIL))),
        people.erased({"removed": {EVIL: 1}, "runs": [EVIL], "stopped": [EVIL]}),
        frame.header("chat", {"name": EVIL, "roles": ["ops"], "mode": "multi-user"}),
    ]
    for markup in shown:
        assert "<img" not in markup


def test_an_import_shows_the_columns_it_did_not_use_and_the_rules_it_followed() -> None:
    result = outcome([]) | {"unused_columns": {"mood": 3}, "rules": {"system_from_column": 1200}}
    shown = imports.imported(Import(dry_run=False, result=result))
    assert "mood" in shown
    assert "a system column is the system message" in shown
    assert "1,200" in shown


def test_the_bar_offers_only_what_the_roles_open() -> None:
    bar = frame.header("chat", {"name": "ada", "roles": ["chat"], "mode": "multi-user"})
    assert "./rank" not in bar
    assert "./ops" not in bar
    assert "Sign out" in bar
    assert "./rank" in frame.header("chat", {"name": "bob", "roles": ["rater"], "mode": "multi-user"})


def test_before_the_vote_nothing_names_a_release() -> None:
    table = Table(Candidates("cmp-1", "one", "two", ({"role": "user", "content": "q"},)))
    assert table.pair is not None
    assert rank_render.outcome(table) == ""
    assert "assistant@" not in dialogue.messages(table.pair.messages)


def test_a_timeline_shows_past_present_and_what_is_ahead() -> None:
    queued = {"state": "queued", "at": "2026-01-01T00:00:00Z"}
    training = {"state": "training", "at": "2026-01-01T00:00:02Z"}
    run = {"state": "training", "rollout": "promote", "transitions": [queued, training]}
    shown = runs.timeline(run)
    assert shown.index("queued") < shown.index("training") < shown.index("publishing") < shown.index("stable")
    assert 'aria-current="step"' in shown
    assert "2.0 s" in shown
    end = {"state": "failed", "at": "2026-01-01T00:01:00Z"}
    failed = {**run, "state": "failed", "transitions": [queued, training, end]}
    assert "publishing" not in runs.timeline(failed)


def test_a_run_shows_which_rows_it_went_without_and_its_notes() -> None:
    run = {"id": "run-1", "left_out": {"refused_by_template": 3, "answer_cut": 1}, "notes": [EVIL]}
    shown = runs._left_out(run)
    assert "3 refused by template, 1 answer cut" in shown
    assert EVIL not in shown
    assert html.esc(EVIL) in shown
    assert runs._left_out({"id": "run-1"}) == ""


def test_a_report_shows_both_releases_and_marks_only_clear_differences() -> None:
    def estimate(value: float, low: float, high: float) -> dict[str, float]:
        return {"value": value, "low": low, "high": high, "n": 40}

    def row(difference: dict[str, float]) -> dict[str, dict[str, float]]:
        return {
            "release": estimate(0.7, 0.5, 0.9),
            "against": estimate(0.6, 0.4, 0.8),
            "difference": difference,
        }

    def shown(name: str, difference: dict[str, float]) -> str:
        report = {"release": "assistant@2", "against": "assistant@1", "measures": {name: row(difference)}}
        return releases.measures(report)

    assert "0.500 to 0.900" in shown("loss", estimate(0.1, -0.1, 0.3))
    assert "tt-mark" not in shown("loss", estimate(0.1, -0.1, 0.3))
    assert "tt-mark-bad" in shown("loss", estimate(0.2, 0.1, 0.3))
    assert "tt-mark-good" in shown("preference_accuracy", estimate(0.2, 0.1, 0.3))
    assert "tt-mark" not in shown("drift", estimate(0.2, 0.1, 0.3))
    assert releases.measures({}) == ""


def test_runs_under_way_and_canaries_on_trial_are_counted_apart() -> None:
    trial = {"name": "assistant", "stable": "assistant@1", "canary": "assistant@2", "weight": 0.25}
    shown = overview.tiles({"active_runs": [], "deployments": [trial]})
    assert "<span>Runs under way</span><b>0</b>" in shown
    assert "<span>Canaries on trial</span><b>1</b>" in shown
    assert "assistant@2 at 25%" in shown
    shown = overview.tiles({"active_runs": ["run-1"], "deployments": [{**trial, "canary": None}]})
    assert "<span>Runs under way</span><b>1</b>" in shown
    assert "<span>Canaries on trial</span><b>0</b>" in shown


def test_shares_of_the_traffic_add_up() -> None:
    shown = overview.deployments(
        [{"name": "assistant", "stable": "assistant@1", "canary": "assistant@2", "weight": 0.25}]
    )
    assert "75%" in shown
    assert "25%" in shown
    assert "Rolling back ends the canary" in shown


def test_phases_between_steps_are_reported() -> None:
    run = {"id": "run-1", "state": "training", "step": 0, "total_steps": None}

    def shown(**activity: object) -> str:
        return runs.progress(Followed({**run, "activity": activity}, []))

    scoring = shown(phase="reference", done=30, of=60)
    assert "Scoring the rows with the reference" in scoring
    assert "30 of 60" in scoring
    assert "width:50.0%" in scoring
    first = shown(phase="training", done=1, of=4, stage="sft")
    assert "First on the chosen answers (SFT): training" in first
    assert "1 of 4" in first
    assert "Loading the model" in shown(phase="loading")
    steps = runs.progress(
        Followed(
            {**run, "step": 2, "total_steps": 8, "activity": {"phase": "training", "done": 2, "of": 8}}, []
        )
    )
    assert "Step 2 of 8" in steps
    assert "Training steps" in steps


def test_exhausted_budget_is_highlighted() -> None:
    shown = people.usage([used("user", "ada", 120, 48_200), used("key", "ci", 9, 1_500, tokens=1_000)])
    ada, ci = shown.split("<tr>")[2:]
    assert "48,200" in ada
    assert "498 requests today" in ada
    assert "this month" not in ada
    assert ' tt-bad"' not in ada
    assert '<span class="tt-badge tt-bad">0 tokens this month</span>' in ci
    assert "Nobody has asked" in people.usage([])


def test_an_import_that_took_nothing_is_no_success() -> None:
    refused = [{"row": 1, "why": "chosen: missing"}]
    for accepted, tone in ((0, "tt-bad"), (1, "tt-warn")):
        assert tone in imports.imported(Import(False, result=outcome(refused, accepted=accepted)))
    assert "tt-good" in imports.imported(Import(False, result=outcome([])))
    many = outcome(refused) | {"rejected_count": 1200}
    assert "The first 1 of 1,200 refused rows" in imports.imported(Import(False, result=many))


def test_canary_votes_show_evidence_interval_and_decisive_raters() -> None:
    votes = {
        "wins": 20, "losses": 12, "ties": 2, "evidence_for": 4.2, "evidence_against": 1.0, "needed": 32.9,
        "needed_against": 20, "min_votes": 30, "weighed": "team", "blocks": 11, "win_rate": 0.66, "low": 0.4,
        "high": 0.9, "others": 3, "undecided_without": [EVIL],
    }  # fmt: skip
    page = overview.deployments([{"name": "assistant", "stable": "a@1", "canary": "a@2", "votes": votes}])
    assert "4.2 (33 promotes), worse 1.0 (20 rolls back)" in page
    assert "66%, 40% to 90% whenever one looks, over 11 rounds" in page
    assert "3 further votes do not decide" in page
    assert "undecided" in page
    assert EVIL not in page


def test_every_schedule_is_shown_with_its_own_rows() -> None:
    plan = {
        "name": "schedules.poet",
        "deployment": "poet",
        "method": "kto",
        "recipe": "thumbs",
        "rollout": "canary",
    }
    shown = overview.schedules(
        [{**plan, "rows": "likes", "new_rows": 4, "every_pairs": 20}, {**plan, "deployment": EVIL}]
    )
    assert "New likes" in shown
    assert "4 of 20" in shown
    assert "thumbs" in shown
    assert shown.count("<dl") == 2
    assert EVIL not in shown
    assert "Off." in overview.schedules([])


def test_an_evaluation_links_its_report_as_a_page() -> None:
    report = {"measures": {"people_win_rate": {"release": {"value": 0.7, "low": 0.5, "high": 0.9, "n": 12}}}}
    row = {"id": "eval-1", "release": "assistant@2", "state": "done", "suite": "quick", "report": report}
    shown = releases.evaluations([row])
    assert '<a href="./api/evals/eval-1/report.html"' in shown
    assert "people win rate" in shown
    assert "<a " not in releases.evaluations([row | {"report": None, "state": "running"}])


def test_a_comparison_shows_ways_by_cost_and_what_is_recommended() -> None:
    won = {"value": 0.85, "low": 0.7, "high": 0.93, "n": 40}
    speed = {"prompt_tokens": {"median": 31.0}, "tokens_per_second": {"median": 20.5}}
    models = {name: {"model": EVIL, "speed": speed, "measures": {}} for name in ("base", "prompt")}
    ways = [
        {"way": "base", "quality": None, "cost": {"seconds_per_day": 0.0, "training_minutes": None}},
        {"way": "prompt", "quality": won, "gate": "pass", "passes": True, "cost": {"seconds_per_day": 12.0}},
    ]
    result = {"models": models, "ways": ways, "recommended": "prompt", "why": EVIL}
    job = {"id": "job-1", "kind": "releases.compare", "state": "done", "params": {"deployment": "assistant"}}
    shown = comparisons([job | {"result": result}])
    assert "Recommended: prompt." in shown
    assert "0.700 to 0.930" in shown
    assert '<a href="./api/releases/compare/job-1/report.html"' in shown
    assert "20.5" in shown
    assert EVIL not in shown
    progress = {"done": 3, "total": 9, "doing": "measuring", "seconds_left": 30.0}
    running = comparisons([job | {"state": "running", "progress": progress}])
    assert "measuring: 3 of 9, about 30 s left" in running
    assert "<a " not in running
    assert texts.WAYS_EMPTY in comparisons([])


def test_a_search_shows_what_it_chose_on_and_what_it_was_tested_on() -> None:
    def share(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 20}

    tested = {"prompt": {"measures": {"win_rate": {"release": share(0.7)}}}}
    best = [{"instruction": EVIL, "shots": 0, "development": share(0.8)}]
    found = {
        "best": best,
        "winner": "built-in 4",
        "release": "assistant@2",
        "releases": {"prompt": "assistant@2"},
    }
    job = {"id": "job-1", "kind": "prompts.search", "state": "done", "params": {"deployment": "assistant"}}
    shown = comparisons([job | {"result": found | {"test": {"models": tested}}}])
    assert "assistant@2 was made of the best prompt" in shown
    assert "0.700 to 0.900" in shown
    assert "0.600 to 0.800" in shown
    assert EVIL not in shown
    nothing = found | {"winner": None, "release": None, "best": [], "test": None}
    assert texts.WAYS_NOTHING in comparisons([job | {"result": nothing}])


def test_lineage_says_who_decided_what_a_release_learned() -> None:
    decided = [{"kind": "people", "rows": 12, "share": 0.8}, {"kind": "rules", "rows": 40, "share": 0.2}]
    shown = releases.lineage({"release": {"ref": "assistant@2"}, "decided_by": decided})
    assert "Who decided" in shown
    assert "rules" in shown
    assert "20%" in shown


def test_a_job_that_failed_says_why() -> None:
    row = {"id": "job-1", "kind": "pairs.make", "state": "failed", "error": "the judge <is> wrong"}
    assert "the judge &lt;is&gt; wrong" in jobs_render.jobs([row])
    assert "No job yet" in jobs_render.jobs([])


@pytest.mark.parametrize(
    ("text", "other"),
    [("The sea is salty.", "The sky is blue."), ("", "x"), ("a <b> & c\nd", "a\n"), ("same", "same")],
)
def test_differences_show_every_character(text: str, other: str) -> None:
    assert text_content(differences.marked(text, other)) == text
    kept = re.sub("<del>.*?</del>", "", differences.changed(other, text), flags=re.DOTALL)
    assert text_content(kept) == text


def test_differences_mark_what_the_other_text_lacks() -> None:
    shown = differences.marked("The sea is salty.", "The sky is salty.")
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", shown) == ["sea"]
    assert "<mark" not in differences.marked("one", "one")
    assert (
        differences.closest("The sea is blue.", ["The sky was red", "The sea is salty."])
        == "The sea is salty."
    )
    long = "word " * (differences.MAX_WORDS + 1)
    assert texts.RANK_TOO_LONG in differences.marked(long, "x")


def test_the_same_length_is_that_of_the_shortest() -> None:
    assert differences.shortest(["one two three", "one two"]) == 2
    assert texts.RANK_CUT.format(words=1) in differences.same_length("one two three", 2)
    assert text_content(differences.same_length("one  two", 2)) == "one  two"


def test_first_steps_name_the_next_one_and_are_gone_when_done() -> None:
    steps = [
        {"name": "chat", "have": 1, "wanted": 1, "done": True},
        {"name": "rank", "have": 4, "wanted": 10, "done": False},
        {"name": "train", "have": 0, "wanted": 1, "done": False},
    ]
    shown = first_steps(steps)
    assert shown.index("Done: ") < shown.index("Next: ") < shown.index("Later: ")
    assert "(4 of 10)" in shown
    assert "1 of 3 done" in shown
    assert first_steps([{**step, "done": True} for step in steps]) == ""
    assert first_steps([]) == ""


def test_next_run_says_when_and_how_many_rows_wait() -> None:
    plan = {"every_pairs": 200, "new_rows": 34, "next_at": None}
    shown = overview.tiles({"schedules": [plan]})
    assert "at 200 rows" in shown
    assert "34 of 200 rows waiting" in shown
    assert "only by hand" in overview.tiles({})


def test_evidence_is_drawn_from_the_first_block_on() -> None:
    points = [
        {"at": "2026-11-01T10:00:00Z", "win_rate": None, "low": 0, "high": 1},
        {"at": "2026-11-02T10:00:00Z", "win_rate": 0.6, "low": 0.3, "high": 0.9},
        {"at": "2026-11-03T10:00:00Z", "win_rate": 0.7, "low": 0.5, "high": 0.8},
    ]
    shown = evidence(points)
    assert "now 70%, between 50% and 80%" in shown
    assert "2026-11-02 10:00" in shown
    assert "0.0,40.0 600.0,30.0" in shown, "the line goes from 0.6 to 0.7"
    assert evidence(points[:1]) == ""
    assert evidence(points[1:2]).count("polyline") == 1


def test_tree_puts_branches_below_what_they_were_made_from() -> None:
    rows = [
        {"release": "a@1", "made_by": "base", "parents": []},
        {"release": "a@2", "made_by": "training", "parents": ["a@1"]},
        {"release": "a@3", "made_by": "prompt", "parents": ["a@1"]},
        {"release": "a@4", "made_by": "blend", "parents": ["a@2", "a@3"]},
    ]
    shown = tree.tree(rows, [{"name": "a@2", "lane": "stable"}])
    assert shown.count("<ul>") == 2
    assert "combined from a@2, a@3" in shown
    assert [shown.count(f">{row['release']}<") for row in rows] == [1, 1, 1, 1]


def test_differences_show_fields_and_lines() -> None:
    found = {
        "release": "a@2", "against": "a@1", "prompt": [" same", "-old <b>", "+new"],
        "fields": [{"name": "sampling.temperature", "before": None, "after": 0.9}],
    }  # fmt: skip
    shown = tree.difference(found)
    assert "<del>-old &lt;b&gt;</del><ins>+new</ins>" in shown
    assert "<td>–</td><td>0.9</td>" in shown
    assert "They differ in nothing" in tree.difference({"fields": [], "prompt": []})


def test_days_name_the_field_and_what_is_accepted() -> None:
    assert (days.start_of("From", " 2026-11-01 "), days.end_of("To", "2026-11-01")) == (
        "2026-11-01T00:00:00+00:00",
        "2026-11-02T00:00:00+00:00",
    )
    assert days.start_of("From", " ") is None
    for wrong in ("yesterday", "2026-13-01", "9999-12-31"):
        with pytest.raises(ApiError, match="no day") as refused:
            days.end_of("To", wrong)
        assert (refused.value.field, refused.value.accepted) == ("To", "YYYY-MM-DD")
