"""Each fact that several parts need has one source, or is proven equal where a part must not import it."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from align import evaluation
from feedback_ui import texts
from serve import auth
from serve.engine.spec import RANKS, EngineSpec
from serve.gateway.canary_monitor import CanaryPolicy
from serve.metering.limits import Budget, Limits
from store.accounts import roles
from store.datasets import snapshot_settings
from store.rollout import run_states, runs
from trimtab.api.runs.models import RunRequest
from trimtab.cli import app as cli
from trimtab.config.rollout_sections import CanarySettings, GateSettings
from trimtab.config.serving_sections import BudgetSettings, EngineSettings, LimitsSettings
from trimtab.config.training_sections import ScheduleSettings, SnapshotSettings


@pytest.mark.parametrize(
    ("built", "plain"),
    [
        (LimitsSettings().build(), Limits()),
        (CanarySettings().alarm_policy(), CanaryPolicy()),
        (EngineSettings(base="b").specs("e", "m"), [EngineSpec("e", "b", "m")]),
        (
            snapshot_settings.read(SnapshotSettings().model_dump()),
            snapshot_settings.SnapshotSettings(),
        ),
    ],
)
def test_a_section_without_settings_builds_the_value_class_with_its_defaults(built: Any, plain: Any) -> None:
    assert built == plain


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (BudgetSettings, {name.name: 7 for name in fields(Budget)}),
        (CanarySettings, {"first_token_s": 2.0, "max_failed": 0.2, "min_requests": 5, "window_s": 60.0}),
    ],
)
def test_a_section_passes_every_field_on(section: type[Any], values: dict[str, Any]) -> None:
    made = section(**values)
    whole = (
        LimitsSettings(budgets={"ada": made}).build().budgets["ada"] if section is BudgetSettings else None
    )
    assert asdict(whole or made.alarm_policy()).items() >= values.items()


def test_an_engine_with_replicas_makes_one_specification_per_process() -> None:
    made = EngineSettings(base="b", replicas=2, max_loras=3, args={"dtype": "bfloat16"}).specs("main", "m")
    assert [spec.name for spec in made] == ["main-1", "main-2"]
    assert {(spec.base, spec.model, spec.max_loras, spec.args["dtype"]) for spec in made} == {
        ("b", "m", 3, "bfloat16")
    }


def test_every_list_of_roles_is_the_same() -> None:
    lists = {
        "store": roles.ROLES,
        "authentication": auth.ROLES,
        "screens": tuple(value for _, value in texts.ROLES),
    }
    assert set(lists.values()) == {roles.ROLES}, lists


def test_every_list_of_rollouts_gates_ranks_and_ties_is_the_same() -> None:
    assert get_args(ScheduleSettings.model_fields["rollout"].annotation) == runs.ROLLOUTS
    assert get_args(RunRequest.model_fields["rollout"].annotation) == runs.ROLLOUTS
    assert get_args(RunRequest.model_fields["gate"].annotation) == runs.GATES
    assert tuple(value for _, value in texts.TRAIN_GATES) == runs.GATES
    assert get_args(EngineSettings.model_fields["max_lora_rank"].annotation) == RANKS
    assert get_args(SnapshotSettings.model_fields["ties"].annotation) == snapshot_settings.TIES


def test_command_line_and_settings_name_every_built_in_suite() -> None:
    found = {path.stem for path in (Path(evaluation.__file__).parent / "suites").glob("*.toml")}
    assert found == set(evaluation.BUILT_IN_SUITES)
    listed = ", ".join(evaluation.BUILT_IN_SUITES)
    assert listed in str(GateSettings.model_fields["suite"].description)
    help = CliRunner().invoke(cli, ["eval", "--help"], env={"COLUMNS": "300"}).output
    assert listed in " ".join(help.split())


def test_run_states_are_listed_once() -> None:
    assert get_args(run_states.RunState) == run_states.RUN_STATES
    assert set(run_states.RUN_TRANSITIONS) == set(run_states.RUN_STATES)
