"""A talk as a value: what is sent, what is shown, and how it is restored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from feedback_ui.bubbles import signature
from feedback_ui.conversation import Talk, Turn, from_record
from feedback_ui.model_text import source, text_content


class TestTalk:
    def test_a_stopped_answer_is_closed_and_an_empty_one_dropped(self) -> None:
        asked = Talk().said("hi")
        assert asked.answered(Turn("assistant", "he", done=False)).settled().turns[-1].done
        assert asked.answered(Turn("assistant", "", done=False)).settled() == asked

    def test_cut_and_reword(self) -> None:
        talk = (
            Talk().said("one").answered(Turn("assistant", "1")).said("two").answered(Turn("assistant", "2"))
        )
        assert [t.content for t in talk.unanswered().turns] == ["one", "1", "two"]
        assert talk.unanswered().unanswered() == talk.unanswered()
        assert [t.content for t in talk.reworded(2, "drei").turns] == ["one", "1", "drei"]

    def test_signature_is_outside_a_cut_off_code_block_and_not_sent(self) -> None:
        turn = Turn("assistant", "```python\nx = 1", release="assistant@3", lane="canary", seconds=1.26)
        assert signature(turn) == '<span class="tt-by">assistant@3 · canary · 1.3 s</span>'
        assert Talk(None, (Turn("user", "a"), turn)).messages()[1]["content"] == "```python\nx = 1"

    def test_signature_escapes_names(self) -> None:
        assert "<img" not in signature(Turn("assistant", "x", release="<img src=x>"))

    def test_a_record_round_trips_thumbs_and_releases(self) -> None:
        record = {
            "id": "conv-1",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q"},
                {
                    "role": "assistant",
                    "content": "a",
                    "release": "assistant@2",
                    "completion_id": "c",
                    "liked": False,
                },
            ],
        }
        talk = from_record(record)
        assert talk.conversation == "conv-1"
        assert talk.thumb_names() == ["Dislike"]
        assert talk.turns[2].release == "assistant@2"
        assert talk.messages() == [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a"},
        ]


def calling(ident: str, arguments: str) -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": "weather", "arguments": arguments}}


TOOLS = json.dumps([{"type": "function", "function": {"name": "weather", "description": "<b>Looks</b>"}}])
WITH_TOOLS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief.", "tools": TOOLS},
    {"role": "user", "content": "Ulm and Bern?"},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "I have to <look>.",
        "tool_calls": [calling("a", '{"town":"Ulm"}'), calling("b", '{"town": "<img src=x>"}')],
        "completion_id": "one",
    },
    {"role": "tool", "content": "sun", "tool_call_id": "b"},
    {"role": "tool", "content": '{"sky":"<script>"}', "tool_call_id": "a"},
    {
        "role": "assistant",
        "content": "Rain, sun.",
        "reasoning_content": "Both came.",
        "completion_id": "two",
        "release": "assistant@1",
    },
]


def without(message: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in ("completion_id", "release", *keys)}


class TestTools:
    def talk(self) -> Talk:
        return from_record({"id": "conv-1", "messages": WITH_TOOLS})

    def test_the_next_message_sends_calls_results_and_tools_without_earlier_thinking(self) -> None:
        sent = self.talk().said("And tomorrow?").messages()
        assert sent[:-1] == [without(message, "reasoning_content") for message in WITH_TOOLS]
        assert sent[-1] == {"role": "user", "content": "And tomorrow?"}

    def test_an_answer_to_results_is_asked_again_with_them_and_the_thinking_that_led_there(self) -> None:
        assert self.talk().unanswered().messages() == [without(message) for message in WITH_TOOLS[:-1]]

    def test_a_reworded_message_keeps_the_tools_of_the_conversation(self) -> None:
        first = {"role": "user", "content": "Ulm?", "tools": TOOLS, "name": "ada"}
        talk = from_record({"messages": [first, {"role": "assistant", "content": "Rain."}]})
        assert talk.reworded(0, "Bern?").messages() == [first | {"content": "Bern?"}]

    def test_tools_stay_where_the_first_message_is_an_empty_answer(self) -> None:
        empty = {"role": "assistant", "content": "", "tools": TOOLS}
        talk = from_record({"messages": [empty, {"role": "user", "content": "Ulm?"}]})
        assert talk.messages() == [{"role": "user", "content": "Ulm?", "tools": TOOLS}]

    def test_an_answer_of_thinking_alone_is_shown_and_not_sent(self) -> None:
        cut = Turn("assistant", "", carried={"reasoning_content": "Hm."}, done=False)
        talk = Talk().said("q").answered(cut).settled()
        assert "Hm." in talk.bubbles()[1]["content"][0]["text"]
        assert talk.messages() == [{"role": "user", "content": "q"}]

    def test_one_bubble_holds_calls_with_their_results_and_the_answer_as_text(self) -> None:
        question, answer = [message["content"][0]["text"] for message in self.talk().bubbles()]
        assert source(question) == "Ulm and Bern?"
        assert "<script" not in answer
        assert "<img" not in answer
        assert "\n" not in answer
        shown = text_content(answer)
        places = [
            shown.index(piece)
            for piece in ("I have to", '"town": "Ulm"', '"sky": "<script>"', "<img src=x>", "sun")
        ]
        assert places == sorted(places), "each result is below its call"
        assert shown.index("Both came.") < shown.index("Rain, sun.") < shown.index("assistant@1")
        assert 'class="tt-thinking" data-key' in answer
        assert "tt-thinking open" not in answer
        copied = source(answer) or ""
        assert copied.endswith("Rain, sun.")
        assert "I have to" not in copied
        assert 'weather({"town":"Ulm"})' in copied
        assert 'Result: {"sky":"<script>"}' in copied

    def test_what_stands_above_is_shown_as_text(self) -> None:
        above = self.talk().context()
        assert "System prompt · 1 tool" in above
        assert "&lt;b&gt;Looks" in above
        assert "<b>Looks" not in above
        assert Talk().said("q").context() == ""

    def test_thumbs_belong_to_the_last_answer_of_a_bubble(self) -> None:
        talk = self.talk()
        talk.thumbs.given["two"] = True
        assert talk.thumb_names() == ["Like"]
        assert talk.turn_at(0) == 1
        assert talk.turn_at(1) == 5
        assert talk.turn_at(2) == 6

    def test_a_thumb_on_an_answer_to_results_that_is_being_written_waits(self) -> None:
        talk = self.talk().unanswered()
        talk.thumbs.begin(len(talk.turns))
        assert talk.thumbs.wait(talk.turn_at(1), False)
        assert talk.thumb_names() == ["Dislike"]
        assert replace(talk, turns=self.talk().turns).thumb_names() == ["Dislike"]


def test_a_long_conversation_shows_its_end_and_more_when_asked() -> None:
    rows = [
        {"role": ("user", "assistant")[n % 2], "content": f"text {n}", "completion_id": f"c{n}"}
        for n in range(1000)
    ]
    talk = from_record({"id": "conv", "messages": [{"role": "system", "content": "Be brief."}, *rows]})
    shown = talk.bubbles()
    assert len(shown) == 40
    assert "text 960" in shown[0]["content"][0]["text"]
    assert talk.turn_at(1) == 962, "an event on a bubble means the message that is shown there"
    assert len(talk.thumb_names()) == 20
    assert "Show 160 of 960 earlier messages" in talk.context()
    assert len(talk.messages()) == 1001, "the model reads all of it"
    assert len(talk.with_earlier().bubbles()) == 200
    assert "text 960" in talk.said("Next").bubbles()[0]["content"][0]["text"]
    for _ in range(6):
        talk = talk.with_earlier()
    assert len(talk.bubbles()) == 1000
    assert "earlier messages" not in talk.context()
