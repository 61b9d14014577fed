"""Base of the resources."""

from __future__ import annotations

from trimtab_client.transport import Transport


class Resource:
    """A group of operations on one transport."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport
