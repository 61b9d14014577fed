"""The paths of `/v1`, and the error for a client that left `/v1` out or asks for another."""

from __future__ import annotations

PREFIX = "/v1"
MODELS, CHAT, COMPLETIONS = "/v1/models", "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
FILES, FINE_TUNING_JOBS = "/v1/files", "/v1/fine_tuning/jobs"
"""What the platform answers beside the gateway."""
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
"""vLLM's own paths, which have no prefix."""
WITHOUT_PREFIX = ("/chat/completions", "/completions", "/models", "/embeddings", "/responses", "/messages")
"""Where OpenAI's clients ask whose base URL lacks `/v1`."""


def is_openai_path(path: str) -> bool:
    """Whether what answers at `path` speaks OpenAI's protocol."""
    return path.startswith(PREFIX + "/") or path == PREFIX or path in (*WITHOUT_PREFIX, TOKENIZE, DETOKENIZE)


_TEXT_ALONE = "The models here generate text; {0} need a server with models for them"
_ABSENT = {
    "embeddings": _TEXT_ALONE.format("embeddings"),
    "audio": _TEXT_ALONE.format("speech and transcriptions"),
    "images": _TEXT_ALONE.format("images"),
    "videos": _TEXT_ALONE.format("videos"),
    "moderations": _TEXT_ALONE.format("moderations"),
    "rerank": _TEXT_ALONE.format("rankings"),
    "score": _TEXT_ALONE.format("scores"),
    "classify": _TEXT_ALONE.format("classes"),
    "pooling": _TEXT_ALONE.format("pooled vectors"),
    "realtime": f"Nothing here listens or speaks: send text to {CHAT}",
    "batches": f"Nothing here is answered in batches: send each request to {CHAT}",
    "assistants": f"No assistants are kept here: send each conversation to {CHAT}",
    "threads": f"No threads are kept here: send each conversation to {CHAT}",
    "conversations": f"No conversations are kept under this path: send each to {CHAT}",
    "vector_stores": f"No documents are kept here: send what matters of them to {CHAT}",
}
"""What is said of a part of OpenAI's or vLLM's API that no engine here has, by the first segment after `/v1/`."""


def not_found(path: str) -> str:
    """Return what is said of a path of OpenAI's protocol where nothing is."""
    accepted = f"{CHAT}, {RESPONSES}, {MESSAGES}, {COMPLETIONS}, {MODELS}, {FILES}, {FINE_TUNING_JOBS}"
    absent = _ABSENT.get(path.removeprefix(PREFIX).strip("/").split("/")[0])
    if absent is not None:
        hint = absent
    elif path in WITHOUT_PREFIX:
        hint = "The API's base URL ends in /v1"
    elif path.startswith(PREFIX * 2):
        hint = "The base URL holds /v1 twice"
    else:
        return f"There is no {path[:200]}. Accepted: {accepted}."
    return f"There is no {path[:200]}. {hint}. Accepted: {accepted}."
