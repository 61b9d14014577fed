"""`POST /tokenize` and `/detokenize`, as vLLM has them, under the names of deployments and releases.

A chat is tokenized as the release that is named would get it, with its system prompt. Nothing is generated, recorded or
counted. The base model answers, since an adapter changes no token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from common.chat_messages import context_of, served
from serve.auth import require
from serve.errors import EngineUnavailable, RequestError
from serve.gateway import requests, responses
from serve.gateway.admission import Admission
from serve.gateway.forwarder import Forwarder
from serve.gateway.openai_paths import DETOKENIZE, TOKENIZE
from serve.metering.limits import Limits
from serve.router import Router, Target, sticky_key
from store.rollout import chat_template_kwargs


def tokenize_routes(
    admission: Admission, router: Router, forwarder: Forwarder, limits: Limits
) -> list[BaseRoute]:
    """Return the routes of both paths."""

    async def answer(request: Request) -> Response:
        try:
            return await _answer(request)
        except (RequestError, EngineUnavailable) as error:
            return responses.error_response(error)

    async def _answer(request: Request) -> Response:
        path, headers = request.url.path, dict(request.scope["headers"])
        principal = await admission.identify(request.scope, headers)
        require(principal, "chat")
        body = requests.parse(await responses.read(request.receive, headers, limits.max_body_bytes))
        (_check_text if path == TOKENIZE else _check_tokens)(body, limits)
        sticky = sticky_key(None, None, principal.user, principal.key_id, principal.name)
        target = router.table.resolve(requests.model_of(body), sticky)
        sent = requests.to_bytes(_for_engine(body, target))
        try:
            async with asyncio.timeout(limits.first_byte_timeout_s):
                data = await forwarder.post(replace(target, adapter=None), path, sent)
        except TimeoutError as error:
            message = f"The engine did not answer within {limits.first_byte_timeout_s:g} s."
            raise RequestError(message, status=504, code="engine_timeout") from error
        named = {"X-Trimtab-Release": target.release, "X-Trimtab-Lane": target.lane}
        return Response(data, 200, named, "application/json")

    return [Route(path, answer, methods=["POST"]) for path in (TOKENIZE, DETOKENIZE)]


def _check_text(body: Mapping[str, Any], limits: Limits) -> None:
    """Check what is to be tokenized: text in `prompt`, or a chat in `messages`."""
    if "messages" in body:
        for message, where in requests.listed(body, "messages", limits):
            requests.check_message(message, where)
        requests.check_types(body)
    elif not isinstance(body.get("prompt"), str):
        raise RequestError("`prompt` must be text; or send a chat as `messages`.", "prompt")


def _check_tokens(body: Mapping[str, Any], limits: Limits) -> None:
    tokens = body.get("tokens")
    whole = isinstance(tokens, list) and all(type(token) is int and token >= 0 for token in tokens)
    if not whole:
        raise RequestError("`tokens` must be a list of whole numbers, 0 or more.", "tokens")


def _for_engine(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the body that the engine gets: the base's name, and a chat as the release is asked it."""
    out = {**body, "model": target.base}
    if "messages" in body:
        out["messages"] = served(body["messages"], context_of(target.system_prompt))
        if fixed := chat_template_kwargs.fixed_by(target.sampling):
            out[chat_template_kwargs.KEY] = fixed | (body.get(chat_template_kwargs.KEY) or {})
    return out
