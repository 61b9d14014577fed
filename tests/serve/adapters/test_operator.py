"""What an operator does to adapters: list and prune them over the API, and merge one into its base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from align.training import merge
from serve.metering.limits import Budget
from store.rollout import adapters, deployments, releases
from store.rollout.adapters import AdapterRecord
from tests.support.models import make_lora
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import BudgetSettings, EngineSettings, LimitsSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL, BASE = "http://127.0.0.1:7860", "smollm2-135m-instruct"


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    limits = LimitsSettings(max_concurrent=8, budgets={"ada": BudgetSettings(requests_per_minute=3)})
    return build_platform(Settings(data=tmp_path / "data", engines=engines, limits=limits), URL)


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield client


def place(platform: Platform, count: int) -> list[str]:
    """Adapters on the disk, the oldest first; the last two are promoted one after the other."""
    names = [f"a-{n:016x}" for n in range(1, count + 1)]
    for n, name in enumerate(names):
        (platform.paths.adapters / name).mkdir(parents=True)
        made = datetime.now(UTC) - timedelta(days=count - n)
        cost = {"base_ms": 2.0, "adapter_ms": 3.0, "ratio": 1.5}
        adapters.record(
            platform.db,
            AdapterRecord(hash=name, base=BASE, path=name, rank=8, parity={"cost": cost}, created_at=made),
        )
        release = releases.create(platform.db, "assistant", BASE, adapter=name)
        if n >= count - 2:
            deployments.promote(platform.db, "assistant", "test", release.ref)
    return names


def test_old_adapters_are_listed_and_pruned(client: TestClient, platform: Platform) -> None:
    names = place(platform, 5)
    rows = client.get("/api/adapters").json()
    assert [row["id"] for row in rows] == names[::-1]
    assert [row["needed"] for row in rows] == [True, True, False, False, False]
    assert rows[0]["parity"]["cost"]["ratio"] == 1.5
    nothing_said = client.post("/api/adapters/prune", json={})
    assert nothing_said.status_code == 422
    assert nothing_said.json()["field"] == "keep_last"
    only_said = client.post("/api/adapters/prune", json={"keep_last": 0, "dry_run": True}).json()
    assert sorted(only_said["removed"]) == names[:3]
    assert (platform.paths.adapters / names[0]).is_dir()
    done = client.post("/api/adapters/prune", json={"max_age_days": 3.5}).json()
    assert sorted(done["removed"]) == names[:2]
    assert sorted(p.name for p in platform.paths.adapters.iterdir()) == names[2:]
    entry = client.get("/api/audit").json()[0]
    assert (entry["action"], entry["detail"]["max_age_days"]) == ("adapters.prune", 3.5)
    gone = client.post("/api/deployments/assistant/promote", json={"release": "assistant@2"})
    assert gone.status_code == 409
    assert "pruned" in gone.json()["detail"]


def test_budgets_come_from_the_settings(platform: Platform) -> None:
    limits = platform.settings.limits.build()
    assert limits.of("ada") == Budget(max_concurrent=8, requests_per_minute=3)
    assert limits.of("bob") == Budget(max_concurrent=8)
    platform.db.close()


def test_merged_adapter_answers_as_base_with_adapter(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`align.training.merge` compares what it wrote with PEFT's own numbers before the directory gets its name."""
    adapter = make_lora(tmp_path / "one", tiny_base, seed=3, rank=4)
    argv = ["--model", str(tiny_base), "--adapter", str(adapter), "--out", str(tmp_path / "merged")]
    assert merge.main(argv) == 0
    facts = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert facts["mean_abs"] < 1e-4
    assert (tmp_path / "merged" / "config.json").is_file()
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert merge.main(argv) == 1
    assert "exists already" in capsys.readouterr().err
