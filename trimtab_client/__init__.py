"""Python client of a Trimtab platform: `Client` blocks, `AsyncClient` awaits; both have the same resources.

It needs httpx alone, and reaches the platform by HTTP alone. See docs/client.md.
"""

from trimtab_client.async_client import AsyncClient
from trimtab_client.chat_stream import ChatDelta
from trimtab_client.errors import ApiError, PlatformUnreachable
from trimtab_client.sync_client import Client

__all__ = ["ApiError", "AsyncClient", "ChatDelta", "Client", "PlatformUnreachable"]
