"""The fields of a search among the rows, and the filters that they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import gradio as gr

from feedback_ui import texts
from feedback_ui.days import end_of, start_of
from feedback_ui.numbers import optional_float, optional_int

Read = Callable[[str, Any], Any]


def _plain(label: str, value: Any) -> str | None:
    return str(value or "").strip() or None


@dataclass(frozen=True)
class Field:
    """One filter: its name in the API, its label, how what was typed is read, and what stands in the empty field."""

    name: str
    label: str
    read: Read = _plain
    placeholder: str = ""


def _whole(label: str, value: Any) -> int | None:
    return optional_int(value, label)


def _share(label: str, value: Any) -> float | None:
    return optional_float(value, label)


MORE = (
    Field("source", texts.CURATE_SOURCE),
    Field("rater", texts.CURATE_RATER),
    Field("release", texts.CURATE_RELEASE),
    Field("tag", texts.CURATE_TAG),
    Field("language", texts.CURATE_LANGUAGE, placeholder=texts.CURATE_LANGUAGE_PLACEHOLDER),
    Field("deployment", texts.CURATE_DEPLOYMENT),
    Field("min_chars", texts.CURATE_MIN_CHARS, _whole),
    Field("max_chars", texts.CURATE_MAX_CHARS, _whole),
    Field("min_agreement", texts.CURATE_MIN_AGREEMENT, _share, texts.CURATE_AGREEMENT_PLACEHOLDER),
    Field("max_agreement", texts.CURATE_MAX_AGREEMENT, _share, texts.CURATE_AGREEMENT_PLACEHOLDER),
    Field("since", texts.CURATE_SINCE, start_of, texts.AUDIT_DAY),
    Field("until", texts.CURATE_UNTIL, end_of, texts.AUDIT_DAY),
)
FIRST = (
    Field("text", texts.CURATE_TEXT, placeholder=texts.CURATE_TEXT_PLACEHOLDER),
    Field("state", texts.CURATE_STATE),
)
FIELDS = (*FIRST, *MORE)


def textbox(field: Field) -> gr.Textbox:
    """Lay out the field of a filter."""
    return gr.Textbox(
        label=field.label,
        placeholder=field.placeholder,
        min_width=150,
        elem_id=f"curate-{field.name.replace('_', '-')}",
    )


def read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters that are set. Raises `ApiError` that names the field whose value can't be read."""
    found = {field.name: field.read(field.label, values.get(field.name) or "") for field in FIELDS}
    return {name: value for name, value in found.items() if value is not None}


def typed(filters: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in each field for filters as the API keeps them; days that end a search are the last of it."""
    shown = {field.name: str(filters.get(field.name) or "") for field in FIELDS}
    return shown | {"since": _day(shown["since"], 0), "until": _day(shown["until"], 1)}


def _day(moment: str, earlier: int) -> str:
    return f"{datetime.fromisoformat(moment) - timedelta(days=earlier):%Y-%m-%d}" if moment else ""
