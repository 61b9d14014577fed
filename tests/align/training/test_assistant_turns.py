"""Training takes its loss on assistant turns alone, also within a completion of several turns."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from align.training.packed.packed_model import score_plain
from align.training.packed.packing import Tree, pack
from align.training.texts.data import read_rows
from store.datasets import snapshots
from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparison import branch
from store.values import conversation

ASKED = [{"role": "user", "content": "When do swifts leave?"}]
SEVERAL = [
    {"role": "assistant", "content": "In August."},
    {"role": "user", "content": "WHERE TO?"},
    {"role": "assistant", "content": "To Africa."},
]
ONE = [{"role": "assistant", "content": "Never."}]


def said(tokenizer: Any, tree: Tree) -> list[str]:
    batch = pack([tree])
    return [
        tokenizer.decode([int(t) for t, n in zip(batch.targets, batch.answer, strict=True) if n == number])
        for number in range(len(tree.answers))
    ]


@pytest.mark.parametrize("method", ["dpo", "sft", "kto"])
def test_only_assistant_turns_of_a_completion_count(smollm2: Path, tmp_path: Path, method: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    row = {"prompt": ASKED, "chosen": SEVERAL, "rejected": ONE, "completion": SEVERAL, "label": True}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows")
    ((read,), _) = read_rows(tmp_path / "rows", method, tokenizer, 200)
    assert said(tokenizer, read.tree)[0] == ("In August.<|im_end|>\nTo Africa.<|im_end|>\n")
    assert "WHERE TO?" in tokenizer.decode(read.tree.answers[0])
    if method == "dpo":
        assert said(tokenizer, read.tree)[1] == "Never.<|im_end|>\n"


def test_a_plain_model_scores_the_tokens_that_count() -> None:
    trees = [Tree([1, 2], ([3, 4, 5], [6, 7]), ([True, False, True], None)), Tree([1], ([2],))]
    batch = pack(trees)
    assert batch.targets.tolist() == [3, 5, 6, 7, 2]
    assert batch.lengths.tolist() == [2, 2, 1]

    class Out:
        def __init__(self, logits: torch.Tensor) -> None:
            self.logits = logits

    def forward(input_ids: torch.Tensor, **kwargs: Any) -> Out:
        return Out(torch.arange(8.0).expand(*input_ids.shape, 8) * input_ids[..., None])

    scores = score_plain(forward, batch)
    everything = score_plain(forward, pack([Tree(t.prompt, t.answers) for t in trees]))
    assert torch.equal(scores, everything[[0, 2, 3, 4, 5]])


def test_what_messages_carry_reaches_the_chat_template(smollm2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.name or '' }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    carried = '{"prompt": {"0": {"name": "hm"}}}'
    row = {"prompt": ASKED, "completion": ONE, "carried": carried}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows")
    ((read,), _) = read_rows(tmp_path / "rows", "sft", tokenizer, 200)
    assert tokenizer.decode(read.tree.prompt) == "user:When do swifts leave?hm\nassistant:"


def test_a_vote_on_branches_trains_on_their_assistant_turns(smollm2: Path, tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "trimtab.duckdb")) as db:
        longer, shorter = (branch(conversation(turns)) for turns in (SEVERAL, ONE))
        made = comparisons.create(db, conversation(ASKED), [longer, shorter], "assistant")
        side = next(side for side, candidate in made.sides.items() if candidate.turns)
        comparisons.vote(db, made.id, side, "ada")
        snapshot = snapshots.build(db, tmp_path, "assistant", "dpo", heldout_fraction=0.0)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    ((read,), _) = read_rows(Path(snapshot.directory) / "train.parquet", "dpo", tokenizer, 200)
    assert said(tokenizer, read.tree) == [
        "In August.<|im_end|>\nTo Africa.<|im_end|>\n",
        "Never.<|im_end|>\n",
    ]
    assert "WHERE TO?" in tokenizer.decode(read.tree.answers[0])
