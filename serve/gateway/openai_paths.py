"""The paths of `/v1`, and the error for a client that left `/v1` out or asks for another."""

from __future__ import annotations

PREFIX = "/v1"
MODELS, CHAT, COMPLETIONS = "/v1/models", "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
FILES, FINE_TUNING_JOBS = "/v1/files", "/v1/fine_tuning/jobs"
"""What the platform answers beside the gateway."""
WITHOUT_PREFIX = ("/chat/completions", "/completions", "/models", "/embeddings", "/responses", "/messages")
"""Where OpenAI's clients ask whose base URL lacks `/v1`."""


def is_openai_path(path: str) -> bool:
    """Whether what answers at `path` speaks OpenAI's protocol."""
    return path.startswith(PREFIX + "/") or path == PREFIX or path in WITHOUT_PREFIX


def not_found(path: str) -> str:
    """Return what is said of a path of OpenAI's protocol where nothing is."""
    accepted = f"{CHAT}, {RESPONSES}, {MESSAGES}, {COMPLETIONS}, {MODELS}, {FILES}, {FINE_TUNING_JOBS}"
    if path in WITHOUT_PREFIX:
        hint = "The API's base URL ends in /v1"
    elif path.startswith(PREFIX * 2):
        hint = "The base URL holds /v1 twice"
    else:
        return f"There is no {path[:200]}. Accepted: {accepted}."
    return f"There is no {path[:200]}. {hint}. Accepted: {accepted}."
