"""Bases of all bodies, and words that several nouns share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Method = Literal["dpo", "sft", "kto"]
Rollout = Literal["none", "canary", "promote"]


class Request(BaseModel):
    """Base of every request body: an unknown field is an error, not a silence."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(from_attributes=True)
