"""`GET /v1/models[/NAME]`, and the answer to every other address of the protocol."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve.errors import RequestError, UnknownModel
from serve.gateway import responses
from serve.gateway.admission import Admission, wrong_method
from serve.gateway.openai_paths import MODELS, WITHOUT_PREFIX, not_found
from serve.router import Router

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def model_routes(admission: Admission, router: Router) -> list[BaseRoute]:
    """Return the routes of `/v1` but those of `serve.gateway.protocols`."""

    async def list_models(request: Request) -> Response:
        try:
            await admission.identify(request.scope, dict(request.scope["headers"]))
        except RequestError as error:
            return responses.error_response(error)
        return responses.json_response({"object": "list", "data": responses.cards(router.table)})

    async def show_model(request: Request) -> Response:
        try:
            await admission.identify(request.scope, dict(request.scope["headers"]))
            name = request.path_params["name"]
            card = responses.card_of(router.table, name)
            if card is None:
                raise UnknownModel(name, router.table.names())
            return responses.json_response(card)
        except RequestError as error:
            return responses.error_response(error)

    return [
        Route(MODELS, list_models),
        Route(MODELS + "/{name:path}", show_model),
        Route("/v1", _answer_unknown_path, methods=METHODS),
        Route("/v1/{rest:path}", _answer_unknown_path, methods=METHODS),
        *[Route(path, _answer_unknown_path, methods=METHODS) for path in WITHOUT_PREFIX],
    ]


async def _answer_unknown_path(request: Request) -> Response:
    path = request.url.path
    if path == MODELS or path.startswith(MODELS + "/"):
        return responses.error_response(wrong_method(path, "GET"))
    return responses.error_response(RequestError(not_found(path), status=404, code="not_found"))
