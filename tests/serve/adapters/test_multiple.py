"""At which multiple of its scale an adapter is compared, and what that refuses, with synthetic noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serve.adapters.multiple import Multiple, choose_multiple, judge_multiple
from serve.adapters.parity import Parity, judge
from store.values import Probe

TOKENS, NOISE, EFFECT = 384, 0.2, 0.1


class World:
    """A base that differs by `NOISE`, and an adapter that does less; an effect is proportional to its scale."""

    def __init__(self, seed: int, prefix: str = "", factors: tuple[int, ...] = (2, 4, 8, 16)) -> None:
        self.random = np.random.default_rng(seed)
        self.base = -np.abs(self.random.normal(2, 2, TOKENS))
        self.quantised = self.base + self.random.standard_t(4, TOKENS) * NOISE
        self.effect = self.random.standard_t(4, TOKENS) * EFFECT
        self.other = self.random.standard_t(4, TOKENS) * EFFECT
        table = {"base": self.base, "adapter": self.base + self.effect}
        table |= {f"adapter_x{factor}": self.base + factor * self.effect for factor in factors}
        self.probe = Probe(
            tuple(range(TOKENS + 1)), {prefix + name: row.tolist() for name, row in table.items()}
        )

    def serve(self, effect: Any) -> list[float]:
        """Return what the quantised base gives with an effect, of which a quarter is another one there."""
        changed = effect + np.abs(effect).mean() * self.random.normal(0, 0.25, TOKENS)
        found: list[float] = (self.quantised + changed).tolist()
        return found

    def judge(self, effect: Any) -> tuple[Parity, Multiple | None]:
        """What is said of an engine that serves this effect at the adapter's own scale."""
        base = self.quantised.tolist()
        parity = judge(self.serve(effect), base, self.probe)
        multiple = choose_multiple(parity, base, self.probe)
        if multiple is not None:
            parity = judge_multiple(parity, multiple, self.serve(multiple.factor * effect))
        return parity, multiple


@pytest.mark.parametrize("prefix", ["", "nf4_"])
@pytest.mark.parametrize("seed", range(10))
def test_an_honest_adapter_below_the_noise_is_accepted_at_a_multiple(seed: int, prefix: str) -> None:
    world = World(seed, prefix)
    parity, multiple = world.judge(world.effect)
    assert multiple is not None
    assert multiple.effect / multiple.factor == pytest.approx(parity.effect)
    assert multiple.effect >= 3 * multiple.noise > multiple.effect / 2
    assert (parity.ok, parity.is_shown) == (True, False)
    assert "it cannot show a missing block" in str(parity.note)
    assert parity.to_json()["at_multiple"]["factor"] == multiple.factor


@pytest.mark.parametrize("seed", range(10))
def test_coarse_faults_below_the_noise_are_refused(seed: int) -> None:
    world = World(seed)
    for effect in (0 * world.effect, world.effect / 2, world.effect * 2, world.other, -world.effect):
        parity, _ = world.judge(effect)
        assert not parity.ok
        assert "times its scale" in str(parity.why)
        assert "training.parity_tolerance" in str(parity.why)


def test_the_smallest_multiple_that_stands_out_is_taken() -> None:
    for factors, taken in (((8, 16), 8), ((2, 4), 4), ((2,), None), ((), None)):
        world = World(0, factors=factors)
        _, multiple = world.judge(world.effect)
        assert (multiple.factor if multiple else None) == taken


def test_an_adapter_that_is_shown_or_refused_takes_no_multiple() -> None:
    world = World(0)
    base = world.quantised.tolist()
    strong = Probe(
        world.probe.token_ids, {**world.probe.logprobs, "adapter": world.probe.logprobs["adapter_x4"]}
    )
    parity = judge(world.serve(4 * world.effect), base, strong)
    assert (parity.ok, parity.is_shown) == (True, True)
    assert "but not a missing part" in str(parity.note)
    assert choose_multiple(parity, base, strong) is None
    refused = judge((world.quantised + 1).tolist(), base, world.probe)
    assert not refused.ok
    assert choose_multiple(refused, base, world.probe) is None
