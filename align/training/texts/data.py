"""From a snapshot's Parquet file to token ids: the one place where messages become tokens.

Rows keep the order of the file. What cannot be trained on is left out and counted, never silently: see
`Dropped`. A prompt has the ids that an engine gets for it (see `align.training.texts.rendering`), and an answer
starts right after. Of an answer of several turns the assistant's alone count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from align.errors import DataError
from align.messages import was_cut
from align.recipe.methods import ROW_SHAPES
from align.training.packed.packing import Tree
from align.training.texts.chat_template import Refused
from align.training.texts.rendering import RowRenderer
from common.sequences import common_prefix_length


@dataclass(frozen=True)
class Row:
    """One example as token ids: a prompt and its answers (DPO: chosen, rejected; SFT and KTO: one).

    `desirable` is KTO's label. `weight` multiplies the example's loss.
    """

    id: str
    tree: Tree
    weight: float = 1.0
    desirable: bool = True

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answers, the prompt counted once for each answer as a padded batch would."""
        return sum(len(self.tree.prompt) + len(a) for a in self.tree.answers)


@dataclass
class Dropped:
    """Rows that were left out or shortened, by reason; `without_end_token` counts answers that were cut when given."""

    prompt_too_long: int = 0
    same_answers: int = 0
    empty_answer: int = 0
    zero_weight: int = 0
    refused_by_template: int = 0
    answer_cut: int = 0
    without_end_token: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, reason: str, example: str) -> None:
        """Count a row that was left out, and keep the first examples."""
        setattr(self, reason, getattr(self, reason) + 1)
        if len(self.examples) < 5:
            self.examples.append(example)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, for report.json."""
        return dict(vars(self))


def read_rows(
    path: Path,
    method: str,
    tokenizer: Any,
    max_length: int,
    limit: int | None = None,
    system_prompt: str | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> tuple[list[Row], Dropped]:
    """Read and tokenise a snapshot file for `method` (`dpo`, `sft` or `kto`).

    Prompt plus answer keep at most `max_length` tokens: longer answers are cut at their end, rows whose
    prompt leaves no room and rows that the chat template refuses are dropped. `system_prompt` and `template_options`
    are those of `RowRenderer`. Raises `DataError` for a file that is missing, unreadable, or has other columns.
    """
    shape = ROW_SHAPES[method]
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    if missing := [c for c in shape.columns if c not in table.column_names]:
        raise DataError(f"{path.name} lacks the columns {', '.join(missing)} that {method} needs")
    renderer = RowRenderer(tokenizer, system_prompt, template_options)
    rows: list[Row] = []
    dropped = Dropped()
    source = enumerate(table.slice(0, limit).to_pylist() if limit is not None else table.to_pylist())
    while batch := list(islice(source, 256)):
        for row in _rows(batch, shape.answers, renderer, dropped):
            if kept := _fit(row, max_length, dropped):
                rows.append(kept)
    return rows, dropped


def count_rows(path: Path) -> int:
    """Return the rows of a snapshot file. Raises `DataError` for a file that is missing or unreadable."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of rendered texts; the template has written every special token already."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return ids


def _rows(
    batch: Sequence[tuple[int, dict[str, Any]]], names: Sequence[str], renderer: RowRenderer, dropped: Dropped
) -> Iterator[Row]:
    """Yield the rows of a batch of numbered records, without those that the chat template refuses."""
    kept: list[tuple[str, dict[str, Any], list[str]]] = []
    for number, record in batch:
        identity = str(record.get("pair_id") or record.get("demo_id") or record.get("like_id") or number)
        try:
            kept.append((identity, record, renderer.row(record, names)))
        except Refused as refusal:
            dropped.note("refused_by_template", f"{identity}: refused by the chat template: {refusal}")
    tokenizer = renderer.tokenizer
    ids = iter(
        encode(
            tokenizer, [t for _, _, (prompt, *after) in kept for t in (prompt, *(prompt + a for a in after))]
        )
    )
    for identity, record, (asked, *texts) in kept:
        dropped.without_end_token += any(was_cut(record.get(f"{name}_finish_reason")) for name in names)
        prompt = next(ids)
        answers = tuple(_after(prompt, next(ids), text, tokenizer) for text in texts)
        spans = [renderer.assistant_spans(record, name) for name in names]
        counted = None
        if any(span is not None for span in spans):
            counted = tuple(
                None
                if span is None
                else _counted(tokenizer, asked, text, span, [*prompt, *answer])[len(prompt) :]
                for text, span, answer in zip(texts, spans, answers, strict=True)
            )
        weight = record.get("weight")
        yield Row(
            identity,
            Tree(prompt, answers, counted),
            1.0 if weight is None else float(weight),
            bool(record.get("label", True)),
        )


def _after(prompt: list[int], whole: list[int], text: str, tokenizer: Any) -> list[int]:
    """Return the ids of an answer, given those of its prompt and of both.

    An engine computes the prompt before there is an answer. Where the tokenizer makes one token of the prompt's end and
    the answer's beginning, which no served model sees, the answer is encoded alone.
    """
    if whole[: len(prompt)] == prompt:
        return whole[len(prompt) :]
    mark = tokenizer.eos_token or ""  # after a special token no tokenizer adds the space that begins a text
    alone = encode(tokenizer, [mark + text])[0]
    return alone[1:] if mark and alone[:1] == [tokenizer.eos_token_id] else encode(tokenizer, [text])[0]


def _counted(
    tokenizer: Any, prompt: str, answer: str, spans: Sequence[tuple[int, int]], ids: Sequence[int]
) -> list[bool]:
    """Return for each id of prompt and answer whether it is within the spans (from, to) of the answer's characters."""
    mask = [False] * len(ids)
    for span in spans:
        parts = encode(tokenizer, [prompt + answer[:end] for end in span])
        start, end = (common_prefix_length(part, ids) for part in parts)
        mask[start:end] = [True] * (end - start)
    return mask


def _fit(row: Row, max_length: int, dropped: Dropped) -> Row | None:
    room = max_length - len(row.tree.prompt)
    if room < 1 or not row.tree.prompt:
        reason = "prompt_too_long"
    elif not all(row.tree.answers) or not all(row.tree.lengths):
        reason = "empty_answer"
    elif len(row.tree.answers) == 2 and list(row.tree.answers[0]) == list(row.tree.answers[1]):
        reason = "same_answers"
    elif row.weight <= 0:
        reason = "zero_weight"
    else:
        cut = tuple(answer[:room] for answer in row.tree.answers)
        if cut == row.tree.answers:
            return row
        masks = row.tree.counted and tuple(mask and mask[:room] for mask in row.tree.counted)
        if masks and not all(mask is None or any(mask) for mask in masks):
            reason = "empty_answer"
        elif len(cut) == 2 and list(cut[0]) == list(cut[1]):
            reason = "same_answers"
        else:
            dropped.answer_cut += 1
            return Row(row.id, Tree(row.tree.prompt, cut, masks), row.weight, row.desirable)
    dropped.note(reason, f"{row.id}: {reason}")
    return None
