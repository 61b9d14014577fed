"""What can go wrong in `align`, as a tree.

```
AlignError                 kind, message, hint: what error.json of a run says
├── RecipeError            a recipe's field: field, value, accepted
├── RunDirectoryError      a run directory is incomplete, damaged or in use
├── DataError              the snapshot holds nothing that can be trained on
├── ModelError             base model or start adapter cannot be loaded or are not what the run says
├── OutOfMemory            no micro-batch is small enough
├── Diverged               the loss or a weight is not finite
├── DiskFull               a checkpoint or the adapter cannot be written
└── Stopped                asked to stop; a checkpoint was written (not a failure)
```
"""

from __future__ import annotations

from typing import Any

# The next thing to do that every hint about a card's memory ends with.
ENGINE_SHARE = "give the engine on this card less (engines.NAME.gpu_memory)"


class AlignError(Exception):
    """A fault that a user can act on: `kind` is a stable word, `hint` the next thing to do (may be empty)."""

    kind = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_dict(self) -> dict[str, str]:
        """Return what `error.json` holds."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint}


class RecipeError(AlignError, ValueError):
    """One field of a recipe has a value that cannot be trained with, or could not be served afterwards."""

    kind = "recipe"

    def __init__(self, field: str, value: Any, accepted: str) -> None:
        super().__init__(f"{field} = {value!r}: accepted is {accepted}", f"change {field}")
        self.field = field
        self.value = value
        self.accepted = accepted


class RunDirectoryError(AlignError):
    """A run directory is incomplete, damaged, or another worker holds it."""

    kind = "run_directory"


class DataError(AlignError):
    """The snapshot holds no row that can be trained on."""

    kind = "data"


class ModelError(AlignError):
    """The base model or the start adapter cannot be loaded, or is not what the run says."""

    kind = "model"


class OutOfMemory(AlignError):
    """Even the smallest micro-batch does not fit."""

    kind = "out_of_memory"


class Diverged(AlignError):
    """The loss or a trained weight is not finite."""

    kind = "diverged"


class DiskFull(AlignError):
    """A checkpoint or the adapter cannot be written."""

    kind = "disk_full"


class Stopped(AlignError):
    """The run was asked to stop and left a checkpoint that it can go on from."""

    kind = "stopped"
