"""The fitted charge: exact where it can be, conservative until it is, guarded after."""

from __future__ import annotations

import random

import pytest

from toolkit.limits import Demand, Lease, LimiterCore, LimitSettings, Observation, Reading
from toolkit.limits.fitted import ENOUGH, ChargeModel
from toolkit.limits.laws import MINUTE, Dimension
from toolkit.records import Usage

EPOCH = 1_700_000_000.0


def demands(count, seed=1):
    rng = random.Random(seed)
    for _ in range(count):
        words = rng.randint(50, 4000)
        yield Demand(
            int(words * rng.uniform(1.2, 1.5)), rng.choice([64, 256, 1024]), words * rng.randint(5, 7)
        )


def test_finds_the_rule_of_a_server():
    """Body bytes // 4 + cap is learned from a few samples, and every later charge is covered closely."""
    model = ChargeModel()
    for demand in demands(20):
        model.learn(demand, demand.body_bytes // 4 + demand.output_cap)
    for demand in demands(50, seed=2):
        charged = demand.body_bytes // 4 + demand.output_cap
        assert charged <= model.estimate(demand) <= charged + 2


def test_nothing_before_enough_samples_and_all_samples_covered():
    """Too few samples give no figure; whatever the noise, each kept sample would have been covered."""
    model, rng, seen = ChargeModel(), random.Random(5), []
    for number, demand in enumerate(demands(40)):
        assert (model.estimate(demand) is None) == (number < ENOUGH)
        charged = rng.randint(1, 5000)
        model.learn(demand, charged)
        seen.append((demand, charged))
    assert all(charged <= model.estimate(demand) for demand, charged in seen)
    assert any(charged > model.estimate(demand, guarded=False) for demand, charged in seen)


def test_same_features_all_the_time():
    """Samples that say the same thing over and over leave a fit that says it too."""
    model = ChargeModel()
    for _ in range(ENOUGH):
        model.learn(Demand(100, 50, 400), 150)
    assert model.estimate(Demand(100, 50, 400)) == 150


@pytest.mark.parametrize("optimistic", [False, True])
def test_learned_from_the_headers(optimistic):
    """One at a time at first; then parallel, charged as the server charges."""
    settings = LimitSettings(tokens_per_minute=60_000, charge="fitted", optimistic=optimistic)
    core, now = LimiterCore("key", settings), EPOCH
    for demand in demands(ENOUGH + 1):
        now += 60
        lease = core.try_reserve(now, demand)
        assert isinstance(lease, Lease)
        assert lease.amounts[1] == demand.input_tokens + demand.output_cap
        assert not isinstance(core.try_reserve(now, demand), Lease)
        left = 60_000 - demand.body_bytes // 4 - demand.output_cap
        now += 0.01
        core.observe(now, Observation((Reading(Dimension.TOKENS, 60_000, left, None, MINUTE),)), lease)
        core.settle(now, lease, Usage(demand.input_tokens, 5))
    now += 60
    demand = Demand(1000, 100, 4000)
    first, second = core.try_reserve(now, demand), core.try_reserve(now, demand)
    assert isinstance(second, Lease)
    assert 1100 <= first.amounts[1] <= 1120
    # A reading that shows far more used than was charged ends the optimism, and is recorded.
    core.observe(now, Observation((Reading(Dimension.TOKENS, 60_000, 40_000, None, MINUTE),)), first)
    assert any(event.event == "overshoot" for event in core.history) == optimistic
