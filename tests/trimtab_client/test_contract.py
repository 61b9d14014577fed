"""The client's own names and records are those of the platform."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from typing import Any, get_args, get_type_hints

import pytest

from common.training_methods import METHODS, Method
from serve import auth
from store.accounts.roles import ROLES
from store.accounts.sharing import SHARES
from store.feedback import vote_details
from store.jobs import jobs as stored_jobs
from store.rollout import run_states
from store.rollout import runs as stored
from trimtab.api.comparisons import models as comparisons
from trimtab.api.deployments import models as deployments
from trimtab.api.evals import models as evals
from trimtab.api.jobs import models as job_models
from trimtab.api.people import models as people
from trimtab.api.releases import models as releases
from trimtab.api.runs import models as runs
from trimtab.api.votes import models as votes
from trimtab_client import AsyncClient, sync_client, types, values

RECORDS: list[tuple[type, Any]] = [
    (types.WhoAmI, people.WhoAmIView),
    (types.Comparison, comparisons.ComparisonView),
    (types.Vote, votes.VoteView),
    (types.Transition, runs.TransitionView),
    (types.Run, runs.RunView),
    (types.Plan, runs.PlanView),
    (types.Release, releases.ReleaseView),
    (types.Deployment, deployments.DeploymentView),
    (types.Evaluation, evals.EvalView),
    (types.Job, job_models.JobView),
    (types.Key, people.KeyView),
    (types.User, people.UserView),
    (types.Shared, people.ShareView),
]
STREAMS = {"stream", "import_file", "events"}


@pytest.mark.parametrize(("record", "model"), RECORDS, ids=lambda value: value.__name__)
def test_records_have_the_fields_of_the_platform(record: type, model: Any) -> None:
    assert set(get_type_hints(record)) == set(model.model_fields)


def test_values_are_those_of_the_platform() -> None:
    assert values.METHODS == METHODS == get_args(Method)
    assert values.ROLES == ROLES
    assert values.SHARES == SHARES
    assert values.RUN_STATES == run_states.RUN_STATES
    assert values.RUN_UNDER_WAY == run_states.RUN_UNDER_WAY
    assert get_args(values.JobState) == stored_jobs.JOB_STATES
    assert values.JOB_UNDER_WAY == stored_jobs.JOB_UNDER_WAY
    assert get_args(values.Choice) == get_args(votes.Choice)
    assert get_args(values.Strength) == vote_details.STRENGTHS == get_args(votes.Strength)
    assert get_args(values.Rollout) == get_args(stored.Rollout)
    assert get_args(values.GateMode) == get_args(stored.GateMode)
    assert get_args(values.Start) == get_args(stored.Start)
    working = {state for state, following in run_states.RUN_TRANSITIONS.items() if "cancelled" in following}
    assert {*values.RUN_UNDER_WAY} <= working


@pytest.mark.parametrize("role", values.ROLES)
def test_a_role_includes_those_before_it(role: values.Role) -> None:
    for needed in values.ROLES:
        principal = auth.Principal("ada", frozenset({role}), "multi-user")
        assert values.includes([role], needed) == principal.may(needed)


def public(of: type) -> dict[str, Any]:
    return {name: value for name, value in vars(of).items() if not name.startswith("_") and callable(value)}


def test_the_blocking_client_has_every_operation() -> None:
    target = AsyncClient("http://127.0.0.1:9")
    client = sync_client.Client("http://127.0.0.1:9")
    for name, resource in vars(target).items():
        if name.startswith("_") or name == "url":
            continue
        wanted, found = public(type(resource)), public(type(getattr(client, name)))
        assert found.keys() == wanted.keys(), name
        for method, original in wanted.items():
            assert found[method].__wrapped__ is original, f"{name}.{method}"
            assert inspect.isasyncgenfunction(original) == (method in STREAMS), f"{name}.{method}"
    assert public(AsyncClient).keys() - {"aclose"} == public(sync_client.Client).keys() - {"close"}
    client.close()
    asyncio.run(target.aclose())


@pytest.mark.parametrize("module", ["trimtab_client", "trimtab_client.types", "trimtab_client.values"])
def test_the_client_imports_httpx_alone(module: str) -> None:
    code = (
        f"import sys, {module};"
        "heavy = {'pydantic', 'gradio', 'duckdb', 'numpy', 'fastapi', 'starlette', 'orjson', 'aiohttp'};"
        "ours = {'trimtab', 'serve', 'store', 'align', 'feedback_ui', 'common'};"
        "print(sorted((heavy | ours) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
