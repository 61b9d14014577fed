"""Rows as the contract has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

MEASURES = {
    "preference_accuracy": {
        "release": {"value": 0.71, "low": 0.55, "high": 0.84, "n": 24},
        "against": {"value": 0.54, "low": 0.35, "high": 0.72, "n": 24},
        "difference": {"value": 0.17, "low": 0.02, "high": 0.31, "n": 24},
    },
    "loss": {
        "release": {"value": 2.31, "low": 2.1, "high": 2.52, "n": 24},
        "against": {"value": 2.29, "low": 2.08, "high": 2.5, "n": 24},
        "difference": {"value": 0.02, "low": -0.01, "high": 0.05, "n": 24},
    },
}


def now(ago_s: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()


def release(
    name: str, number: int, adapter: str | None, age_s: float, run: str | None = None
) -> dict[str, Any]:
    return {
        "id": f"rel-{number:04d}",
        "name": name,
        "deployment": "assistant",
        "number": number,
        "base": "smollm2-135m-instruct",
        "adapter": adapter,
        "system_prompt": None,
        "sampling": {},
        "run": run,
        "lane": None,
        "parity": {"mean_abs": 0.0004, "max_abs": 0.003, "tolerance": 0.01, "ok": True} if adapter else None,
        "created_by": "operator",
        "created_at": now(age_s),
    }


def used(kind: str, name: str, requests: int, total: int, tokens: int | None = None) -> dict[str, Any]:
    """A row of usage; `tokens` is the month's budget."""
    spent = {"requests": requests, "tokens": total, "requests_budget": None}
    return {
        "kind": kind,
        "id": name,
        "name": name,
        "requests": requests,
        "prompt_tokens": total // 3,
        "completion_tokens": total - total // 3,
        "today": {"requests": 2, "tokens": 900, "requests_budget": 500, "tokens_budget": None},
        "month": spent | {"tokens_budget": tokens},
    }


def evaluation(ident: str, name: str, against: str | None) -> dict[str, Any]:
    return {
        "id": ident,
        "release": name,
        "against": against,
        "suite": "default",
        "state": "done",
        "report": {"suite": "default", "release": name, "against": against, "measures": MEASURES},
        "error": None,
        "created_at": now(),
    }
