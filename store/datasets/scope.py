"""Which rows of a table a snapshot may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows whose `deployment` is among `names`; with `trained`, those of it are trained on and all others held out."""

    names: tuple[str, ...]
    trained: str | None = None

    @classmethod
    def of_deployment(cls, name: str) -> Scope:
        """Return the rows of a deployment, with those that are for every deployment."""
        return cls(("", name))

    @classmethod
    def of_files(cls, training: str, validation: str | None) -> Scope:
        """Return the rows of one or two uploaded files."""
        return cls((training, validation), training) if validation else cls((training,), training)
