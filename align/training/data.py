"""From a snapshot's Parquet file to token ids: the one place where messages become tokens.

Rows keep the order of the file. What cannot be trained on is left out and counted, never silently: see
`Dropped`. Rendering is the tokenizer's chat template; the answer starts where prompt and prompt + answer
diverge, as in TRL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from align.errors import DataError
from align.messages import conversation
from align.training.packed.packing import Tree

Messages = Sequence[dict[str, str]]


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
    """Rows that were left out or shortened, by reason."""

    prompt_too_long: int = 0
    same_answers: int = 0
    empty_answer: int = 0
    zero_weight: int = 0
    answer_cut: int = 0
    examples: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, for report.json."""
        return dict(vars(self))


def read_rows(
    path: Path, method: str, tokenizer: Any, max_length: int, limit: int | None = None
) -> tuple[list[Row], Dropped]:
    """Read and tokenise a snapshot file for `method` (`dpo`, `sft` or `kto`).

    Prompt plus answer keep at most `max_length` tokens: longer answers are cut at their end, rows whose
    prompt leaves no room are dropped. Raises `DataError` for a file that is missing, unreadable, or has
    other columns.
    """
    needed = {"dpo": ("prompt", "chosen", "rejected"), "sft": ("prompt", "completion")}
    columns = needed.get(method, ("prompt", "completion", "label"))
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    if missing := [c for c in columns if c not in table.column_names]:
        raise DataError(f"{path.name} lacks the columns {', '.join(missing)} that {method} needs")
    rows: list[Row] = []
    dropped = Dropped()
    source = iter(table.slice(0, limit).to_pylist() if limit is not None else table.to_pylist())
    number = 0
    while batch := list(islice(source, 256)):
        for record, tree in zip(batch, _trees(batch, columns[1:3], tokenizer, method), strict=True):
            identity = str(record.get("pair_id") or record.get("demo_id") or number)
            number += 1
            weight = record.get("weight")
            row = Row(
                identity, tree, 1.0 if weight is None else float(weight), bool(record.get("label", True))
            )
            if kept := _fit(row, max_length, dropped):
                rows.append(kept)
    return rows, dropped


def render(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> str:
    """Return the text that the model sees for `messages`."""
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of rendered texts; the template has written every special token already."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return ids


def _trees(
    batch: Sequence[dict[str, Any]], answers: Sequence[str], tokenizer: Any, method: str
) -> Iterator[Tree]:
    names = answers if method == "dpo" else answers[:1]
    texts: list[str] = []
    for record in batch:
        prompt = conversation(record["prompt"], "user")
        texts.append(render(tokenizer, prompt, True))
        for name in names:
            answer = conversation(record[name], "assistant")
            texts.append(render(tokenizer, [*prompt, *answer], False))
    ids = encode(tokenizer, texts)
    width = 1 + len(names)
    for start in range(0, len(ids), width):
        prompt_ids, *full = ids[start : start + width]
        common = min(common_prefix(prompt_ids, whole) for whole in full)
        yield Tree(prompt_ids[:common], tuple(whole[common:] for whole in full))


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many leading items `a` and `b` share."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def _fit(row: Row, max_length: int, dropped: Dropped) -> Row | None:
    room = max_length - len(row.tree.prompt)
    if room < 1 or not row.tree.prompt:
        reason = "prompt_too_long"
    elif not all(row.tree.answers):
        reason = "empty_answer"
    elif len(row.tree.answers) == 2 and list(row.tree.answers[0]) == list(row.tree.answers[1]):
        reason = "same_answers"
    elif row.weight <= 0:
        reason = "zero_weight"
    else:
        cut = tuple(answer[:room] for answer in row.tree.answers)
        if cut == row.tree.answers:
            return row
        if len(cut) == 2 and list(cut[0]) == list(cut[1]):
            reason = "same_answers"
        else:
            dropped.answer_cut += 1
            return Row(row.id, Tree(row.tree.prompt, cut), row.weight, row.desirable)
    setattr(dropped, reason, getattr(dropped, reason) + 1)
    if len(dropped.examples) < 5:
        dropped.examples.append(f"{row.id}: {reason}")
    return None
