"""The benchmark of the gateway's hot path stays alive: each kind of request is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.serving.hot_path import KINDS, ask, gateway

pytestmark = pytest.mark.anyio


async def test_the_hot_path_benchmark_measures_each_kind_of_request(tmp_path: Path) -> None:
    async with gateway(tmp_path) as made:
        for kind in KINDS:
            assert await ask(made, kind, 2) > 0
