"""Clicks whose acknowledgement Chromium loses.

On a machine that does something else besides, about one click in some thousand is carried out and never acknowledged:
Playwright waits at "performing click action" for as long as its timeout, while the page goes on. Such a click is tried
once more; a page that hangs fails that one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Locator
from playwright.sync_api import TimeoutError as TimedOut

LOST = "performing click action"
FIRST_TRY_MS = 10_000


@contextmanager
def clicking_again() -> Iterator[None]:
    """Have each click of a locator tried once more where its acknowledgement is lost."""
    click = Locator.click

    def click_again(self: Locator, **options: Any) -> None:
        try:
            click(self, **{"timeout": FIRST_TRY_MS, **options})
        except TimedOut as error:
            if "timeout" in options:
                raise
            if LOST not in str(error):
                options["timeout"] = 20_000  # what is left of the page's own
            click(self, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Locator, "click", click_again)
        yield
