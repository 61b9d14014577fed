"""A development double of the platform's HTTP contract, answering from memory over a real socket.

It lets the screens be built and their faults be caused at will (an engine that loads, a vote that conflicts). It is
no evidence that the platform works: tests/e2e/test_browser.py drives the same screens on the real stack.
"""

from __future__ import annotations

from fastapi import FastAPI

from tests.feedback_ui.double.chat import Chat
from tests.feedback_ui.double.curation import Curation
from tests.feedback_ui.double.data import Data
from tests.feedback_ui.double.operations import Operations
from tests.feedback_ui.double.people import People
from tests.feedback_ui.double.ranking import Ranking
from tests.feedback_ui.double.rollout import Rollout
from tests.feedback_ui.double.runs import Runs


class Stub(Chat, Ranking, Operations, Runs, Rollout, Data, Curation, People):
    """The whole contract over one memory."""

    def app(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        for routes in (
            self.chat_routes(),
            self.ranking_routes(),
            self.operations_routes(),
            self.runs_routes(),
            self.rollout_routes(),
            self.data_routes(),
            self.curation_routes(),
            self.people_routes(),
        ):
            app.router.routes.extend(routes)
        return app
