"""Fine-tuning jobs of OpenAI's API, as its own client asks for them; their runs are queued and not driven."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from serve.errors import AdapterRefused, ParityFailed
from store.rollout import deployments, fine_tuning, releases, runs
from tests.trimtab.conftest import BASE
from tests.trimtab.openai_api.conftest import preferences, send, talks
from trimtab import loop
from trimtab.errors import error_facts
from trimtab.platform import Platform


@pytest.fixture(autouse=True)
def _not_driven(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform.runner, "submit", lambda run_id: None)


def refused(gpt: openai.OpenAI, status: int, param: str | None, **request: Any) -> str:
    with pytest.raises(openai.APIStatusError) as caught:
        gpt.fine_tuning.jobs.create(**{"model": "assistant"} | request)
    body = caught.value.body
    assert isinstance(body, dict)
    assert (caught.value.status_code, body["param"]) == (status, param), body
    return str(body["code"])


def finish(platform: Platform, run: str, verdict: str = "pass") -> str:
    """Take a run to its end, with a release and the gate's verdict; return the release's name."""
    release = releases.create(platform.db, "assistant", BASE, run=run)
    for state in ("snapshot", "training", "publishing"):
        runs.move(platform.db, run, state)
    runs.add_metrics(platform.db, run, [{"step": 4, "loss": 0.5}])
    decision = {"verdict": verdict, "reasons": ["it drifted", "it repeats"]}
    runs.move(platform.db, run, "evaluating", release=release.id, gate_decision=decision)
    runs.move(platform.db, run, "published")
    return release.ref


def test_a_job_goes_from_queued_to_its_release(gpt: openai.OpenAI, platform: Platform) -> None:
    training, validation = send(gpt, preferences(10)), send(gpt, preferences(3, "Also: "))
    job = gpt.fine_tuning.jobs.create(
        model="assistant",
        training_file=training,
        validation_file=validation,
        suffix="kind",
        seed=7,
        metadata={"team": "a"},
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": 3, "batch_size": 6}}},
    )
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", "assistant", 7)
    assert (job.training_file, job.validation_file, job.metadata) == (training, validation, {"team": "a"})
    assert (job.fine_tuned_model, job.finished_at, job.error) == (None, None, None)
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    asked = job.method.dpo.hyperparameters
    assert (asked.beta, asked.n_epochs, asked.batch_size) == (0.3, 3, 6)
    assert asked.learning_rate_multiplier == "auto"
    run = runs.get(platform.db, fine_tuning.get(platform.db, job.id).run)
    assert (run.method, run.deployment, run.rollout) == ("dpo", "assistant", "none")
    assert run.params == {
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "beta": 0.3,
        "seed": 7,
    }
    with pytest.raises(openai.ConflictError):
        gpt.files.delete(validation)
    assert list(gpt.fine_tuning.jobs.checkpoints.list(job.id)) == []

    name = finish(platform, run.id)
    done = gpt.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model) == ("succeeded", name)
    assert done.finished_at is not None
    told = list(gpt.fine_tuning.jobs.list_events(job.id, limit=2))
    assert [event.type for event in told] == ["message", "message", "metrics", *["message"] * 4]
    assert told[0].message == "The job has succeeded."
    assert told[2].data == {"step": 4, "train_loss": 0.5}
    (checkpoint,) = gpt.fine_tuning.jobs.checkpoints.list(job.id)
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number) == (name, 4)
    assert (checkpoint.metrics.train_loss, checkpoint.metrics.full_valid_loss) == (0.5, None)
    report = {"heldout": {"before": {"n": 3}, "after": {"n": 3, "loss": {"value": 0.7}}}}
    platform.paths.run(run.id).mkdir(parents=True)
    (platform.paths.run(run.id) / "report.json").write_text(json.dumps(report))
    (checkpoint,) = gpt.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.metrics.full_valid_loss == 0.7
    gpt.files.delete(validation)


def test_checks_that_fail_are_an_event_and_hold_no_model_back(gpt: openai.OpenAI, platform: Platform) -> None:
    job = gpt.fine_tuning.jobs.create(model="assistant", training_file=send(gpt, talks(10)))
    name = finish(platform, fine_tuning.get(platform.db, job.id).run, "fail")
    done = gpt.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model, done.error) == ("succeeded", name, None)
    newest = gpt.fine_tuning.jobs.list_events(job.id).data[0]
    assert (newest.level, newest.type) == ("warn", "message")
    assert "it drifted; it repeats" in newest.message


def test_a_model_that_cannot_be_measured_is_there_all_the_same(
    gpt: openai.OpenAI, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> dict[str, Any]:
        raise OSError("the engine is restarting")

    monkeypatch.setattr(platform.evaluations, "_run_suite", broken)
    file, other = send(gpt, talks(10)), send(gpt, talks(3, "Also: "))
    for validation, why in ((other, "the engine is restarting"), (None, "has no validation file")):
        job = gpt.fine_tuning.jobs.create(model="assistant", training_file=file, validation_file=validation)
        run = runs.get(platform.db, fine_tuning.get(platform.db, job.id).run)
        run = asyncio.run(loop.take_snapshot(platform.loop, run))
        runs.move(platform.db, run.id, "publishing")
        release = releases.create(platform.db, "assistant", BASE, run=run.id)
        run = runs.move(platform.db, run.id, "evaluating", release=release.id)
        decision = asyncio.run(loop.evaluate(platform.loop, run)).gate_decision or {}
        assert decision["verdict"] == "undecided"
        assert why in decision["reasons"][0]
        done = gpt.fine_tuning.jobs.retrieve(job.id)
        assert (done.status, done.fine_tuned_model) == ("succeeded", release.ref)


def test_a_job_starts_from_the_release_that_its_model_names(gpt: openai.OpenAI, platform: Platform) -> None:
    file = send(gpt, talks(10))
    newer = releases.create(platform.db, "assistant", BASE, system_prompt="Rhyme.")
    for model, release in (("assistant", "assistant@1"), (newer.ref, newer.ref)):
        job = gpt.fine_tuning.jobs.create(model=model, training_file=file)
        start = fine_tuning.get(platform.db, job.id).start_release
        assert (job.model, releases.get(platform.db, start).ref) == (model, release)
    assert deployments.get(platform.db, "assistant").stable != newer.id
    for model in ("gpt-4o-mini", "assistant@9", BASE, newer.id):
        assert refused(gpt, 404, "model", model=model, training_file=file) == "model_not_found"


def test_jobs_are_listed_page_by_page_and_by_metadata(gpt: openai.OpenAI) -> None:
    file = send(gpt, talks(10))
    ids = [
        gpt.fine_tuning.jobs.create(
            model="assistant", training_file=file, metadata={"team": team, "n": "1"}
        ).id
        for team in ("a", "b", "a")
    ]
    first = gpt.fine_tuning.jobs.list(limit=2)
    assert ([job.id for job in first.data], first.has_more) == ([ids[2], ids[1]], True)
    assert [job.id for job in gpt.fine_tuning.jobs.list(limit=1)] == ids[::-1]
    assert [job.id for job in gpt.fine_tuning.jobs.list(metadata={"team": "a"})] == [ids[2], ids[0]]
    assert list(gpt.fine_tuning.jobs.list(metadata={"team": "c"})) == []


def test_a_job_is_cancelled_once(gpt: openai.OpenAI, platform: Platform) -> None:
    job = gpt.fine_tuning.jobs.create(model="assistant", training_file=send(gpt, talks(10)))
    assert gpt.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.fine_tuning.jobs.cancel(job.id)
    assert caught.value.code == "job_ended"
    for ask in (
        gpt.fine_tuning.jobs.retrieve,
        gpt.fine_tuning.jobs.cancel,
        gpt.fine_tuning.jobs.list_events,
        gpt.fine_tuning.jobs.checkpoints.list,
    ):
        with pytest.raises(openai.NotFoundError):
            ask("ftjob-nothing")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"kind": "OutOfMemory", "message": "Too large."}, "out_of_memory"),
        (error_facts(AdapterRefused("Too large.")), "adapter_refused"),
        (error_facts(ParityFailed("Too large.")), "parity_failed"),
    ],
)
def test_a_job_that_failed_says_why(
    gpt: openai.OpenAI, platform: Platform, error: dict[str, Any], code: str
) -> None:
    job = gpt.fine_tuning.jobs.create(model="assistant", training_file=send(gpt, talks(10)))
    run = fine_tuning.get(platform.db, job.id).run
    runs.move(platform.db, run, "failed", error=error)
    failed = gpt.fine_tuning.jobs.retrieve(job.id)
    assert (failed.status, failed.fine_tuned_model) == ("failed", None)
    assert failed.error is not None
    assert failed.error.model_dump() == {"code": code, "message": "Too large.", "param": None}
    newest = gpt.fine_tuning.jobs.list_events(job.id).data[0]
    assert (newest.level, newest.message) == ("error", "The job has failed. Too large.")


def hyper(kind: str, **values: Any) -> dict[str, Any]:
    return {"type": kind, kind: {"hyperparameters": values}}


def test_what_a_job_does_not_take_is_refused_and_makes_no_run(gpt: openai.OpenAI, platform: Platform) -> None:
    file, few, pairs = send(gpt, talks(10)), send(gpt, talks(9)), send(gpt, preferences(10))
    assert refused(gpt, 404, "training_file", training_file="file-nothing") == "not_found"
    assert refused(gpt, 400, "training_file", training_file=few) == "invalid_n_examples"
    assert refused(gpt, 400, "training_file", training_file=pairs) == "invalid_file_format"
    where = {"training_file": file, "validation_file": pairs}
    assert refused(gpt, 400, "validation_file", **where) == "invalid_file_format"
    assert refused(gpt, 400, "validation_file", training_file=file, validation_file=file) == "invalid_value"
    for method, name, code in (
        (hyper("supervised", beta=0.1), "supervised.hyperparameters.beta", "unknown_parameter"),
        (hyper("dpo", momentum=1), "dpo.hyperparameters.momentum", "unknown_parameter"),
        (hyper("supervised", n_epochs=0), "supervised.hyperparameters.n_epochs", "invalid_value"),
        (hyper("dpo", beta="much"), "dpo.hyperparameters.beta", "invalid_value"),
        ({"type": "reinforcement"}, "type", "invalid_value"),
    ):
        assert refused(gpt, 400, f"method.{name}", training_file=file, method=method) == code
    for name, value in (("suffix", "x" * 65), ("seed", -1), ("metadata", {"a": "x" * 513})):
        with pytest.raises(openai.BadRequestError) as caught:
            gpt.fine_tuning.jobs.create(**{"model": "assistant", "training_file": file, name: value})
        assert str(caught.value.param).startswith(name)
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.fine_tuning.jobs.create(model="assistant", training_file=file, extra_body={"colour": "red"})
    assert (caught.value.param, caught.value.code) == ("colour", "unknown_parameter")
    assert runs.list_all(platform.db) == []
