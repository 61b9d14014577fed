"""Bases of all bodies, and words that several nouns share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic_core import PydanticCustomError

from common.training_methods import Method as Method

ENCODABLE = "text that is valid Unicode (in UTF-8; no lone surrogates)"


class Request(BaseModel):
    """Base of every request body: an unknown field is an error, not a silence.

    JSON can spell half of a surrogate pair, which neither the store nor an answer has an encoding for; it is refused here,
    at any depth of a field.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if not _encodable(name):
                shown = name.encode("ascii", "backslashreplace").decode()
                raise PydanticCustomError("text_encoding", "There is no field {shown}", {"shown": shown})
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _check_encodable(cls, value: Any) -> Any:
        if not _encodable(value):
            raise PydanticCustomError("text_encoding", "Value should be {expected}", {"expected": ENCODABLE})
        return value


def _encodable(value: Any) -> bool:
    """Return whether every text in a JSON value can be written as UTF-8."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            try:
                one.encode()
            except UnicodeEncodeError:
                return False
        elif isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one
    return True


class View(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(from_attributes=True)
