"""What `trimtab doctor` says of the cores that engines get."""

from __future__ import annotations

import os

import pytest

import serve.engine.engine
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.doctor import _share


def settings(nice: int | None = None, url: str | None = None) -> Settings:
    return Settings(
        engines={"main": EngineSettings(base="smollm2-135m-instruct", device="cpu", nice=nice, url=url)}
    )


@pytest.fixture(autouse=True)
def _default_niceness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.engine.engine, "BEHIND_GATEWAY", 10)


def test_doctor_reports_engines_starved_of_processor_time() -> None:
    said = _share(settings(), others=float(os.cpu_count() or 1)).said
    assert "engine main (niceness 10) gets what they leave" in said
    assert "engines.main.nice = 0" in said


@pytest.mark.parametrize(
    ("chosen", "others"),
    [(settings(), 0.0), (settings(nice=0), 64.0), (settings(url="http://10.0.0.5:8000"), 64.0)],
)
def test_doctor_gives_no_advice_where_engines_do_not_starve(chosen: Settings, others: float) -> None:
    assert "answers may take minutes" not in _share(chosen, others).said
