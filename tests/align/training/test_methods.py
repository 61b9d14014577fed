"""Every list that has an entry per training method agrees with the one list of names."""

from __future__ import annotations

import pytest

from align.errors import DataError
from align.recipe.methods import ROW_SHAPES
from align.training.methods import METHODS
from align.training.packed.packing import Tree
from align.training.texts.data import Row
from common import training_methods
from feedback_ui import texts
from store.datasets import snapshots
from trimtab.cli import runs as cli
from trimtab.start_run import _DATA


def row(identity: str, desirable: bool = True) -> Row:
    return Row(identity, Tree([1, 2], ([3],)), desirable=desirable)


def test_every_list_of_methods_has_the_same_names() -> None:
    names = list(training_methods.METHODS)
    lists = (METHODS, ROW_SHAPES, cli.SUMMARIES, _DATA, snapshots._TABLES)
    assert [list(each) for each in lists] == [names] * len(lists)
    assert [value for _, value in texts.TRAIN_METHODS] == names
    assert all(METHODS[name].needs_reference == ROW_SHAPES[name].needs_reference for name in names)


def test_methods_name_the_rows_that_the_reference_scores() -> None:
    rows = [row("a"), row("b")]
    assert METHODS["dpo"].rows(rows) == rows
    assert METHODS["sft"].rows(rows) == []
    assert [each.id for each in METHODS["kto"].rows(rows)] == ["a", "b", "a", "b"]


def test_kto_refuses_answers_of_one_label() -> None:
    with pytest.raises(DataError, match="all 2 answers were disliked"):
        METHODS["kto"].check([row("a", False), row("b", False)])
    METHODS["kto"].check([row("a"), row("b", False)])
