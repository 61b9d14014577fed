"""The base of every table of the settings file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
