"""Pairs without people: ask for them, or for what that would take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field, ValidationError

from align.evaluation.judging.judge_measures import VOTED
from align.evaluation.suite_file import Judge
from align.pair_making.preference import read_preference
from align.pair_making.sampling import MAX_TOKENS
from store.datasets import made_members
from store.db.database import Store
from store.errors import Invalid
from store.feedback import decided, traffic_prompts
from store.rollout import deployments, releases
from store.rollout.releases import Release
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.base import Request, View
from trimtab.api.jobs.models import JobView, job_view
from trimtab.background import call_store
from trimtab.jobs.make_pairs import uncalibrated
from trimtab.jobs.make_pairs_estimate import Estimate, estimate
from trimtab.jobs.make_pairs_plan import KIND, ByJudge, ByRelease, ByRules, MakePlan
from trimtab.jobs.prompt_parts import Prompts, asked_prompts, heldout_settings
from trimtab.jobs.sampled_answers import max_tokens_of
from trimtab.platform import Platform

router = APIRouter(prefix="/pairs/make", tags=["training data"])

WAYS = ("rules", "judge", "release")


class JudgeRequest(Request):
    """A model at an OpenAI-compatible URL that compares answers; its key is in the environment variable `key_env`."""

    url: str
    model: str
    key_env: str | None = None
    timeout_s: float = 60.0
    concurrency: int = 4
    max_tokens: int = 64
    voted: int = 100


class MakePairsRequest(Request):
    """Asks for pairs of sampled answers; exactly one of `rules`, `judge` and `release` decides them."""

    deployment: str = "assistant"
    prompts: list[Any] | None = Field(
        None,
        max_length=10_000,
        description="texts, or message lists that end with the user's; null: of traffic",
    )
    traffic: int = Field(300, ge=1, le=10_000, description="how many of the newest prompts of traffic")
    rules: dict[str, Any] | None = Field(
        None, description="`{rules: [{rule, value}], prefer: shorter | longer}`, at least one of both"
    )
    judge: JudgeRequest | None = None
    release: str | None = Field(None, description="a release whose answers are the better ones")
    uncalibrated: bool = Field(
        False, description="take a judge that was not shown to agree with people; the pairs are marked"
    )
    n: Annotated[int, Field(ge=2, le=32)] = 4
    against: Literal["worst", "low"] = Field(
        "worst", description="what the best answer is paired with: the worst, or the one above it"
    )
    cut: Literal["drop", "reject"] = Field(
        "drop",
        description="answers that reach max_tokens: not used, or with rules worse than every whole one, never the better",
    )
    temperature: float | None = Field(None, gt=0, le=2, description="null: the release's own sampling")
    max_tokens: int = Field(MAX_TOKENS, ge=1, le=32_768, description="see `cut`")
    weight: float = Field(1.0, gt=0, le=1, description="weight of each pair, beside an imported one's")


class MakePairsPlanView(View):
    """What making pairs would take: requests to the release and verdicts of a judge at most, and about how many seconds."""

    prompts: int
    heldout: int
    requests: int
    judgements: int
    seconds: float
    text: str


@router.post("", status_code=202)
async def make_pairs(body: MakePairsRequest, platform: ThePlatform, principal: Operator) -> JobView:
    """Sample answers of stable and make pairs of them, as a job; asking again goes on with one that has not ended."""
    plan, prompts = await call_store(platform.db, _plan, body, platform)
    if isinstance(plan.by, ByJudge) and not body.uncalibrated:
        known = await call_store(platform.db, decided.list_decided, body.deployment, VOTED)
        if len(known) < VOTED:
            raise uncalibrated(f"people decided {len(known)} comparisons, fewer than {VOTED}")
    parts = prompts.parts(heldout_settings(platform.settings.snapshot)) if prompts else []
    job = await platform.jobs.submit(KIND, plan.to_json(), principal.name, parts)
    return job_view(job, platform.jobs)


@router.post("/plan")
async def plan_pairs(body: MakePairsRequest, platform: ThePlatform, principal: Operator) -> MakePairsPlanView:
    """Say how many requests such a job would make, and about how long it would take; starts nothing."""
    plan, prompts = await call_store(platform.db, _plan, body, platform)
    if prompts is None:
        found = await call_store(
            platform.db, traffic_prompts.newest, body.traffic, platform.settings.rank.sources
        )
        prompts = Prompts(tuple((one.messages, one.owners) for one in found))
    settings = heldout_settings(platform.settings.snapshot)
    heldout = sum(made_members.is_reserved(prompt, settings) for prompt, _ in prompts.rows)
    expected: Estimate = estimate(plan, len(prompts.rows) - heldout)
    return MakePairsPlanView(
        prompts=len(prompts.rows) - heldout,
        heldout=heldout,
        requests=expected.requests,
        judgements=expected.judgements,
        seconds=expected.seconds,
        text=expected.text(len(prompts.rows) - heldout, heldout),
    )


def _plan(db: Store, body: MakePairsRequest, platform: Platform) -> tuple[MakePlan, Prompts | None]:
    """Check a request, and return what its job is asked and the prompts that it brought. Raises `Invalid`, NotFound."""
    stable = releases.get(db, deployments.get(db, body.deployment).stable)
    source, prompts = asked_prompts(body.prompts, body.traffic)
    by = _by(db, body, stable)
    if body.cut == "reject" and not isinstance(by, ByRules):
        raise Invalid("cut", body.cut, "drop; reject is for rules, which need not read the end of an answer")
    settings = heldout_settings(platform.settings.snapshot)
    return MakePlan(
        deployment=body.deployment,
        release=stable.id,
        ref=stable.ref,
        prompts=source,
        by=by,
        n=body.n,
        against=body.against,
        cut=body.cut,
        temperature=body.temperature,
        max_tokens=max_tokens_of(stable, body.max_tokens, platform.settings.limits.max_tokens),
        weight=body.weight,
        seed=settings.seed,
        heldout_fraction=settings.heldout_fraction,
    ), prompts


def _by(db: Store, body: MakePairsRequest, stable: Release) -> ByRules | ByJudge | ByRelease:
    given = [name for name in WAYS if getattr(body, name) is not None]
    if len(given) != 1:
        raise Invalid("rules", " and ".join(given) or None, f"exactly one of {', '.join(WAYS)}")
    if body.rules is not None:
        return ByRules(preference=read_preference(body.rules))
    if body.judge is not None:
        return ByJudge(judge=_judge(body.judge), uncalibrated=body.uncalibrated)
    better = releases.get(db, str(body.release))
    if better.id == stable.id:
        raise Invalid("release", better.ref, f"another release than {stable.ref}, whose answers are sampled")
    return ByRelease(release=better.id, ref=better.ref)


def _judge(body: JudgeRequest) -> Judge:
    try:
        return Judge(kind="judge", **body.model_dump())
    except ValidationError as error:
        found: Any = error.errors()[0]
        field = ".".join(("judge", *(str(part) for part in found["loc"])))
        raise Invalid(field, found["input"], found["msg"]) from error
