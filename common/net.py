"""Addresses of this machine."""

from __future__ import annotations

import ipaddress
import socket

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
"""The usual names of the loopback interface, as they stand in a URL."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can listen at, or connect from, the address `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
