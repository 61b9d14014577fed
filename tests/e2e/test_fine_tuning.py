"""OpenAI's fine-tuning API on the real stack, with its own client alone: a job to its model, one that is cancelled."""

from __future__ import annotations

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.support.platform import PlatformProcess, wait_for
from tests.trimtab.openai_api.conftest import preferences, send, talks

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def gpt(platform: PlatformProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{platform.url}/v1", api_key="none", max_retries=0, timeout=180)


@pytest.fixture(scope="module")
def jobs(platform: PlatformProcess, gpt: openai.OpenAI) -> tuple[FineTuningJob, FineTuningJob]:
    """A supervised job that has ended, and one on preferences that came after it and was cancelled while it trained."""
    ask, ended = gpt.fine_tuning.jobs, ("succeeded", "failed", "cancelled")
    first = ask.create(
        model="assistant",
        training_file=send(gpt, talks(10)),
        validation_file=send(gpt, talks(3, "Also: ")),
        suffix="brief",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 5}}},
    )
    second = ask.create(
        model="assistant",
        training_file=send(gpt, preferences(12)),
        method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 50, "batch_size": 1}}},
    )
    wait_for(lambda: ask.retrieve(first.id).status in ended, 600, platform.say)
    wait_for(lambda: "metrics" in [e.type for e in ask.list_events(second.id).data], 600, platform.say)
    return ask.retrieve(first.id), ask.cancel(second.id)


def test_a_job_succeeds_and_its_model_answers_by_its_name(
    platform: PlatformProcess, gpt: openai.OpenAI, jobs: tuple[FineTuningJob, FineTuningJob]
) -> None:
    job, _ = jobs
    model = job.fine_tuned_model
    assert (job.status, job.error, job.user_provided_suffix) == ("succeeded", None, "brief")
    assert model is not None
    assert job.finished_at is not None
    answer = gpt.chat.completions.create(model=model, messages=HELLO, max_tokens=8, temperature=0)
    pieces = list(
        gpt.chat.completions.create(model=model, messages=HELLO, max_tokens=8, temperature=0, stream=True)
    )
    assert answer.model == pieces[0].model == model
    assert answer.choices[0].message.content
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    deployment = platform.get("/api/deployments/assistant")
    assert model not in (deployment["stable"], deployment["canary"]), "it has no traffic of its deployment"
    card = gpt.models.retrieve(model).model_dump()
    assert (card["kind"], card["state"], card["deployment"]) == ("release", "none", "assistant")
    assert card["adapter"]


def test_its_checkpoint_has_the_losses_of_both_files(
    gpt: openai.OpenAI, jobs: tuple[FineTuningJob, FineTuningJob]
) -> None:
    (checkpoint,) = gpt.fine_tuning.jobs.checkpoints.list(jobs[0].id)
    assert checkpoint.fine_tuned_model_checkpoint == jobs[0].fine_tuned_model
    assert checkpoint.step_number == 2
    assert checkpoint.metrics.train_loss
    assert checkpoint.metrics.full_valid_loss


def test_jobs_take_turns_and_one_that_trains_is_cancelled(
    gpt: openai.OpenAI, jobs: tuple[FineTuningJob, FineTuningJob]
) -> None:
    first, second = jobs
    assert (second.status, second.fine_tuned_model) == ("cancelled", None)
    assert second.finished_at is not None
    before, after = (
        [int(event.id.rpartition("-")[2]) for event in gpt.fine_tuning.jobs.list_events(job.id)]
        for job in jobs
    )
    assert max(before) < sorted(after)[1], "all that it did but to wait came after the other job's end"
    newest, *_ = gpt.fine_tuning.jobs.list_events(second.id)
    assert newest.message == "The job was cancelled."
    assert list(gpt.fine_tuning.jobs.checkpoints.list(second.id)) == []
    page = gpt.fine_tuning.jobs.list(limit=1)
    assert ([job.id for job in page.data], page.has_more) == ([second.id], True)
    assert [job.id for job in page] == [second.id, first.id]
