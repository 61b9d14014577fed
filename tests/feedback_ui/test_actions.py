"""Actions as functions: over a real client and the contract's double, without a browser."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feedback_ui import texts
from feedback_ui.chat import actions as chat
from feedback_ui.conversation import Talk
from feedback_ui.errors import explain
from feedback_ui.frame.actions import readiness
from feedback_ui.numbers import optional_float, optional_int
from feedback_ui.ops import actions as ops
from feedback_ui.ops.access import actions as people
from feedback_ui.ops.data import actions as data
from feedback_ui.ops.data import imports_actions as imports
from feedback_ui.ops.training import actions as training
from feedback_ui.rank import actions as rank
from tests.feedback_ui.conftest import Screens
from trimtab_client import ApiError, AsyncClient


def run(screens: Screens, action: Any, *args: Any, **kwargs: Any) -> Any:
    """Call one action with a client of the double."""

    async def go() -> Any:
        async with AsyncClient(screens.url) as client:
            return await action(client, *args, **kwargs)

    return asyncio.run(go())


async def whole(client: AsyncClient, talk: Talk, model: str = "assistant", **options: Any) -> list[Any]:
    return [progress async for progress in chat.answer(client, talk, model, options)]


class TestChat:
    def test_answer_streams_and_names_its_release(self, screens: Screens) -> None:
        steps = run(screens, whole, Talk().said("Explain tides"))
        last = steps[-1].talk
        assert last.turns[-1].content.strip() == screens.stub.reply
        assert (last.turns[-1].release, last.turns[-1].lane) == ("assistant@1", "stable")
        assert last.conversation in screens.stub.conversations

    @pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
    def test_thinking_and_tool_calls_stream_in_pieces(self, screens: Screens, name: str) -> None:
        function = {"name": "weather", "arguments": ""}
        screens.stub.deltas = [
            {"role": "assistant", "content": ""},
            {name: "I have "},
            {name: "to look."},
            {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": function}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"town":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]},
        ]
        steps = run(screens, whole, Talk().said("Ulm?"))
        turn = steps[-1].talk.turns[-1]
        assert turn.thinking == "I have to look."
        assert turn.content == ""
        assert turn.calls == [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Ulm"}'}}
        ]
        assert turn.thought_s is not None
        assert turn.first is not None
        assert turn.first <= turn.seconds
        assert all(step.talk.turns[-1].thinking for step in steps)

    def test_a_loading_engine_is_waited_for(self, screens: Screens) -> None:
        screens.stub.ready = False

        async def go() -> tuple[list[Any], float]:
            async with AsyncClient(screens.url) as client:
                steps, began = [], time.monotonic()
                async for progress in chat.answer(client, Talk().said("hi"), "assistant", {}):
                    steps.append(progress)
                    screens.stub.ready = True
                return steps, time.monotonic() - began

        steps, _ = asyncio.run(go())
        assert steps[0].waiting is not None
        assert not steps[0].waiting.ready
        assert "Application startup complete" in steps[0].waiting.log[0]
        assert steps[-1].talk.turns[-1].content.strip() == screens.stub.reply

    def test_other_refusals_are_raised(self, screens: Screens) -> None:
        screens.stub.fail_chat = (404, "unknown model 'nobody'")
        with pytest.raises(ApiError, match="nobody"):
            run(screens, whole, Talk().said("hi"), "nobody")

    def test_closing_the_answer_cancels_the_generation(self, screens: Screens) -> None:
        screens.stub.delta_s = 0.05

        async def go() -> None:
            async with AsyncClient(screens.url) as client:
                stream = chat.answer(client, Talk().said("hi"), "assistant", {})
                await anext(stream)
                await stream.aclose()
            async with asyncio.timeout(30):
                while not screens.stub.cancelled:
                    await asyncio.sleep(0.02)

        asyncio.run(go())
        assert screens.stub.cancelled == 1

    def test_choices_put_deployments_first(self, screens: Screens) -> None:
        values = [value for _, value in run(screens, chat.model_choices, exact=True)]
        assert values == ["assistant", "assistant@1", "smollm2-135m-instruct"]

    def test_single_releases_are_offered_to_operators_alone(self, screens: Screens) -> None:
        values = [value for _, value in run(screens, chat.model_choices)]
        assert values == ["assistant", "smollm2-135m-instruct"]
        assert run(screens, chat.is_operator)
        screens.stub.roles = ["chat", "rater"]
        assert not run(screens, chat.is_operator)

    def test_sampling_leaves_empty_fields_to_the_release(self) -> None:
        assert chat.sampling("", "") == {}
        assert chat.sampling("0", "64") == {"temperature": 0.0, "max_tokens": 64}
        with pytest.raises(ApiError, match="Temperature"):
            chat.sampling("warm", "")

    def test_thumbs_reach_the_platform(self, screens: Screens) -> None:
        talk = run(screens, whole, Talk().said("hi"))[-1].talk
        run(screens, chat.rate, talk, 1, True)
        assert list(screens.stub.likes.values()) == [True]
        run(screens, chat.rate, talk, 1, None)
        assert list(screens.stub.likes.values()) == [None]

    def test_a_thumb_on_a_streaming_answer_is_sent_once_it_is_recorded(self, screens: Screens) -> None:
        asked = Talk().said("hi")
        asked.thumbs.begin(1)
        run(screens, chat.rate, asked, 1, False)
        run(screens, chat.rate, asked, 1, True)
        assert screens.stub.likes == {}
        talk = run(screens, whole, asked)[-1].talk
        assert talk.thumb_names() == ["Like"]
        run(screens, chat.rate_late, talk, talk.thumbs.due())
        assert list(screens.stub.likes.values()) == [True]
        assert talk.thumb_names() == ["Like"]
        run(screens, chat.rate, talk, 1, None)
        assert list(screens.stub.likes.values()) == [None]

    def test_the_chosen_answer_joins_the_conversation(self, screens: Screens) -> None:
        asked = Talk().said("hi")
        pair = run(screens, chat.two_answers, asked, "assistant@1")
        assert screens.stub.requests[-1][2]["deployment"] == "assistant"
        chosen = run(screens, chat.choose, asked, pair, "b")
        assert chosen.turns[-1].content == pair.b
        assert chosen.turns[-1].release == "assistant@1"
        other = run(screens, chat.two_answers, asked, "assistant")
        assert run(screens, chat.choose, asked, other, "both_bad") == asked


class TestRank:
    def test_a_drawn_conversation_splits_into_earlier_and_last(self) -> None:
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        prompt = rank.split_prompt([*messages, {"role": "user", "content": "c"}])
        assert prompt.text == "c"
        assert prompt.messages() == [*messages, {"role": "user", "content": "c"}]

    def test_vote_reveals_and_counts(self, screens: Screens) -> None:
        table = run(screens, rank.sample, rank.Prompt(text="hi"), "assistant", rank.Table())
        assert table.open
        assert not table.revealed
        decided = run(screens, rank.vote, table, "b", rank.Said(tags=("clear",)))
        assert decided.revealed == {"a": "assistant@1", "b": "assistant@1"}
        assert (decided.votes, decided.pairs_made, decided.open) == (1, 1, False)
        assert screens.stub.votes[0]["tags"] == ["clear"]
        assert screens.stub.votes[0]["seconds"] >= 0

    def test_an_unchanged_prefill_is_no_better_response(self, screens: Screens) -> None:
        table = run(screens, rank.sample, rank.Prompt(text="hi"), None, rank.Table())
        assert table.pair is not None
        run(screens, rank.vote, table, "a", rank.Said(table.pair.a + "\n"))
        assert "better" not in screens.stub.votes[0]
        again = run(screens, rank.sample, rank.Prompt(text="hi"), None, rank.Table())
        assert run(screens, rank.vote, again, "a", rank.Said("A better one")).demonstration

    def test_a_vote_says_more_than_its_choice(self, screens: Screens) -> None:
        said = rank.Said(
            strength="slightly", reasons={"a": ["clear"], "b": []}, comment=" hm ", unsafe=("b",)
        )
        table = run(screens, rank.sample, rank.Prompt(text="hi"), "assistant", rank.Table())
        run(screens, rank.vote, table, "a", said)
        sent = screens.stub.votes[0]
        assert (sent["strength"], sent["reasons"], sent["unsafe"]) == ("slightly", {"a": ["clear"]}, ["b"])
        assert sent["comment"] == "hm"
        table = run(screens, rank.sample, rank.Prompt(text="hi"), "assistant", rank.Table())
        run(screens, rank.vote, table, "tie", said)
        assert "strength" not in screens.stub.votes[1], "neither is better"

    @pytest.mark.parametrize(
        ("order", "sides", "ranking"),
        [
            ("c>a=b", "abc", [["c"], ["a", "b"]]),
            ("c>a", "abc", [["c"], ["a"], ["b"]]),
            ("a=", "ab", [["a"], ["b"]]),
            ("c", "abc", None),
            ("", "ab", None),
        ],
    )
    def test_an_order_is_read(self, order: str, sides: str, ranking: list[list[str]] | None) -> None:
        assert rank.ranking_of(order, sides) == ranking

    def test_the_last_vote_is_taken_back_after_others_came(self, screens: Screens) -> None:
        table = run(
            screens,
            rank.sample,
            rank.Prompt(text="hi"),
            "assistant",
            rank.Table(summary={"today": 0, "streak": 2}),
        )
        voted = run(screens, rank.vote, table, "a")
        assert voted.summary == {"today": 1, "streak": 3}
        other = run(screens, rank.sample, rank.Prompt(text="ho"), "assistant", voted)
        again = run(screens, rank.undo, other)
        assert again.pair is not None
        assert (again.pair.comparison, again.open, again.taken_back) == (table.pair.comparison, True, True)
        assert (again.votes, again.last, again.summary["today"], screens.stub.votes) == (0, None, 0, [])
        assert run(screens, rank.undo, again) == again, "nothing is left to take back"

    def test_a_decided_comparison_cannot_be_voted_on_twice(self, screens: Screens) -> None:
        table = run(screens, rank.sample, rank.Prompt(text="hi"), None, rank.Table())
        run(screens, rank.vote, table, "a")
        with pytest.raises(ApiError, match="decided already"):
            run(screens, rank.vote, table, "b")
        assert len(screens.stub.votes) == 1

    def test_next_takes_from_the_queue_until_it_is_empty(self, screens: Screens) -> None:
        waiting = screens.stub.add_comparison([{"role": "user", "content": "q"}])
        table = run(screens, rank.take_next, rank.Table(votes=3))
        assert table.pair is not None
        assert (table.pair.comparison, table.votes) == (waiting["id"], 3)
        run(screens, rank.vote, table, "tie")
        assert run(screens, rank.take_next, rank.Table()).pair is None

    def test_one_is_sampled_ahead_where_none_waits_beside_the_one_that_is_read(
        self, screens: Screens
    ) -> None:
        screens.stub.add_comparison([{"role": "user", "content": "One?"}])
        shown = run(screens, rank.take_next, rank.Table())
        assert run(screens, rank.prepare, "assistant", shown) is True
        assert run(screens, rank.prepare, "assistant", shown) is False, "one waits"
        assert run(screens, rank.prepare, "assistant", rank.Table()) is False, "nobody reads"
        assert len(screens.stub.comparisons) == 2
        following = run(screens, rank.take_next, shown)
        assert following.pair.messages[0]["content"] == "How do tides work?"
        assert following.skipped == (shown.pair.comparison,)


class TestTraining:
    def wanted(self, **changes: Any) -> training.Request:
        fields = {
            "method": "dpo",
            "deployment": "assistant",
            "qlora": True,
            "rollout": "canary",
            "gate": "enforce",
        }
        return training.Request(**{**fields, **changes})

    def test_params_carry_the_libraries_names(self) -> None:
        wanted = self.wanted(
            max_steps=4, learning_rate=5e-5, beta=0.1, extra="lora_alpha = 32\nloss_type = ipo"
        )
        assert wanted.params() == {
            "max_steps": 4,
            "learning_rate": 5e-5,
            "beta": 0.1,
            "lora_alpha": 32,
            "loss_type": "ipo",
        }
        assert "beta" not in self.wanted(method="sft", beta=0.1).params()

    def test_a_bad_extra_line_is_named(self) -> None:
        with pytest.raises(ApiError, match="line 2") as refused:
            self.wanted(extra="r = 8\nlots of steps").params()
        assert "Accepted: one name = value a line" in explain(refused.value)

    def test_a_refusal_names_field_and_accepted_values(self, screens: Screens) -> None:
        screens.stub.pairs.append({"id": "pair-1"})
        with pytest.raises(ApiError) as refused:
            run(screens, training.start, self.wanted(learning_rate=-1.0))
        text = explain(refused.value)
        assert "params.learning_rate" in text
        assert "a number above 0" in text

    def test_nothing_to_train_on(self, screens: Screens) -> None:
        with pytest.raises(ApiError, match="no preference pairs"):
            run(screens, training.start, self.wanted())

    def test_follow_shows_the_newest_run_and_its_curves(self, screens: Screens) -> None:
        assert run(screens, training.follow, None) is None
        screens.stub.pairs.append({"id": "pair-1"})
        made = run(screens, training.start, self.wanted(max_steps=12))
        for _ in range(4):
            followed = run(screens, training.follow, None)
        assert followed.run["id"] == made["id"]
        assert followed.working
        frame, name = training.curve(followed.rows, "loss")
        assert name == "loss"
        assert list(frame["step"]) == list(range(1, followed.run["step"] + 1))
        assert run(screens, training.cancel, made["id"])["state"] == "cancelled"
        assert run(screens, training.follow, made["id"]).resumable
        assert run(screens, training.resume, made["id"])["state"] == "training"

    def test_remaining_time_follows_the_pace(self) -> None:
        now = datetime.now(UTC)
        began = (now - timedelta(seconds=30)).isoformat()
        state = {
            "state": "training",
            "step": 10,
            "total_steps": 40,
            "transitions": [{"state": "training", "at": began}],
        }
        assert training.remaining(state, now) == pytest.approx(90)
        assert training.remaining({**state, "step": 0}, now) is None

    def test_a_curve_falls_back_to_the_metric_that_was_logged(self) -> None:
        rows = [{"step": 1, "mean_token_accuracy": 0.5}, {"step": 2, "loss": None}]
        assert training.curve(rows, "rewards/margins", "mean_token_accuracy")[1] == "mean_token_accuracy"
        assert training.curve(rows, "loss")[1] is None


class TestOperations:
    def test_rollout(self, screens: Screens) -> None:
        screens.stub.releases.insert(0, {**screens.stub.releases[0], "name": "assistant@2", "number": 2})
        assert "10%" in run(screens, ops.start_canary, "assistant", "assistant@2", 10)
        assert screens.stub.deployment["canary"] == "assistant@2"
        assert "assistant@2 is stable" in run(screens, ops.promote, "assistant", None)
        assert "assistant@1" in run(screens, ops.rollback, "assistant")
        with pytest.raises(ApiError, match="nothing to roll back"):
            run(screens, ops.rollback, "assistant")

    def test_a_new_release_takes_the_adapter_of_another(self, screens: Screens) -> None:
        made = run(screens, ops.create_release, "assistant", " Answer briefly. ", None)
        assert made["name"] == "assistant@2"
        assert made["system_prompt"] == "Answer briefly."
        assert set(screens.stub.made[-1]) == {"deployment", "system_prompt"}, "the rest is as in stable"
        run(screens, ops.create_release, "assistant", "", ops.NO_ADAPTER)
        assert screens.stub.made[-1] == {"deployment": "assistant", "adapter": None}

    def test_searches_and_comparisons_are_started_shown_and_cancelled(self, screens: Screens) -> None:
        async def go() -> Any:
            async with AsyncClient(screens.url) as client:
                await client.rollout.search_prompts("assistant")
                await client.rollout.compare_releases("assistant")
                screens.stub.jobs.append({**screens.stub.jobs[0], "id": "job-9", "kind": "pairs.make"})
                before = (await ops.standing(client)).comparisons
                cancelled = await ops.cancel_comparisons(client)
                return before, cancelled, (await ops.standing(client)).comparisons

        before, cancelled, after = asyncio.run(go())
        assert [job["kind"] for job in before] == ["releases.compare", "prompts.search"]
        assert cancelled == 2
        assert {job["state"] for job in after} == {"cancelled"}
        assert screens.stub.jobs[-1]["state"] == "queued", "other jobs go on"

    def test_readiness_of_a_platform_that_is_gone(self) -> None:
        async def go() -> Any:
            async with AsyncClient("http://127.0.0.1:9") as client:
                return await readiness(client)

        assert asyncio.run(go()).word == texts.OFFLINE

    def test_people(self, screens: Screens) -> None:
        run(screens, people.add_user, " ada ", "correct horse", ["chat"])
        made = run(screens, people.create_key, "ci", ["ops"])
        assert made["secret"]
        now = run(screens, people.access)
        assert [user["name"] for user in now.users] == ["ada"]
        assert now.live_keys() == [("ci (tt-4f9…)", made["id"])]
        assert [(row["kind"], row["name"]) for row in now.usage] == [("user", "ada"), ("key", "ci")]
        run(screens, people.revoke_key, made["id"])
        assert run(screens, people.access).live_keys() == []


class TestImport:
    def follow(self, screens: Screens, path: Path, *asked: Any) -> list[imports.Import]:
        async def go() -> list[imports.Import]:
            async with AsyncClient(screens.url) as client:
                return [step async for step in imports.follow(client, path, *asked, imports.Stop())]

        return asyncio.run(go())

    def test_a_file_is_sent_as_it_is_and_its_refused_rows_come_back(
        self, screens: Screens, tmp_path: Path
    ) -> None:
        path = tmp_path / "votes.jsonl"
        path.write_text('{"prompt": "p", "chosen": "c"}\n{"prompt": "a\u2028b"}\n')
        *steps, last = self.follow(screens, path, "pairs", "assistant", False)
        asked = screens.stub.requests[-1][2]
        assert asked == {"name": "votes.jsonl", "deployment": "assistant", "dry_run": "false"}
        assert steps[1].progress["rows"] == 2
        assert (last.result["accepted"], last.result["rejected_count"]) == (1, 1)
        assert last.refused.name == "votes.jsonl.rejects.jsonl"
        assert json.loads(last.refused.read_text())["data"] == {"prompt": "a\u2028b"}
        imports.put_away(last, path)
        assert not last.refused.parent.exists()
        assert not path.exists()

    def test_a_dry_run_leaves_the_upload_for_the_import(self, screens: Screens, tmp_path: Path) -> None:
        path = tmp_path / "likes.jsonl"
        path.write_text('{"prompt": "p", "completion": "c", "label": true}\n')
        last = self.follow(screens, path, "likes", "", True)[-1]
        assert last.result["dry_run"]
        assert last.refused is None
        imports.put_away(last, path)
        assert path.exists()

    def test_a_file_that_is_gone_is_asked_for_again(self, screens: Screens, tmp_path: Path) -> None:
        with pytest.raises(ApiError, match="choose it again"):
            self.follow(screens, tmp_path / "gone", "pairs", None, False)

    def test_import_without_a_reader_ends(self, screens: Screens, tmp_path: Path) -> None:
        screens.stub.import_held = True
        path = tmp_path / "votes.jsonl"
        path.write_text('{"prompt": "p", "chosen": "c"}\n')

        async def go() -> None:
            async with AsyncClient(screens.url) as client:
                stop = imports.Stop()
                async with aclosing(imports.follow(client, path, "pairs", None, False, stop)) as steps:
                    while (await anext(steps)).progress is None:
                        pass
                while not screens.stub.cancelled:
                    await client.whoami()

        asyncio.run(asyncio.wait_for(go(), 20))

    def test_an_upload_that_is_stopped_says_so(self, screens: Screens, tmp_path: Path) -> None:
        path = tmp_path / "votes.jsonl"
        path.write_text('{"prompt": "p", "chosen": "c"}\n')
        stop = imports.Stop()
        stop.said = True

        async def go() -> list[imports.Import]:
            async with AsyncClient(screens.url) as client:
                return [step async for step in imports.follow(client, path, "pairs", None, False, stop)]

        last = asyncio.run(go())[-1]
        assert last.stopped
        assert not last.taken
        assert screens.stub.pairs == []


def test_a_gold_question_needs_all_its_parts(screens: Screens) -> None:
    with pytest.raises(ApiError, match=texts.GOLD_BAD):
        run(screens, data.add_gold, "2 + 2?", "4", " ", None)
    run(screens, data.add_gold, " 2 + 2? ", "4", "5", "")
    (made,) = screens.stub.gold
    assert made["messages"] == [{"role": "user", "content": "2 + 2?"}]
    assert (made["good"], made["bad"], made.get("deployment")) == ("4", "5", None)


def test_the_platform_may_offer_a_pair_in_the_middle_of_a_talk(screens: Screens) -> None:
    asked = Talk().said("hi")
    assert run(screens, chat.offered, asked, "assistant", {}) is None
    screens.stub.pairs_offered = True
    assert run(screens, chat.offered, asked, "assistant@1", {}) is None, "one release was asked for"
    talk, made = run(screens, chat.offered, asked, "assistant", {})
    assert talk.conversation
    chosen = run(screens, chat.choose, talk, made, "b")
    assert chosen.turns[-1].content == made.b
    assert screens.stub.votes[-1]["choice"] == "b"


def test_optional_numbers() -> None:
    assert optional_float(" 5e-5 ", "Rate") == 5e-5
    assert optional_float("0,5", "Rate") == 0.5
    assert optional_int("", "Steps") is None
    for text in ("many", "1.5"):
        with pytest.raises(ApiError, match="Steps"):
            optional_int(text, "Steps")


def test_toasts_escape_what_the_platform_quotes() -> None:
    assert "<script>" not in explain(ApiError(422, "Invalid", "name is <script>alert(1)</script>"))
