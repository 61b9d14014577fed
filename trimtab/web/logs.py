"""How the platform's own log lines look: text for people, or one JSON object a line for a collector."""

from __future__ import annotations

import logging
from typing import Literal

from trimtab.web.request_id import NameRequest

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname).1s %(name)s%(request)s: %(message)s"
FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s"
RENAMED = {"asctime": "time", "levelname": "level", "name": "logger"}


def set_up(how: LogFormat) -> None:
    """Log to stderr from INFO on."""
    handler = logging.StreamHandler()
    handler.addFilter(NameRequest())
    handler.setFormatter(make_formatter(how))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)


def make_formatter(how: LogFormat) -> logging.Formatter:
    """Return the formatter; JSON has time, level, logger, message, request_id, and exc_info where something was raised."""
    if how == "text":
        return logging.Formatter(TEXT)
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(FIELDS, rename_fields=RENAMED)
