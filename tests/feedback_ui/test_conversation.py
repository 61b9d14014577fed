"""A talk as a value: what is sent, what is shown, and how it is restored."""

from __future__ import annotations

from feedback_ui.conversation import Talk, Turn, from_record, signature


class TestTalk:
    def test_a_stopped_answer_is_closed_and_an_empty_one_dropped(self) -> None:
        asked = Talk().said("hi")
        assert asked.answered(Turn("assistant", "he", done=False)).settled().turns[-1].done
        assert asked.answered(Turn("assistant", "", done=False)).settled() == asked

    def test_cut_and_reword(self) -> None:
        talk = (
            Talk().said("one").answered(Turn("assistant", "1")).said("two").answered(Turn("assistant", "2"))
        )
        assert [t.content for t in talk.before(3).turns] == ["one", "1", "two"]
        assert [t.content for t in talk.before(1).turns] == ["one"]
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
        assert talk.turns[1].release == "assistant@2"
