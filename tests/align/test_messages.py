"""Prompts and answers as text and as messages mean the same."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer

from align.training.texts.data import read_rows


def test_text_and_messages_give_the_same_tokens(smollm2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    text = {"pair_id": "p", "prompt": "Hello?", "chosen": "Yes.", "rejected": "No."}
    messages = {
        "pair_id": "p",
        "prompt": [{"role": "user", "content": "Hello?"}],
        "chosen": [{"role": "assistant", "content": "Yes."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    read = []
    for name, row in (("text", text), ("messages", messages)):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
        read.append(read_rows(tmp_path / name, "dpo", tokenizer, 64))
    assert read[0] == read[1]
    assert len(read[0][0]) == 1
