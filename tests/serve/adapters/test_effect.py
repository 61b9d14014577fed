"""Served effects that are right but for noise are accepted, wrong ones are told from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from align.training.probe import CUDA_WINDOWS, WINDOW
from serve.adapters.effect import compare_effects, references
from serve.adapters.parity import Parity, compare, judge
from store.values import Probe

TOKENS, BLOCKS, NOISE = 384, 30, 0.06
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NAMES = [*(f"block_{number}" for number in range(BLOCKS)), *(f"module_{name}" for name in MODULES)]


class World:
    """A base and an adapter of `MODULES` in `BLOCKS`; each computation of it comes with noise of its own."""

    def __init__(
        self, seed: int, noise: float = NOISE, effect: float = 0.3, prefix: str = "", tokens: int = TOKENS
    ) -> None:
        self.random, self.noise, self.tokens = np.random.default_rng(seed), noise, tokens
        self.truth = -np.abs(self.random.normal(2, 2, tokens))
        # heavy tails, as seen: most tokens hardly change
        layers = self.random.standard_t(4, (BLOCKS, len(MODULES), tokens))
        layers *= effect / (BLOCKS * len(MODULES)) ** 0.5
        self.parts, self.modules = layers.sum(1), layers.sum(0)
        table = {"base": self.compute(0), "adapter": self.compute(self.parts.sum(0))}
        if noise > 1e-3:
            exact = zip(NAMES, [*self.parts, *self.modules], strict=True)
            table |= {name: (self.truth + part).tolist() for name, part in exact}
            table |= {"block_base": self.truth.tolist()}
        self.probe = Probe(tuple(range(tokens + 1)), {prefix + name: row for name, row in table.items()})

    def compute(self, effect: Any) -> list[float]:
        found: list[float] = (
            self.truth + effect + self.random.standard_t(4, self.tokens) * self.noise
        ).tolist()
        return found

    def judge(self, served: Any) -> Parity:
        """What is said of an engine that serves this effect."""
        base = self.compute(0)
        return judge(self.compute(served), base, self.probe)


@pytest.mark.parametrize("noise", [1e-6, NOISE])
@pytest.mark.parametrize("seed", range(20))
def test_an_honest_adapter_is_accepted_at_any_noise(seed: int, noise: float) -> None:
    world = World(seed, noise)
    parity = world.judge(world.parts.sum(0))
    assert (parity.ok, parity.why, parity.note) == (True, None, None)
    assert parity.effect_ratio == pytest.approx(1, abs=0.1)
    assert parity.base_mean_abs is not None
    assert parity.mean_abs < parity.tolerance < 3 * parity.base_mean_abs + 1e-3


def wrong(world: World) -> dict[str, Any]:
    parts, whole = world.parts, world.parts.sum(0)
    return {
        "first block": whole - parts[0],
        "last block": whole - parts[-1],
        "o_proj of all blocks": whole - world.modules[3],
        "up": whole * 1.1,
        "down": whole * 0.9,
        "alpha halved": whole / 2,
        "alpha doubled": whole * 2,
        "another seed": world.random.permutation(whole),
        "nothing": whole * 0,
        "other sign": -whole,
    }


@pytest.mark.parametrize("noise", [1e-6, 0.04])
@pytest.mark.parametrize("case", list(wrong(World(0))))
def test_a_wrong_adapter_is_refused_at_any_noise(case: str, noise: float) -> None:
    for seed in range(5):
        world = World(seed, noise)
        parity = world.judge(wrong(world)[case])
        assert not parity.ok, (seed, parity)
        assert "training.parity_tolerance" in str(parity.why)


def test_a_missing_part_is_named_where_the_size_of_the_effect_is_right() -> None:
    # Noise and effect as measured in bfloat16 on an H100.
    world = World(2, 0.031, effect=0.1, tokens=WINDOW * CUDA_WINDOWS)
    whole = world.parts.sum(0)
    named = [(f"{name} of all blocks", world.modules[number]) for number, name in enumerate(MODULES)]
    for words, part in (*named, ("block 7 ", world.parts[7])):
        rest = whole - part
        parity = world.judge(rest * float(whole @ whole) ** 0.5 / float(rest @ rest) ** 0.5)
        assert f"the adapter's part in {words}" in str(parity.why)
        assert parity.effect_ratio == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("case", ["up", "down"])
def test_the_length_of_a_gpus_probe_shows_a_scale_that_is_off_by_a_tenth(case: str) -> None:
    # Noise and effect as measured in bfloat16 on an H100: 0.047 and 0.11 nats per token.
    shown = dict.fromkeys((WINDOW, WINDOW * CUDA_WINDOWS), 0)
    for seed in range(10):
        for tokens in shown:
            world = World(seed, 0.031, effect=0.1, tokens=tokens)
            assert world.judge(world.parts.sum(0)).ok
            shown[tokens] += not world.judge(wrong(world)[case]).ok
    assert shown[WINDOW * CUDA_WINDOWS] == 10
    assert shown[WINDOW] < 5


def test_an_effect_below_the_noise_is_named() -> None:
    world = World(1, effect=0.005)
    parity = world.judge(world.parts.sum(0))
    assert parity.ok
    assert "cannot show" in str(parity.note)


def test_an_effect_that_is_barely_shown_is_named() -> None:
    world = World(1, effect=0.1)
    parity = world.judge(world.parts.sum(0))
    assert parity.ok
    assert "no difference in size below" in str(parity.note)


def test_a_zero_adapter_is_named() -> None:
    world = World(1, 1e-6, effect=0)
    parity = judge(world.compute(0), world.compute(0), world.probe, is_zero=True)
    assert parity.ok
    assert parity.note == "the adapter is zero: it changes nothing"


def test_a_run_over_an_nf4_base_alone_is_held_against_that() -> None:
    world = World(3, prefix="nf4_")
    assert len(references(world.probe)) == 1
    assert world.judge(world.parts.sum(0)).ok
    assert not world.judge(world.parts.sum(0) / 2).ok


def test_a_number_as_tolerance_is_held_against_an_nf4_base_alone_too() -> None:
    world = World(3, 1e-6, prefix="nf4_")
    served = world.compute(world.parts.sum(0))
    parity = compare(served, world.probe, 1e-3)
    assert parity.ok
    assert parity.from_base is not None
    assert parity.from_base > 0.05
    assert compare(world.compute(0), world.probe, 1e-3, adapter=False).ok
    assert not compare(world.compute(world.parts.sum(0) / 2), world.probe, 1e-3).ok


def test_the_drift_from_an_nf4_base_alone_is_that_of_what_is_served() -> None:
    """Without the series in full precision nothing else says how far the served adapter is from the trained one."""
    world = World(3, 1e-6, prefix="nf4_")
    near, far = (world.compute(world.parts.sum(0) + by) for by in (0.0, 0.2))
    assert world.judge(world.parts.sum(0)).nf4_drift == pytest.approx(0.0, abs=1e-4)
    assert compare(near, world.probe, 1.0).nf4_drift == pytest.approx(0.0, abs=1e-4)
    assert compare(far, world.probe, 1.0).nf4_drift == pytest.approx(0.2, abs=1e-3)


def test_the_nearer_of_two_bases_counts() -> None:
    full, nf4 = World(4), World(5, prefix="nf4_")
    both = Probe(full.probe.token_ids, {**full.probe.logprobs, **nf4.probe.logprobs})
    for world in (full, nf4):
        served = world.compute(world.parts.sum(0))
        assert judge(served, world.compute(0), both).ok
    parity = judge(full.compute(full.parts.sum(0)), full.compute(0), both)
    assert parity.nf4_drift is not None
    assert parity.nf4_drift > 0.1


def test_without_any_effect_there_is_no_share() -> None:
    probe = Probe((1, 2, 3), {"base": [-1.0, -2.0], "adapter": [-1.0, -2.0]})
    found = compare_effects([-1.0, -2.0], [-1.0, -2.0], references(probe)[0])
    assert (found.size, found.ratio, found.is_shown) == (0.0, None, False)
    with pytest.raises(ValueError, match="no series"):
        judge([-1.0], [-1.0], probe)
