"""Fine-tuning jobs, their events and checkpoints in OpenAI's form."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from serve.gateway.responses import OWNER
from store.rollout.fine_tuning import FineTuningJob
from store.rollout.run_states import RUN_FINAL, RUN_UNDER_WAY
from store.rollout.runs import Run, RunEvent

KINDS = {"sft": "supervised", "dpo": "dpo"}
"""OpenAI's names of the methods."""
EVENT = "ftevent-"
_STATES = {
    "queued": "queued",
    **dict.fromkeys(("snapshot", "training", "publishing", "evaluating"), "running"),
    "failed": "failed",
    "cancelled": "cancelled",
}
_SAID = {
    "queued": "The files are valid; the job waits for its turn.",
    "snapshot": "The job takes the rows of its files.",
    "training": "Training has started.",
    "publishing": "Training has ended; the engine loads the adapter.",
    "evaluating": "The new model answers; it is measured.",
    "failed": "The job has failed.",
    "cancelled": "The job was cancelled.",
    "published": "The job has succeeded.",
}
_FAILED_CHECKS = "The gate's checks of the new model fail: {why}. They do not hold it back."


def status_of_run(state: str) -> str:
    """Return OpenAI's status for a run's state: whatever becomes of a release later, its job has succeeded."""
    return _STATES.get(state, "succeeded")


def job_view(job: FineTuningJob, run: Run, release: str | None, newest: dict[str, Any]) -> dict[str, Any]:
    """Return a job; `release` is the name of its run's release, `newest` the metrics of the newest step."""
    status = status_of_run(run.state)
    kind = KINDS[run.method]
    shown = {name: value for name, value in job.hyperparameters.items() if name != "beta"}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": _stamp(job.created_at),
        "error": _error(run) if status == "failed" else None,
        "fine_tuned_model": release if status == "succeeded" else None,
        "finished_at": _finished(run),
        "hyperparameters": shown,
        "model": job.model,
        "organization_id": OWNER,
        "result_files": [],
        "seed": job.seed,
        "status": status,
        "trained_tokens": None,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "estimated_finish": _estimate(run, newest),
        "integrations": [],
        "metadata": job.metadata,
        "method": {"type": kind, kind: {"hyperparameters": job.hyperparameters}},
        "user_provided_suffix": job.suffix,
    }


def event_view(event: RunEvent, run: Run) -> dict[str, Any]:
    """Return an event of a run: a change of state, or the metrics of a step."""
    data: dict[str, Any] = {}
    kind, level = "message", "info"
    if event.kind == "metrics":
        data = {"step": event.data["step"], **_loss(event.data)}
        shown = ", ".join(f"{name} = {value:.4g}" for name, value in data.items() if name != "step")
        message, kind = f"Step {data['step']}: {shown or 'done'}", "metrics"
    else:
        state = event.data["to"]
        message = _SAID.get(state, f"The release is {state}.")
        if state == "failed":
            level, why = "error", (event.data.get("error") or {}).get("message")
            message = f"{message} {why}" if why else message
        elif state == "published" and (run.gate_decision or {}).get("verdict") == "fail":
            level, why = "warn", "; ".join((run.gate_decision or {}).get("reasons", ()))
            message = f"{message} {_FAILED_CHECKS.format(why=why)}"
    return {
        "id": f"{EVENT}{event.seq}",
        "object": "fine_tuning.job.event",
        "created_at": _stamp(event.created_at),
        "level": level,
        "message": message,
        "type": kind,
        "data": data,
    }


def checkpoint_view(
    job: FineTuningJob, run: Run, release: str, newest: dict[str, Any], heldout: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the checkpoint of a job that succeeded: its release, as it was after the last step.

    `heldout` are the measures of the validation file after training, empty without one.
    """
    valid = (heldout.get("loss") or {}).get("value")
    return {
        "id": job.id.replace("ftjob-", "ftckpt-"),
        "object": "fine_tuning.job.checkpoint",
        "created_at": _stamp(run.finished_at or run.updated_at),
        "fine_tuned_model_checkpoint": release,
        "fine_tuning_job_id": job.id,
        "metrics": {
            "step": run.step,
            **_loss(newest),
            **({} if valid is None else {"full_valid_loss": valid}),
        },
        "step_number": run.step,
    }


def _loss(step: Mapping[str, Any]) -> dict[str, float]:
    return {"train_loss": step["loss"]} if isinstance(step.get("loss"), int | float) else {}


def _error(run: Run) -> dict[str, Any]:
    error = run.error or {}
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(error.get("kind") or "failed")).lower()
    return {"code": code, "message": error.get("message") or "The run has failed.", "param": None}


def _finished(run: Run) -> int | None:
    if run.state in RUN_UNDER_WAY:
        return None
    ended = run.finished_at if run.state in RUN_FINAL or run.state == "published" else None
    return _stamp(ended or run.updated_at)


def _estimate(run: Run, newest: dict[str, Any]) -> int | None:
    left = newest.get("seconds_left")
    return int(time.time() + left) if run.state == "training" and isinstance(left, int | float) else None


def _stamp(value: datetime) -> int:
    return int(value.timestamp())
