"""Feedback of other front ends on recorded answers: thumbs, numbers, comments, and which of two answers is better."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi import Request as HttpRequest

from serve.auth import Principal, require
from store.conversations import conversations, ratings
from store.db.database import Store
from store.errors import Invalid
from store.feedback import choices
from trimtab.api.access import Chatter, Operator, ThePlatform
from trimtab.api.conversations.models import FeedbackRequest
from trimtab.api.conversations.routes import readable_by, when_recorded
from trimtab.api.deployments.routes import release_names
from trimtab.api.people.shares import owner_of_request, speaker_of_request
from trimtab.background import call_store

router = APIRouter(tags=["conversations"])

THUMB = "thumb"
PREFERENCE = ("preferred", "other")
RATING = ("completion_id", "key", "value")


class _Speaker(NamedTuple):
    """Who says it: their name, the owner that they are, and the owner whose answers they may judge (None is anybody)."""

    name: str
    voter: str
    owner: str | None


@router.post("/feedback")
async def give(
    body: FeedbackRequest, platform: ThePlatform, principal: Chatter, request: HttpRequest
) -> dict[str, Any]:
    """Rate an answer (thumb or number), comment on it, or prefer it to another; a later word replaces the former."""
    began = datetime.now(UTC)
    speaker = _speaker(principal, request)
    judge = _preference(body, principal) if _is_preference(body) else _rating(body)
    return await when_recorded(platform, judge, speaker, began)


@router.get("/feedback")
async def list_feedback(
    platform: ThePlatform,
    _: Operator,
    completion_id: str | None = None,
    key: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """List numbers and comments, those that changed last first: of one answer, under one key, or all."""
    found = await call_store(platform.db, ratings.list_recent, completion_id, key, limit)
    names = await release_names(platform)
    return [
        rating.to_json() | {"release": names.get(rating.release or "", rating.release)} for rating in found
    ]


def _speaker(principal: Principal, request: HttpRequest) -> _Speaker:
    name, voter = speaker_of_request(principal, request), owner_of_request(principal, request)
    return _Speaker(name, voter, readable_by(principal))


def _is_preference(body: FeedbackRequest) -> bool:
    """Return which of the two forms a body has. Raises `Invalid` for one of both or of neither."""
    given = body.model_fields_set
    preference = not given.isdisjoint(PREFERENCE)
    for name in RATING if preference else ():
        if name in given:
            raise Invalid(name, getattr(body, name), "nothing, beside `preferred` and `other`")
    for name in PREFERENCE if preference else ("completion_id",):
        if not getattr(body, name):
            raise Invalid(name, getattr(body, name), "the id of a recorded answer")
    return preference


def _preference(body: FeedbackRequest, principal: Principal) -> Callable[[Store, _Speaker, datetime], Any]:
    require(principal, "rater")  # as votes do
    return partial(_prefer, preferred=str(body.preferred), other=str(body.other), text=body.text)


def _prefer(
    db: Store, speaker: _Speaker, began: datetime, *, preferred: str, other: str, text: str | None
) -> dict[str, Any]:
    with db.atomic():
        vote = choices.choose(
            db, preferred, other, speaker.name, began=began, owner=speaker.owner, voter=speaker.voter
        )
        said = {} if text is None else _comment(db, speaker, began, preferred, text)
    return {
        "id": vote.id,
        "comparison": vote.comparison,
        "preferred": preferred,
        "other": other,
        "pairs": list(vote.pairs),
        **said,
    }


def _rating(body: FeedbackRequest) -> Callable[[Store, _Speaker, datetime], Any]:
    given = body.model_fields_set
    if "value" in given or body.key is not None or body.text is None:
        key = THUMB if body.key == THUMB else ratings.rating_key(body.key)
        if "value" not in given:
            raise Invalid(
                "value", None, "true, false, 1, -1 or null" if key == THUMB else "a number, or null"
            )
        value = _thumb(body.value) if key == THUMB else body.value
        return partial(_rate, id=str(body.completion_id), key=key, value=value, text=body.text)
    return partial(_rate, id=str(body.completion_id), key=None, value=None, text=body.text)


def _rate(
    db: Store, speaker: _Speaker, began: datetime, *, id: str, key: str | None, value: Any, text: str | None
) -> dict[str, Any]:
    said: dict[str, Any] = {"completion_id": id}
    with db.atomic():
        if key == THUMB:
            conversations.like(db, id, value, speaker.name, began, speaker.owner)
            said |= {"key": key, "value": value}
        elif key is not None:
            number = ratings.rate(db, id, key, value, speaker.name, began, speaker.owner)
            said |= {"key": key, "value": number}
        return said if text is None else said | _comment(db, speaker, began, id, text)


def _comment(db: Store, speaker: _Speaker, began: datetime, id: str, text: str) -> dict[str, Any]:
    return {"text": ratings.comment(db, id, text, speaker.name, began, speaker.owner)}


def _thumb(value: object) -> bool | None:
    """Return a thumb: up, down, or (None) taken back."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (1, -1):
        return value > 0
    raise Invalid("value", value, "true, false, 1, -1 or null")
