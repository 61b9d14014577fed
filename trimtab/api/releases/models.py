"""Releases."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from store.rollout.chat_template_kwargs import KEY, without
from trimtab.api.base import Request, View


class ReleaseRequest(Request):
    """Makes a release: a prompt change and a fine-tune are the same kind of thing.

    What is not given comes from the stable release; null or `none` empties it.
    """

    deployment: str
    base: str | None = None
    adapter: str | None = Field(
        default=None, description="an adapter's id, or a local PEFT directory; null or `none`: the base alone"
    )
    system_prompt: str | None = Field(default=None, max_length=100_000, description="null or `none`: none")
    sampling: dict[str, Any] | None = Field(default=None, description="null: the engine's defaults")
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None,
        description="arguments of the chat template, such as `{enable_thinking: false}`; null or `none`: none",
    )

    @model_validator(mode="before")
    @classmethod
    def _out_of_sampling(cls, data: Any) -> Any:
        """Read arguments of the template within `sampling`, where releases keep them, as the field of their own."""
        sampling = data.get("sampling") if isinstance(data, dict) else None
        if not isinstance(sampling, dict) or KEY not in sampling:
            return data
        if KEY in data:
            raise ValueError(f"{KEY} is given twice: in sampling, too")
        return data | {"sampling": without(sampling), KEY: sampling[KEY]}

    @field_validator("base", "adapter", "system_prompt", "sampling", KEY, mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        empty = isinstance(value, str) and value.strip().lower() in ("", "none")
        return None if empty else value


class ReleaseView(View):
    """One immutable release."""

    id: str
    name: str
    deployment: str
    number: int
    base: str
    adapter: str | None
    system_prompt: str | None
    sampling: dict[str, Any]
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    run: str | None
    lane: Literal["stable", "canary"] | None = None
    parity: dict[str, Any] | None = None
    created_by: str | None = None
    created_at: datetime
    inherited: list[str] | None = None
    inherited_from: str | None = None
    blend: dict[str, Any] | None = Field(
        default=None, description="of a release that was just combined from others"
    )


class BranchView(View):
    """A release in the tree of releases."""

    release: str
    made_by: Literal["base", "prompt", "training", "blend"]
    parents: list[str] = Field(
        description="the releases that it was made from; none: it stands on the base model"
    )
