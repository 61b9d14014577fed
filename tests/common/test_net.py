"""Addresses of this machine."""

from __future__ import annotations

import socket

import pytest

from common.net import LOOPBACK_HOSTS, free_port, is_loopback


@pytest.mark.parametrize("host", [*sorted(LOOPBACK_HOSTS), "127.8.9.1"])
def test_loopback_addresses_are_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", "", "localhost.example.org"])
def test_other_addresses_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()
