"""Rows and messages of imports, as tests write and read them."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


USER, ASSISTANT = "user", "assistant"
