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

    def __init__(
        self, seed: int, prefix: str = "", factors: tuple[int, ...] = (2, 4, 8, 16), tokens: int = TOKENS
    ) -> None:
        self.random, self.tokens = np.random.default_rng(seed), tokens
        self.base = -np.abs(self.random.normal(2, 2, self.tokens))
        self.quantised = self.base + self.random.standard_t(4, self.tokens) * NOISE
        self.effect = self.random.standard_t(4, self.tokens) * EFFECT
        self.other = self.random.standard_t(4, self.tokens) * EFFECT
        table = {"base": self.base, "adapter": self.base + self.effect}
        table |= {f"adapter_x{factor}": self.base + factor * self.effect for factor in factors}
        self.probe = Probe(
            tuple(range(tokens + 1)), {prefix + name: row.tolist() for name, row in table.items()}
        )

    def serve(self, effect: Any) -> list[float]:
        """Return what the quantised base gives with an effect, of which a quarter is another one there."""
        changed = effect + np.abs(effect).mean() * self.random.normal(0, 0.25, self.tokens)
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


@pytest.mark.parametrize("served", ["half", "twice", "other", "right"])
def test_a_saturated_model_shows_faults_by_what_is_nearest(served: str) -> None:
    """Where larger scales change little more, half and twice the scale have about the size of the right one."""
    world = World(1)
    random = np.random.default_rng(5)
    steps = [random.standard_t(4, TOKENS) for _ in range(3)]
    effects = {
        "half": steps[0],
        "right": steps[0] + 0.6 * steps[1],
        "twice": steps[0] + 0.6 * (steps[1] + steps[2]),
    }
    shape = {name: 0.45 * effect / np.abs(effect).mean() for name, effect in effects.items()}
    shape["other"] = 0.45 * world.other / np.abs(world.other).mean()
    series = {name: (world.base + effect).tolist() for name, effect in shape.items()}
    multiple = Multiple(
        8, series["right"], world.base.tolist(), world.quantised.tolist(), series["half"], series["twice"]
    )
    plain, _ = world.judge(world.effect)
    parity = judge_multiple(plain, multiple, (world.quantised + shape[served]).tolist())
    assert parity.ok == (served == "right"), parity
    if served in ("half", "twice"):
        assert f"nearer to what {served} that scale does in training" in str(parity.why)
        assert 1 / 1.4 < parity.at_multiple["effect_ratio"] < 1.4  # type: ignore[index]


def stronger(world: World) -> Probe:
    """The probe of an adapter with four times the scale, which does twice what the base differs by."""
    series = world.probe.logprobs
    return Probe(world.probe.token_ids, {"base": series["base"], "adapter": series["adapter_x4"]})


@pytest.mark.parametrize(
    ("factor", "ok"), [(1, True), (1.2, True), (0.83, True), (0.5, False), (2, False), (0, False)]
)
def test_on_a_quantised_base_a_strong_adapter_may_be_a_fifth_larger_or_smaller(
    factor: float, ok: bool
) -> None:
    """With a long probe a fifth is many standard errors."""
    world = World(0, tokens=2304)
    base = world.quantised.tolist()
    parity = judge(world.serve(4 * factor * world.effect), base, stronger(world))
    assert (parity.ok, parity.is_shown) == (ok, True), parity
    if ok:
        assert "but not a missing part" in str(parity.note)
        assert abs(factor - 1) < 0.1 or abs((parity.effect_ratio or 0) - 1) > 0.1
    assert choose_multiple(parity, base, stronger(world)) is None


@pytest.mark.parametrize("served", ["right", "twice"])
def test_on_a_quantised_base_twice_the_scale_is_told_by_what_is_nearest(served: str) -> None:
    """A trained adapter's effect may be less than 1.4 times as large at twice its scale."""
    world = World(2, tokens=2304)
    effects = {"right": 4 * world.effect, "twice": 4 * world.effect + 2.5 * world.other}
    series = {name: (world.base + effect).tolist() for name, effect in effects.items()}
    table = {"base": world.base.tolist(), "adapter": series["right"], "adapter_x2": series["twice"]}
    probe = Probe(world.probe.token_ids, table)
    parity = judge((world.quantised + effects[served]).tolist(), world.quantised.tolist(), probe)
    assert parity.is_shown
    assert (parity.effect_ratio or 0) < 1.4
    assert parity.ok == (served == "right"), parity
    assert parity.ok or "nearer to what twice its scale does" in str(parity.why)


def test_on_a_quantised_base_an_effect_barely_above_its_difference_is_not_shown() -> None:
    """Of such an effect the size is off by a fifth for a right adapter (tiny Qwen3 in FP8: 1.19)."""
    world = World(0, tokens=2304)
    base = world.quantised.tolist()
    series = {"base": world.probe.logprobs["base"], "adapter": (world.base + 2.5 * world.effect).tolist()}
    parity = judge(world.serve(3 * world.effect), base, Probe(world.probe.token_ids, series))
    assert parity.effect is not None
    assert parity.base_mean_abs is not None
    assert 1.1 < parity.effect / parity.base_mean_abs < 1.5
    assert (parity.ok, parity.is_shown) == (True, False)


def test_a_refused_adapter_takes_no_multiple() -> None:
    world = World(0)
    base = world.quantised.tolist()
    refused = judge((world.quantised + 1).tolist(), base, world.probe)
    assert not refused.ok
    assert choose_multiple(refused, base, world.probe) is None
