"""The prompts of a job: those that it works on, and those kept for held-out data, each as a part of the job."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from store import values
from store.datasets import made_members
from store.datasets.snapshot_settings import SnapshotSettings
from store.errors import Invalid
from store.feedback import traffic_prompts
from store.jobs.job_parts import HELDOUT, Part
from store.values import Conversation, conversation_hash, to_json
from trimtab.background import call_store
from trimtab.config.training_sections import SnapshotSettings as SnapshotSection
from trimtab.jobs.job_context import JobContext
from trimtab.jobs.params import PromptSource

PROMPT = "prompt:"
"""What the keys of the prompts begin with that a job works on; `HELDOUT` those that it keeps."""

ACCEPTED = "a text, or messages that end with the user's"


@dataclass(frozen=True, slots=True)
class Prompts:
    """Distinct prompts in their order, with the owners of their words."""

    rows: tuple[tuple[Conversation, tuple[str, ...]], ...]

    @property
    def sha256(self) -> str:
        """The hash of all prompts: other prompts are another job."""
        hashes = "".join(conversation_hash(prompt) for prompt, _ in self.rows)
        return hashlib.sha256(hashes.encode()).hexdigest()

    def parts(self, settings: SnapshotSettings) -> list[Part]:
        """Return them as parts of a job: what may be trained on, and what is kept for held-out data."""
        return [
            Part(
                f"{HELDOUT if made_members.is_reserved(prompt, settings) else PROMPT}{place:06}",
                to_json(prompt),
                conversation_hash(prompt),
                owners,
            )
            for place, (prompt, owners) in enumerate(self.rows)
        ]


def heldout_settings(settings: SnapshotSection) -> SnapshotSettings:
    """Return those of the platform's settings that decide which prompts are kept for held-out data."""
    return SnapshotSettings(seed=settings.seed, heldout_fraction=settings.heldout_fraction)


def read_prompts(given: Sequence[Any]) -> Prompts:
    """Check prompts that a caller gave, each a text or messages. Raises `Invalid` that names the first that is wrong."""
    found: dict[Conversation, tuple[str, ...]] = {}
    for place, one in enumerate(given):
        try:
            prompt = values.conversation([{"role": "user", "content": one}] if isinstance(one, str) else one)
        except Invalid as error:
            raise Invalid(f"prompts[{place}].{error.field}", error.value, error.accepted) from error
        except (TypeError, ValueError) as error:
            raise Invalid(f"prompts[{place}]", one, ACCEPTED) from error
        if not prompt or prompt[-1].role != "user" or not prompt[-1].content.strip():
            raise Invalid(f"prompts[{place}]", one, ACCEPTED)
        found.setdefault(prompt, ())
    return Prompts(tuple(found.items()))


def asked_prompts(given: Sequence[Any] | None, traffic: int) -> tuple[PromptSource, Prompts | None]:
    """Return where a request has its prompts from, and those that it brought. Raises `Invalid`."""
    if given is None:
        return PromptSource(traffic=traffic), None
    prompts = read_prompts(given)
    if not prompts.rows:
        raise Invalid("prompts", [], "at least one prompt; null takes those of traffic")
    return PromptSource(given=prompts.sha256), prompts


async def of_job(
    job: JobContext, source: PromptSource, sources: Sequence[str], settings: SnapshotSettings
) -> dict[str, Any]:
    """Return the prompts that a job works on, by key; those of traffic (of `sources`) are drawn first."""
    if source.traffic is not None:
        await _draw(job, source.traffic, sources, settings)
    return await job.kept(PROMPT)


async def _draw(job: JobContext, limit: int, sources: Sequence[str], settings: SnapshotSettings) -> None:
    """Keep the newest prompts of traffic as parts of a job, once; later prompts do not join a job that is resumed."""
    if await job.kept("drawn"):
        return
    found = await call_store(job.db, traffic_prompts.newest, limit, sources)
    prompts = Prompts(tuple((one.messages, one.owners) for one in found))
    await job.keep(*prompts.parts(settings), Part("drawn", len(prompts.rows)))
