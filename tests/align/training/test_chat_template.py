"""Rows under chat templates of every kind: the prompt as served, the answer after it, refusals counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from align.training.texts.chat_template import differences, prepared, reads_parts
from align.training.texts.data import read_rows
from align.training.texts.rendering import RowRenderer
from tests.support.templates import ALTERNATE, NO_SYSTEM, TEMPLATES

USER = {"role": "user", "content": "Name a bird."}
SYSTEM = {"role": "system", "content": "Be brief."}
OTHER = "{% for m in messages %}{{ m['content'] }}|{% endfor %}"


def with_template(smollm2: Path, template: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.chat_template = template
    return tokenizer


def row(*prompt: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"pair_id": "p", "prompt": list(prompt), "chosen": "A wren.", "rejected": "An owl.", **more}


def read(tmp_path: Path, tokenizer: Any, rows: list[dict[str, Any]], **options: Any) -> Any:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    return read_rows(tmp_path / "rows.parquet", "dpo", tokenizer, 256, **options)


@pytest.mark.parametrize(
    ("template", "refused", "why"),
    [
        (NO_SYSTEM, row(SYSTEM, USER), "no system message is taken"),
        (ALTERNATE, row(USER, USER), "roles must alternate"),
        ("{{ messages[1]['content'] | upper }}{{ messages[5]['content'] + 1 }}", row(USER), "no element"),
    ],
)
def test_a_row_that_the_template_refuses_costs_that_row_alone(
    smollm2: Path, tmp_path: Path, template: str, refused: dict[str, Any], why: str
) -> None:
    tokenizer = with_template(smollm2, template)
    good = [] if "messages[5]" in template else [row(USER, pair_id="good")]
    rows, dropped = read(tmp_path, tokenizer, [refused, *good])
    assert [r.id for r in rows] == [r["pair_id"] for r in good]
    assert dropped.refused_by_template == 1
    assert "refused by the chat template" in dropped.examples[0]
    assert why in dropped.examples[0]


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_follows_the_prompt_as_it_is_served(smollm2: Path, tmp_path: Path, name: str) -> None:
    tokenizer = with_template(smollm2, TEMPLATES[name])
    served = tokenizer.apply_chat_template(
        prepared([USER], TEMPLATES[name]), tokenize=False, add_generation_prompt=True
    )
    rows, _ = read(tmp_path, tokenizer, [row(USER)])
    assert rows[0].tree.prompt == tokenizer(served, add_special_tokens=False)["input_ids"]
    answer = tokenizer.decode(rows[0].tree.answers[0])
    assert "A wren." in answer
    assert answer.startswith("\n</think>") == (name == "open think")
    if name == "last message alone":
        assert answer == "A wren.<|im_end|>\n"


def test_reasoning_in_an_answer_is_trained_after_an_open_think(smollm2: Path) -> None:
    renderer = RowRenderer(with_template(smollm2, TEMPLATES["open think"]))
    texts = renderer.row(row(USER, chosen="It flies.\n</think>\n\nA wren."), ["chosen"])
    assert texts[0].endswith("<think>\n")
    assert texts[1] == "It flies.\n</think>\n\nA wren.<|im_end|>\n"


def test_row_without_a_context_has_the_release_prompt(smollm2: Path) -> None:
    renderer = RowRenderer(with_template(smollm2, OTHER), system_prompt="Now.")
    assert renderer.row(row(USER), [])[0] == "Now.|Name a bird.|"
    assert renderer.row(row(USER, context=None), [])[0] == "Now.|Name a bird.|"
    assert renderer.row(row(USER, context=[]), [])[0] == "Name a bird.|"
    then = [{"role": "system", "content": "Then."}]
    assert renderer.row(row(USER, context=then), [])[0] == "Then.|Name a bird.|"
    assert renderer.row(row(SYSTEM, USER, context=then), [])[0] == "Be brief.|Name a bird.|"


def test_developer_messages_become_one_system_message_in_front(smollm2: Path) -> None:
    tokenizer = with_template(smollm2, TEMPLATES["chatml"])
    prompt = [USER, {"role": "developer", "content": "One."}, {"role": "system", "content": "Two."}]
    text = RowRenderer(tokenizer).row(row(*prompt), [])[0]
    assert text.startswith("<|im_start|>system\nOne.\n\nTwo.<|im_end|>\n<|im_start|>user\nName a bird.")
    kept = RowRenderer(with_template(smollm2, TEMPLATES["developer"])).row(row(prompt[1], USER), [])[0]
    assert kept.startswith("# One.\nuser: Name a bird.")


def test_tool_arguments_are_objects_for_the_template() -> None:
    call = {"function": {"name": "f", "arguments": '{"town": "Ulm"}'}}
    bad = {"function": {"name": "f", "arguments": "[1"}}
    given = {"role": "assistant", "content": None, "tool_calls": [call, bad]}
    [made] = prepared([given], TEMPLATES["chatml"])
    assert [c["function"]["arguments"] for c in made["tool_calls"]] == [{"town": "Ulm"}, {}]
    assert made["content"] == ""
    assert "tool_calls" not in prepared([{**given, "tool_calls": []}], TEMPLATES["chatml"])[0]


def test_templates_that_read_parts_are_detected() -> None:
    assert {name for name, template in TEMPLATES.items() if reads_parts(template)} == {
        "parts",
        "parts in a macro",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chatml", []),
        ("open think", ["is not how it begins an answer"]),
        ("no generation prompt", ["no generation prompt"]),
        ("no end token", ["no end token"]),
        ("last message alone", ["is not how it begins an answer"]),
    ],
)
def test_a_template_whose_training_and_serving_differ_is_noted(
    smollm2: Path, name: str, said: list[str]
) -> None:
    notes = differences(with_template(smollm2, TEMPLATES[name]))
    assert len(notes) == len(said), notes
    assert all(words in note for words, note in zip(said, notes, strict=True))


@pytest.mark.parametrize("name", ["chatml", "open think", "last message alone", "no end token"])
@pytest.mark.parametrize("reason", ["length", "client_stopped", "error"])
def test_an_answer_that_was_cut_is_not_taught_as_finished(
    smollm2: Path, tmp_path: Path, name: str, reason: str
) -> None:
    tokenizer = with_template(smollm2, TEMPLATES[name])
    asked = row(USER, chosen="A wren is a", chosen_finish_reason=reason, rejected_finish_reason="stop")
    [read_row], dropped = read(tmp_path, tokenizer, [asked])
    cut, finished = map(tokenizer.decode, read_row.tree.answers)
    assert cut.endswith("A wren is a")
    assert finished.endswith("An owl.\n" if name == "no end token" else "An owl.<|im_end|>\n")
    assert dropped.without_end_token == 1


@pytest.mark.parametrize("reason", ["stop", "tool_calls", None])
def test_an_answer_that_ended_by_itself_keeps_its_end(
    smollm2: Path, tmp_path: Path, reason: str | None
) -> None:
    tokenizer = with_template(smollm2, TEMPLATES["chatml"])
    [read_row], dropped = read(tmp_path, tokenizer, [row(USER, chosen_finish_reason=reason)])
    assert tokenizer.decode(read_row.tree.answers[0]) == "A wren.<|im_end|>\n"
    assert dropped.without_end_token == 0
