"""The fitted charge: exact where it can be, conservative until it is, guarded after."""

from __future__ import annotations

import random

import pytest

from toolkit.limits import Demand, Lease, LimiterCore, LimitSettings, Observation, Reading, Refusal
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


class Account:
    """A server that charges body bytes // 4 + cap, as a core meets it."""

    def __init__(self, limit=60_000):
        self.core = LimiterCore("key", LimitSettings(tokens_per_minute=limit, charge="fitted"))
        self.now, self.limit = EPOCH, limit

    def observation(self, left):
        return Observation((Reading(Dimension.TOKENS, self.limit, left, None, MINUTE),))

    def answer(self, lease, left):
        self.now += 0.01
        self.core.observe(self.now, self.observation(left), lease)
        self.core.settle(self.now, lease, Usage(lease.demand.input_tokens, 5))

    def learn(self):
        """Answer one request a minute until the charge is known."""
        for demand in demands(ENOUGH + 1):
            self.now += 60
            lease = self.core.try_reserve(self.now, demand)
            self.answer(lease, self.limit - demand.body_bytes // 4 - demand.output_cap)
        self.now += 60


def test_answers_that_overlap_are_no_samples():
    """The reply that comes last may be of a moment before the other was counted: its drop is no charge."""
    account = Account()
    account.learn()
    demand = Demand(1000, 100, 4000)
    before = account.core.book.model.estimate(demand)
    first, second = (account.core.try_reserve(account.now, demand) for _ in range(2))
    account.answer(second, 60_000 - 2200)
    account.answer(first, 60_000 - 1100)  # sent earlier, counted earlier, and read last
    alone = account.core.try_reserve(account.now, demand)
    account.answer(alone, 60_000 - 3300)
    assert account.core.book.model.estimate(demand) == before


def test_refusals_are_no_samples():
    """A refused request is charged nothing, which is not what it would be charged."""
    account = Account()
    for demand in demands(2 * ENOUGH):
        account.now += 60
        lease = account.core.try_reserve(account.now, demand)
        account.core.refused(account.now, lease, account.observation(59_990), Refusal.RATE)
        account.now += 60
    assert not account.core.book.model.ready


def test_same_cap_all_the_time_is_no_constant():
    """Map requests teach what reduce requests, whose cap is another, will be charged."""
    model = ChargeModel()
    for demand in demands(20):
        demand = demand._replace(output_cap=256)
        model.learn(demand, demand.body_bytes // 4 + 256)
    assert 1000 + 512 <= model.estimate(Demand(1000, 512, 4000)) <= 1000 + 512 + 2


def test_input_estimates_that_change_do_no_harm():
    """An input estimate learns from replies; a charge that bytes explain up to rounding does not go by it."""
    for seed in range(20):
        model, rng = ChargeModel(), random.Random(seed)
        for _ in range(ENOUGH):
            size = rng.randint(500, 900)
            model.learn(Demand(size // 3 + 4, 100, size), size // 4 + 100 + rng.uniform(-1, 1))
        assert 274 <= model.estimate(Demand(700 // 5, 100, 700)) <= 280
