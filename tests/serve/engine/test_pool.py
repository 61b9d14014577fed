"""Which replica takes a request."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from serve.errors import EngineUnavailable


@pytest.fixture
def pool(tmp_path: Path) -> EnginePool:
    specs = [EngineSpec(name, base, "m") for name, base in (("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"))]
    pool = EnginePool(specs, tmp_path)
    for engine in pool.engines():
        engine.state = "ready"
    return pool


def test_the_least_busy_replica_is_taken(pool: EnginePool) -> None:
    a, b, c = pool.engines("x")
    with a.in_flight.lease(None), b.in_flight.lease(None), c.in_flight.lease(None), a.in_flight.lease(None):
        assert pool.pick("x") is b
        with b.in_flight.lease("n"):
            assert pool.pick("x") is c
        b.state = c.state = "failed"
        assert pool.pick("x") is a
    assert (a.in_flight.outstanding, b.in_flight.outstanding, b.in_flight.by_adapter) == (0, 0, {})


def test_a_tie_goes_to_the_holder_of_the_adapter(pool: EnginePool) -> None:
    _, b, c = pool.engines("x")
    c.loaded.add("a-1")
    assert pool.pick("x", "a-1") is c
    with c.in_flight.lease("a-1"):
        assert pool.pick("x", "a-1") is not c
    assert pool.pick("x", "a-1", avoid=[c]) is not c
    b.state = "failed"
    assert pool.pick("x", None) is pool.engines("x")[0]


def test_without_a_ready_replica_the_reason_is_said(pool: EnginePool) -> None:
    for engine in pool.engines("x"):
        engine.state, engine.detail = "failed", "it was killed"
    with pytest.raises(EngineUnavailable, match="a is failed: it was killed") as caught:
        pool.pick("x")
    assert caught.value.retry_after_s == 10
    pool.engines("x")[0].state = "starting"
    with pytest.raises(EngineUnavailable) as caught:
        pool.pick("x")
    assert caught.value.retry_after_s == 5
    with pytest.raises(EngineUnavailable, match="no engine is configured"):
        pool.pick("z")


def test_bases_and_names(pool: EnginePool, tmp_path: Path) -> None:
    assert pool.bases() == ["x", "y"]
    assert [engine.spec.name for engine in pool.engines()] == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="'e' is used twice"):
        EnginePool([EngineSpec("e", "x", "m"), EngineSpec("e", "y", "m")], tmp_path)
