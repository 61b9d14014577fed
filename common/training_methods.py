"""The training methods, by the names of the command line, the HTTP API, settings and columns."""

from __future__ import annotations

from typing import Literal, get_args

Method = Literal["dpo", "sft", "kto"]
METHODS: tuple[Method, ...] = get_args(Method)
"""What a method does is `align.training.methods.METHODS`, which a test compares with these names."""
