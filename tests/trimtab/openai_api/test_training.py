"""From files to adapters with OpenAI's client alone: two jobs of a tiny random base, trained for real. No engine serves."""

from __future__ import annotations

import json
import time
from pathlib import Path

import openai
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from align.run_directory import RunDirectory
from store.rollout import fine_tuning, runs
from tests.support.models import make_tiny_base
from tests.trimtab.conftest import URL
from tests.trimtab.openai_api.conftest import openai_client, preferences, send, talks
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform


def trained(gpt: openai.OpenAI, platform: Platform, job: str) -> RunDirectory:
    """The directory of a job's run once its adapter waits for an engine."""
    run = fine_tuning.get(platform.db, job).run
    deadline = time.monotonic() + 400
    while (state := runs.get(platform.db, run).state) != "publishing":
        assert state in ("queued", "snapshot", "training"), gpt.fine_tuning.jobs.retrieve(job)
        assert time.monotonic() < deadline, state
        time.sleep(0.2)
    assert gpt.fine_tuning.jobs.retrieve(job).status == "running"
    return RunDirectory(platform.paths.run(run))


@pytest.mark.slow
def test_jobs_train_on_the_rows_of_their_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.runs.workers.WORKER_NICENESS", 0)
    tiny = make_tiny_base(tmp_path / "tiny")
    settings = Settings(
        data=tmp_path / "data",
        engines={
            "main": EngineSettings(base="tiny", model=str(tiny), url="http://127.0.0.1:9", api_key="none")
        },
        deployments={"assistant": {"base": "tiny", "system_prompt": "Be kind."}},
    )
    platform = build_platform(settings, URL)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        gpt = openai_client(client)
        other = {"prompt": "A row of the deployment", "completion": "is not in the file"}
        client.post("/api/imports/demonstrations", params={"name": "x.json"}, json=[other])
        answers, checks = send(gpt, talks(12)), send(gpt, [*talks(1), *talks(2, "Also: ")])
        likes = send(gpt, preferences(12))
        supervised = gpt.fine_tuning.jobs.create(
            model="assistant",
            training_file=answers,
            validation_file=checks,
            seed=3,
            method={
                "type": "supervised",
                "supervised": {
                    "hyperparameters": {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 2}
                },
            },
        )
        preferred = gpt.fine_tuning.jobs.create(
            model="assistant@1",
            training_file=likes,
            method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.5}}},
        )
        sft = trained(gpt, platform, supervised.id)
        steps = [
            event for event in gpt.fine_tuning.jobs.list_events(supervised.id) if event.type == "metrics"
        ]
        assert len(steps) == 3
        gpt.fine_tuning.jobs.cancel(supervised.id)  # it waits for an engine, and the other for its turn
        dpo = trained(gpt, platform, preferred.id)
        gpt.fine_tuning.jobs.cancel(preferred.id)

        rows = pq.read_table(sft.path / "train.parquet").to_pylist()
        assert sorted(json.dumps(row["prompt"] + row["completion"]) for row in rows) == sorted(
            json.dumps(row["messages"]) for row in talks(12)
        )
        held = pq.read_table(sft.path / "heldout.parquet").to_pylist()
        assert sorted(row["prompt"][-1]["content"] for row in held) == [
            "Also: Question 0",
            "Also: Question 1",
        ]
        params, origin = sft.spec().recipe["params"], sft.spec().recipe["origin"]
        assert (params["seed"], params["num_train_epochs"], params["learning_rate"]) == (3, 1.0, 4e-4)
        assert origin["learning_rate"] == "params"
        assert sft.spec().system_prompt == "Be kind."

        assert pq.read_table(dpo.path / "train.parquet").num_rows == 12
        assert dpo.spec().recipe["params"]["beta"] == 0.5
        assert (dpo.adapter / "adapter_model.safetensors").exists()

        gpt.files.delete(answers)
        assert not (sft.path / "train.parquet").exists()
    platform.db.close()
