"""From the store's records to the API's answers: record ids of releases become their public names."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from store.accounts.keys import Key
from store.feedback.comparisons import Comparison
from store.rollout.chat_template_kwargs import KEY, fixed_by, without
from store.rollout.deployments import Deployment
from store.rollout.evaluations import Evaluation
from store.rollout.releases import Release
from store.rollout.runs import Run, RunEvent
from store.training_data.demonstrations import DemonstrationRecord
from store.training_data.pairs import PairRecord
from store.values import Conversation
from trimtab.api.comparisons.models import ComparisonView
from trimtab.api.deployments.models import CanaryVotes, DeploymentView
from trimtab.api.evals.models import EvalView
from trimtab.api.people.models import KeyView
from trimtab.api.releases.models import ReleaseView
from trimtab.api.runs.models import RunView, TransitionView
from trimtab.api.training_data.models import DemonstrationView, PairView
from trimtab.config.rollout_sections import CanarySettings
from trimtab.config.settings import Settings
from trimtab.rollout.weighing import Trial

Names = Mapping[str, str]
"""Release id -> public name."""

MOST = 1e12
"""Evidence is shown up to here: JSON has no infinity."""


def run_view(run: Run, names: Names, metrics: dict[str, Any], events: list[RunEvent]) -> RunView:
    """Return one run; `metrics` is its newest step, `events` its state changes, oldest first."""
    history = [
        TransitionView(state=event.data["to"], at=event.created_at, detail=event.data.get("detail"))
        for event in events
    ]
    seconds: dict[str, float] = {}
    for before, after in pairwise(history):
        spent = (after.at - before.at).total_seconds()
        seconds[before.state] = round(seconds.get(before.state, 0.0) + spent, 3)
    fields = run.to_json() | {
        "release": names.get(run.release or "", run.release),
        "error": (run.error or {}).get("message"),
        "metrics": metrics,
        "start": run.start_from,
        "transitions": history,
        "seconds_by_state": seconds,
    }
    return RunView(**{name: fields[name] for name in RunView.model_fields if name in fields})


def event_view(event: RunEvent) -> dict[str, Any]:
    """Return one event of a run: a change of `state` (`from`, `to`, and what came with it) or a `step` with its metrics."""
    state = {"state": event.data["to"]} if event.kind == "state" else {}
    return {"seq": event.seq, "run": event.run, "at": event.created_at.isoformat(), **state, **event.data}


def release_view(
    release: Release, deployments: Mapping[str, Deployment], parity: dict[str, Any] | None = None
) -> ReleaseView:
    """Return one release, with the lane that it is in now."""
    deployment = deployments.get(release.deployment)
    lane: Literal["stable", "canary"] | None = None
    if deployment is not None:
        lane = {deployment.stable: "stable", deployment.canary: "canary"}.get(release.id)  # type: ignore[assignment]
    fields = release.to_json() | {"name": release.ref, "lane": lane, "parity": parity}
    fields |= {"sampling": without(release.sampling), KEY: fixed_by(release.sampling)}
    return ReleaseView(**{name: fields[name] for name in ReleaseView.model_fields if name in fields})


def deployment_view(deployment: Deployment, names: Names, votes: CanaryVotes | None = None) -> DeploymentView:
    """Return one deployment."""
    return DeploymentView(
        name=deployment.name,
        base=deployment.base,
        stable=names[deployment.stable],
        canary=names[deployment.canary] if deployment.canary else None,
        weight=deployment.canary_weight or 0.0,
        previous=names[deployment.earlier[-1]] if deployment.earlier else None,
        updated_at=deployment.updated_at,
        votes=votes,
    )


def canary_votes(trial: Trial, policy: CanarySettings, names_raters: bool) -> CanaryVotes:
    """Return how far the votes on a canary are from deciding it; raters are named where `names_raters`."""
    found, duel = trial.evidence, trial.duel
    return CanaryVotes(
        wins=duel.wins,
        losses=duel.losses,
        ties=duel.ties,
        evidence_for=min(found.promote, MOST),
        evidence_against=min(found.rollback, MOST),
        needed=None if trial.alpha_promote is None else 1 / trial.alpha_promote,
        needed_against=None if trial.alpha_rollback is None else 1 / trial.alpha_rollback,
        min_votes=policy.min_votes,
        weighed=found.kind,
        blocks=found.blocks,
        win_rate=found.mean,
        low=found.low,
        high=found.high,
        others=duel.others,
        canary_of_the_year=duel.number,
        max_votes=policy.max_votes,
        ends_at=trial.ends_at,
        ended=trial.ended,
        verdict=found.verdict,
        raters_left_out=len(trial.left_out),
        undecided_without=list(found.without) if names_raters else [],
    )


def comparison_view(comparison: Comparison, settings: Settings) -> ComparisonView:
    """Return one comparison, blind, with what the settings have raters see beside it."""
    rank, own = settings.rank, settings.deployments.get(comparison.deployment or "")
    return ComparisonView(
        **comparison.blind(),
        show=rank.show,
        reasons=list(rank.reasons if own is None or own.reasons is None else own.reasons),
        skip_reasons=list(rank.skip_reasons),
        guidelines=rank.guidelines if own is None or own.guidelines is None else own.guidelines,
        state=comparison.state,
        source="rank"
        if comparison.source in ("typed", "drawn", "chosen")
        else comparison.source,  # as of a gold question
        created_at=comparison.created_at,
    )


def eval_view(evaluation: Evaluation, names: Names) -> EvalView:
    """Return one evaluation."""
    fields = evaluation.to_json() | {
        "release": names.get(evaluation.release, evaluation.release),
        "against": names.get(evaluation.against or "", evaluation.against),
        "error": (evaluation.error or {}).get("message"),
    }
    return EvalView(**{name: fields[name] for name in EvalView.model_fields if name in fields})


def pair_view(row: PairRecord) -> PairView:
    """Return one preference pair, its responses as text, and whole where they are more."""
    return PairView(
        id=row.id,
        prompt=[message.to_json() for message in row.pair.prompt],
        chosen=_text(row.pair.chosen),
        rejected=_text(row.pair.rejected),
        chosen_messages=_whole(row.pair.chosen),
        rejected_messages=_whole(row.pair.rejected),
        weight=row.pair.weight,
        source=row.source,
        deployment=row.deployment,
        created_at=row.created_at,
    )


def demonstration_view(row: DemonstrationRecord) -> DemonstrationView:
    """Return one demonstration, its completion as text, and whole where it is more."""
    return DemonstrationView(
        id=row.id,
        prompt=[message.to_json() for message in row.demonstration.prompt],
        completion=_text(row.demonstration.completion),
        completion_messages=_whole(row.demonstration.completion),
        source=row.source,
        deployment=row.deployment,
        created_at=row.created_at,
    )


def key_view(key: Key, secret: str | None = None) -> KeyView:
    """Return one key; with `secret` only when it was made just now."""
    return KeyView(
        id=key.id,
        name=key.name,
        prefix=key.hint,
        roles=list(key.roles),
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        user=key.user,
        store=key.stores,
        secret=secret,
    )


def _text(response: str | Conversation) -> str:
    if isinstance(response, str):
        return response
    return "\n\n".join(message.content for message in response)


def _whole(response: Conversation) -> list[dict[str, Any]] | None:
    plain = len(response) == 1 and not response[0].carried
    return None if plain else [message.to_json() for message in response]
