"""Optional numbers from text fields: empty means "leave it to the other side", anything else must be a number."""

from __future__ import annotations

from trimtab_client import ApiError


def optional_float(text: str | None, field: str, accepted: str = "a number, or nothing") -> float | None:
    """Read a number such as 0.7 or 5e-5; None for an empty field; raises `ApiError` (422) that names the field."""
    if not (text or "").strip():
        return None
    try:
        return float(str(text).strip().replace(",", "."))
    except ValueError:
        raise _refused(text, field, accepted) from None


def optional_int(text: str | None, field: str, accepted: str = "a whole number, or nothing") -> int | None:
    """Read a whole number; None for an empty field; raises `ApiError` (422) that names the field."""
    value = optional_float(text, field, accepted)
    if value is None:
        return None
    if value != int(value):
        raise _refused(text, field, accepted)
    return int(value)


def _refused(text: object, field: str, accepted: str) -> ApiError:
    return ApiError(422, "Invalid", f"{field}: {str(text).strip()!r} is no such number", accepted=accepted)
