"""Base models and their engines."""

from __future__ import annotations

from pydantic import Field

from trimtab.api.base import Request, View
from trimtab.api.status.models import EngineView


class ModelRequest(Request):
    """Serves a base model that the settings file has got since the start."""

    name: str = Field(min_length=1, description="public name of the base model")


class ModelView(View):
    """One base model."""

    name: str
    model: str = Field(description="directory of its weights; a hub id until it is downloaded")
    revision: str | None = Field(default=None, description="commit, tag or branch of the hub id")
    engines: list[EngineView]
    deployments: list[str] = Field(description="deployments with a release on it that has or had traffic")
