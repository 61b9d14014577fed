"""The identity of a run's reference, recorded when the run begins and compared when it is resumed."""

from __future__ import annotations

import json
from typing import Any

from align.errors import ModelError
from align.recipe.recipe import Recipe
from align.run_directory import RunDirectory, RunSpec, adapter_identity
from align.training.distributed.process_group import ProcessGroup
from align.training.model import base_identity
from common.files import write_atomic


def record_reference(run: RunDirectory, spec: RunSpec, recipe: Recipe, group: ProcessGroup) -> dict[str, Any]:
    """Write `reference.json` and return what it says. Raises `ModelError` when the run began with another reference."""
    facts = _reference_facts(spec, recipe)
    path = run.path / "reference.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier != facts:
            raise ModelError(
                f"the reference is not the one that this run began with: {earlier} then, {facts} now",
                "restore the model files, or start a new run",
            )
    elif group.is_main:
        write_atomic(path, json.dumps(facts, indent=2) + "\n")
    group.barrier()
    return facts


def _reference_facts(spec: RunSpec, recipe: Recipe) -> dict[str, Any]:
    base = base_identity(spec.base_model, recipe)
    if not spec.start_adapter:
        return {"kind": "base", "base": base}
    found = adapter_identity(spec.start_adapter)
    if spec.start_sha256 and found != spec.start_sha256:
        raise ModelError(
            f"the reference {spec.start_adapter} is not the adapter that the run was asked for: its weights' hash is "
            f"{found[:16]}, not {spec.start_sha256[:16]}",
            "restore its files, or start a new run",
        )
    return {"kind": "adapter", "base": base, "adapter": spec.start_adapter, "sha256": found}
