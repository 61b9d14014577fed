"""Runs, adapters, releases, deployments, evaluations."""

from __future__ import annotations

import pytest

from store.accounts import audit
from store.db.database import Store
from store.errors import Conflict, Invalid, NotFound
from store.rollout import adapters, deployments, evaluations, lineage, releases, runs
from store.rollout.adapters import AdapterRecord
from store.rollout.run_states import RUN_STATES, RUN_TRANSITIONS


def adapter(db: Store, name: str = "a-1", base: str = "smol", **facts: object) -> str:
    return adapters.record(db, AdapterRecord(hash=name, base=base, path=f"/data/{name}", **facts)).hash  # type: ignore[arg-type]


def test_run_moves_through_its_states_and_stores_its_fields(db: Store) -> None:
    run = runs.create(db, "dpo", "assistant", True, {"max_steps": 3}, "canary", "report", "ada")
    assert (run.state, run.step, run.params, run.qlora) == ("queued", 0, {"max_steps": 3}, True)
    runs.move(db, run.id, "snapshot")
    runs.move(db, run.id, "training", snapshot="s-1", total_steps=3, base="smol")
    runs.add_metrics(db, run.id, [{"step": 1, "loss": 0.7}, {"step": 2, "loss": float("nan")}])
    runs.add_metrics(db, run.id, [{"step": 2, "eval_loss": 0.6, "total_steps": 4}])
    now = runs.get(db, run.id)
    assert (now.state, now.step, now.total_steps, now.snapshot) == ("training", 2, 4, "s-1")
    assert runs.metrics(db, run.id) == [
        {"step": 1, "loss": 0.7},
        {"step": 2, "loss": None, "eval_loss": 0.6, "total_steps": 4},
    ]
    failed = runs.move(db, run.id, "failed", error={"kind": "crash", "message": "boom"})
    assert failed.error == {"kind": "crash", "message": "boom"}
    assert failed.finished_at is not None
    resumed = runs.move(db, run.id, "training")
    assert resumed.error is None
    assert resumed.finished_at is None


def test_run_events_are_ordered_and_can_be_followed(db: Store) -> None:
    run = runs.create(db, "sft", "assistant")
    runs.move(db, run.id, "snapshot")
    first = runs.events(db, run.id)
    assert [event.data["to"] for event in first] == ["queued", "snapshot"]
    runs.add_metrics(db, run.id, [{"step": 1, "loss": 1.0}])
    runs.move(db, run.id, "failed", error="no data")
    later = runs.events(db, run.id, after=first[-1].seq)
    assert [event.kind for event in later] == ["metrics", "state"]
    assert later[0].data == {"step": 1, "loss": 1.0}
    assert later[1].data["error"] == "no data"


def test_forbidden_moves_change_nothing(db: Store) -> None:
    run = runs.create(db, "dpo", "assistant")
    with pytest.raises(Conflict, match="queued"):
        runs.move(db, run.id, "stable")
    with pytest.raises(Invalid, match="state"):
        runs.move(db, run.id, "lunch")
    with pytest.raises(Invalid) as caught:
        runs.move(db, run.id, "snapshot", colour="red")
    assert "snapshot" in caught.value.accepted
    with pytest.raises(NotFound):
        runs.move(db, "run-0", "snapshot")
    assert runs.get(db, run.id) == run
    assert len(runs.events(db, run.id)) == 1


def test_the_state_table_names_known_states_only() -> None:
    assert set(RUN_TRANSITIONS) == set(RUN_STATES)
    assert set().union(*RUN_TRANSITIONS.values()) <= set(RUN_STATES)


def test_unfinished_runs_are_those_with_work_left(db: Store) -> None:
    waiting = runs.create(db, "dpo", "assistant")
    done = runs.create(db, "dpo", "assistant")
    runs.move(db, done.id, "cancelled")
    assert [run.id for run in runs.unfinished(db)] == [waiting.id]
    assert [run.id for run in runs.list_all(db, limit=1)] == [done.id]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("method", {"method": "ppo"}),
        ("rollout", {"rollout": "all"}),
        ("gate", {"gate": "off"}),
        ("params", {"params": [1]}),
    ],
)
def test_bad_runs_are_refused(db: Store, field: str, values: dict[str, object]) -> None:
    with pytest.raises(Invalid) as caught:
        runs.create(db, **{"method": "dpo", "deployment": "assistant", **values})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_an_adapter_is_recorded_once(db: Store) -> None:
    adapter(db, run="run-1", target_modules=("q_proj",), rank=8)
    again = adapters.record(db, AdapterRecord("a-1", "smol", "/elsewhere", parity={"mean_abs": 0.001}))
    assert (again.run, again.path, again.parity) == ("run-1", "/elsewhere", {"mean_abs": 0.001})
    assert adapters.list_all(db) == [again]
    with pytest.raises(Conflict):
        adapter(db, base="other")
    with pytest.raises(NotFound):
        adapters.get(db, "a-2")


