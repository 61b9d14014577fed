"""Days that people type: YYYY-MM-DD, in UTC, both ends included."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from feedback_ui import texts
from trimtab_client import ApiError


def start_of(label: str, day: str) -> str | None:
    """Return the first moment of a day in ISO 8601; None of an empty field. Raises `ApiError` that names the field."""
    return _moment(label, day, 0)


def end_of(label: str, day: str) -> str | None:
    """Return the first moment after a day, likewise."""
    return _moment(label, day, 1)


def _moment(label: str, day: str, later: int) -> str | None:
    if not (given := day.strip()):
        return None
    try:
        found = date.fromisoformat(given) + timedelta(days=later)
    except (ValueError, OverflowError):
        raise ApiError(
            422, "Invalid", f"{given!r} is no day", field=label, accepted=texts.AUDIT_DAY
        ) from None
    return datetime.combine(found, time(), UTC).isoformat()