def test_releases_are_numbered_within_their_deployment(db: Store) -> None:
    deployments.ensure(db, "assistant", "smol", "Be kind.")
    adapter(db)
    second = releases.create(db, "assistant", "smol", "a-1", sampling={"temperature": 0.2}, run="run-1")
    other = releases.create(db, "poet", "smol")
    assert (second.ref, other.ref) == ("assistant@2", "poet@1")
    assert releases.get(db, "assistant@2") == releases.get(db, second.id) == second
    assert releases.create(db, "assistant", "smol", "a-1", run="run-1") == second
    assert [release.number for release in releases.list_all(db, "assistant")] == [2, 1]
    assert second.to_json()["ref"] == "assistant@2"
    for ref in (
        "assistant@9",
        "assistant@",
        "@1",
        "nonsense",
        "assistant@99999999999999999999",
        "assistant@²",
    ):
        with pytest.raises(NotFound):
            releases.get(db, ref)
    with pytest.raises(NotFound):
        releases.create(db, "assistant", "smol", "a-9")
    with pytest.raises(Conflict):
        releases.create(db, "assistant", "big", "a-1")


def test_canary_promote_and_rollback(db: Store) -> None:
    first = deployments.ensure(db, "assistant", "smol").stable
    assert deployments.ensure(db, "assistant", "ignored").stable == first
    second = releases.create(db, "assistant", "smol", system_prompt="Two.").id
    third = releases.create(db, "assistant", "smol", system_prompt="Three.").id

    canary = deployments.set_canary(db, "assistant", "assistant@2", 0.25, "ada")
    assert (canary.stable, canary.canary, canary.canary_weight) == (first, second, 0.25)
    promoted = deployments.promote(db, "assistant", "ada")
    assert (promoted.stable, promoted.canary, promoted.earlier) == (second, None, (first,))
    assert deployments.promote(db, "assistant", "ada", second) == promoted
    assert deployments.promote(db, "assistant", "ada", third).earlier == (first, second)

    assert deployments.rollback(db, "assistant", "ada", expect=third).stable == second
    with pytest.raises(Conflict):
        deployments.rollback(db, "assistant", "bob", expect=third)
    assert deployments.rollback(db, "assistant", "ada").stable == first
    with pytest.raises(Conflict):
        deployments.rollback(db, "assistant", "ada")

    deployments.set_canary(db, "assistant", second, 1, "ada")
    withdrawn = deployments.rollback(db, "assistant", "ada")
    assert (withdrawn.stable, withdrawn.canary) == (first, None)
    actions = [entry.action for entry in audit.list_recent(db)][::-1]
    assert actions == [
        f"deployment.{a}"
        for a in ["create", "canary", "promote", "promote", "rollback", "rollback", "canary", "rollback"]
    ]
    assert [change["action"] for change in deployments.history(db, "assistant")][-1] == "create"


def test_bad_rollouts_change_nothing(db: Store) -> None:
    before = deployments.ensure(db, "assistant", "smol")
    deployments.ensure(db, "poet", "smol")
    releases.create(db, "assistant", "smol")
    with pytest.raises(Invalid):
        deployments.set_canary(db, "assistant", "assistant@2", 1.5)
    with pytest.raises(Conflict):
        deployments.set_canary(db, "assistant", "assistant@1", 0.5)
    with pytest.raises(Conflict):
        deployments.promote(db, "assistant", release="poet@1")
    with pytest.raises(Conflict):
        deployments.promote(db, "assistant")
    with pytest.raises(NotFound):
        deployments.promote(db, "nobody")
    assert deployments.get(db, "assistant") == before
    assert len(audit.list_recent(db)) == 2


def test_evaluations_move_and_keep_their_report(db: Store) -> None:
    deployments.ensure(db, "assistant", "smol")
    made = evaluations.create(db, "assistant@1", None, "default", "ada")
    evaluations.move(db, made.id, "running")
    evaluations.move(db, made.id, "running", report={"done": 0.5})
    done = evaluations.move(db, made.id, "done", report={"win_rate": 0.6})
    assert (done.state, done.report, done.error) == ("done", {"win_rate": 0.6}, None)
    assert evaluations.list_all(db, "assistant@1") == [done]
    with pytest.raises(Conflict):
        evaluations.move(db, made.id, "running")
    with pytest.raises(NotFound):
        evaluations.create(db, "assistant@7")


def test_lineage_lists_the_rows_behind_a_release(db: Store) -> None:
    deployments.ensure(db, "assistant", "smol")
    plain = lineage.of_release(db, releases.get(db, "assistant@1"))
    assert (plain["adapter"], plain["run"], plain["pairs"], plain["raters"]) == (None, None, 0, [])
