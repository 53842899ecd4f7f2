"""The core under every law, charge and state, on virtual time: a suite over both states."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from toolkit.errors import Oversize
from toolkit.limits import (
    Cause,
    Demand,
    Exhausted,
    Lease,
    LeaseError,
    LimiterCore,
    LimitSettings,
    Observation,
    Reading,
    Refusal,
    Wait,
    read_headers,
    ticks,
)
from toolkit.limits.laws import DAY, MINUTE, Dimension
from toolkit.limits.window import Kind
from toolkit.limits.windows import make_window
from toolkit.records import Usage

EPOCH = 1_700_000_000.0
LAWS = [
    "openai",
    "azure",
    "anthropic",
    "safe",
    "requests:fixed, tokens:sliding",
    "requests:sliding:10, requests:bucket, tokens:bucket",
]
# The windows that each law stands for, spelled out once more: dimension, kind, period, share of the minute.
EXPECTED = {
    "openai": [("requests", "bucket", 60), ("tokens", "bucket", 60)],
    "azure": [
        ("requests", "fixed", 60),
        ("requests", "sliding", 10),
        ("requests", "sliding", 1),
        ("tokens", "fixed", 60),
    ],
    "anthropic": [("requests", "bucket", 60), ("tokens", "bucket", 60)],
    "safe": [(d, k, 60) for d in ("requests", "tokens") for k in ("bucket", "sliding", "fixed")]
    + [("requests", "sliding", 10), ("requests", "sliding", 1), ("requests", "fixed", 1)],
    LAWS[4]: [("requests", "fixed", 60), ("tokens", "sliding", 60)],
    LAWS[5]: [("requests", "sliding", 10), ("requests", "bucket", 60), ("tokens", "bucket", 60)],
}


class Quota:
    """A core in its state, asked the way the limiter asks it."""

    def __init__(self, state, settings):
        self.state, self.core = state, LimiterCore("key", settings, state.holder)

    def __getattr__(self, name):
        def call(*args, **kwargs):
            with self.state.exclusive(self.core):
                return getattr(self.core, name)(*args, **kwargs)

        return call


@pytest.fixture
def quota(new_state):
    return lambda **numbers: Quota(new_state(), LimitSettings(**numbers))


class Sent(NamedTuple):
    """One request as the server sees it, which counts ``charged`` between ``admitted`` and ``ended``."""

    admitted: float
    ended: float
    charged: int

    def counted_at(self, share: float, longest: float) -> float:
        """Return the moment that lies ``share`` of the way to the end, or to the latest arrival."""
        return self.admitted + share * (min(self.ended, self.admitted + longest) - self.admitted)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "charge",
    ["sum", pytest.param("max", marks=pytest.mark.slow), pytest.param("actual", marks=pytest.mark.slow)],
)
@effort(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_traffic_keeps_the_law(law, charge, seed, new_state, broken):
    """Whenever the server counts what it is sent, it never gets more than the checker allows.

    Inputs turn out smaller than estimated, replies come late or never, and each wait ends at the instant that
    it named. Nor is more in flight than the cap.
    """
    rng = random.Random(seed)
    rpm, tpm, cap = rng.choice([7, 60, 600]), rng.choice([500, 60_000]), rng.randint(1, 8)
    quota = Quota(
        new_state(),
        LimitSettings(
            requests_per_minute=rpm, tokens_per_minute=tpm, max_concurrent=cap, law=law, charge=charge
        ),
    )
    now, flying, sent = EPOCH + rng.uniform(0, 60), {}, []
    for _ in range(60):
        demand = Demand(rng.randint(0, tpm // 4), rng.randint(1, tpm // 3))
        while True:
            for lease in [lease for lease, until in flying.items() if until <= now]:
                known, allowed = rng.randint(0, lease.demand.input_tokens), lease.demand.output_cap
                used = Usage(known, rng.randint(0, allowed))
                quota.settle(now, lease, used if charge == "actual" else rng.choice([used, None]))
                charged = {"sum": known + allowed, "max": max(known, allowed)}
                charged["actual"] = used.input_tokens + used.output_tokens
                sent.append(Sent(lease.admitted_at, now, charged[charge]))
                del flying[lease]
            answer = quota.try_reserve(now, demand)
            if isinstance(answer, Lease):
                break
            assert isinstance(answer, Wait)
            assert answer.wake_at > now
            ends = min(flying.values(), default=math.inf)
            if answer.wake_at <= ends:
                now = answer.wake_at
                answer = quota.try_reserve(now, demand)
                assert isinstance(answer, Lease), "the instant that was named is enough"
                break
            now = ends
        flying[answer] = now + rng.choice([0.0, rng.uniform(0, 2), rng.uniform(0, 90)])
        assert len(flying) <= cap
        now += rng.choice([0.0, 0.0, rng.uniform(0, 5)])
    shares = [[0.0] * len(sent), [1.0] * len(sent), [rng.random() for _ in sent]]
    for dimension, kind, period in EXPECTED[law]:
        tokens = dimension == "tokens"
        limit = math.ceil((tpm if tokens else rpm) * period / 60)
        longest = math.inf if tokens and charge == "actual" else min(1.0, period / 20)
        for at in shares:
            counted = [
                (s.counted_at(share, longest), s.charged if tokens else 1)
                for s, share in zip(sent, at, strict=True)
            ]
            assert broken[kind](sorted(counted), limit, period) is None, (dimension, kind, period)


def test_saturated_bucket_loses_no_token(quota):
    """Back to back, the last of many demands comes at exactly (total - limit) / rate."""
    rng = random.Random(3)
    limiter, now, total = quota(tokens_per_minute=60_000, transit_s=0), EPOCH, 0
    for _ in range(200):
        demand = Demand(rng.randint(1, 40_000))
        answer = limiter.try_reserve(now, demand)
        if isinstance(answer, Wait):
            now = answer.wake_at
            answer = limiter.try_reserve(now, demand)
        assert isinstance(answer, Lease)
        total += demand.input_tokens
    assert now - EPOCH == pytest.approx((total - 60_000) / 1000, abs=3e-7)


def test_a_quota_starts_with_the_first_arrival(quota):
    """Until a request has arrived nothing drains: the wait is counted from its reply, or from 1 s on."""
    limiter = quota(tokens_per_minute=60)
    lease = limiter.try_reserve(EPOCH, Demand(60))
    assert limiter.try_reserve(EPOCH, Demand(1)).wake_at == EPOCH + 2
    limiter.settle(EPOCH + 0.25, lease, Usage(60, 0))
    assert limiter.try_reserve(EPOCH + 0.25, Demand(1)).wake_at == EPOCH + 1.25


def test_all_or_none(quota):
    """A request that lacks tokens takes no request and no slot."""
    limiter = quota(requests_per_minute=10, tokens_per_minute=100, max_concurrent=3)
    assert isinstance(limiter.try_reserve(EPOCH, Demand(80)), Lease)
    before = limiter.dump()
    for _ in range(20):
        assert limiter.try_reserve(EPOCH, Demand(80)).cause is Cause.TOKENS
    after = limiter.snapshot(EPOCH)
    assert (after.in_flight, after.requests_60s, after.tokens_60s) == (1, 1, 80)
    assert limiter.used(EPOCH) == {"requests:bucket:60": 1, "tokens:bucket:60": 80}
    assert len(before)


def test_a_lease_is_settled_exactly_once(quota):
    """The second settlement and an unknown lease are errors and change nothing."""
    limiter = quota(max_concurrent=2)
    lease = limiter.try_reserve(EPOCH, Demand())
    limiter.settle(EPOCH, lease)
    for wrong in (lease, lease._replace(id=99), lease._replace(quota_key="other")):
        with pytest.raises(LeaseError):
            limiter.settle(EPOCH, wrong)
        with pytest.raises(LeaseError):
            limiter.refused(EPOCH, wrong, Observation(), Refusal.RATE)
    assert limiter.snapshot(EPOCH).in_flight == 0


def test_unsent_gives_everything_back(quota):
    """What never reached the server counts for nothing."""
    limiter = quota(requests_per_minute=1, tokens_per_minute=10, max_concurrent=1)
    limiter.settle(EPOCH, limiter.try_reserve(EPOCH, Demand(10)), sent=False)
    assert isinstance(limiter.try_reserve(EPOCH, Demand(10)), Lease)


def test_the_estimate_of_the_input_is_corrected(quota):
    """The server's own count of the input takes the place of ours, up and down; the cap stays charged."""
    limiter = quota(tokens_per_minute=1000)
    limiter.settle(EPOCH, limiter.try_reserve(EPOCH, Demand(100, 50)), Usage(300, 1))
    assert limiter.used(EPOCH)["tokens:bucket:60"] == 350
    limiter.settle(EPOCH, limiter.try_reserve(EPOCH, Demand(100, 50)), Usage(10, 1))
    assert limiter.used(EPOCH)["tokens:bucket:60"] == 410
    limiter.settle(EPOCH, limiter.try_reserve(EPOCH, Demand(100, 50)))
    assert limiter.used(EPOCH)["tokens:bucket:60"] == 560, "without a usage the estimate stays"


def test_oversize(quota):
    """Above the limit: refused with the numbers; as a share, alone at a full window, paid off afterwards."""
    refusing = quota(tokens_per_minute=1000)
    with pytest.raises(Oversize, match=r"1001 tokens.*1000 per minute"):
        refusing.try_reserve(EPOCH, Demand(1001))
    assert refusing.largest() == {Dimension.TOKENS: 1000}
    sharing = quota(tokens_per_minute=1000, oversize="wait_full", transit_s=0)
    sharing.try_reserve(EPOCH, Demand(1))
    wait = sharing.try_reserve(EPOCH, Demand(1500))
    assert wait.wake_at == pytest.approx(EPOCH + 0.06, abs=1e-6)
    assert isinstance(sharing.try_reserve(wait.wake_at, Demand(1500)), Lease)
    after = sharing.try_reserve(wait.wake_at, Demand(1))
    assert after.wake_at - wait.wake_at == pytest.approx(501 * 0.06, abs=1e-6)


def test_cause_is_the_constraint_met_last(quota):
    """Requests, tokens, slots and cool-down each give their name when they come last."""
    limiter = quota(requests_per_minute=2, tokens_per_minute=100, max_concurrent=1)
    lease = limiter.try_reserve(EPOCH, Demand(60))
    assert limiter.try_reserve(EPOCH, Demand(10))[:2] == (math.inf, Cause.SLOTS)
    limiter.settle(EPOCH, lease, Usage(60, 0))
    limiter.retune(EPOCH, LimitSettings(requests_per_minute=2, tokens_per_minute=100))
    assert limiter.try_reserve(EPOCH, Demand(60)).cause is Cause.TOKENS
    lease = limiter.try_reserve(EPOCH, Demand(10))
    assert limiter.try_reserve(EPOCH, Demand(10)).cause is Cause.REQUESTS
    limiter.refused(EPOCH, lease, Observation(retry_after_s=200), Refusal.RATE)
    wait = limiter.try_reserve(EPOCH, Demand(10))
    assert (wait.cause, wait.wake_at) == (Cause.COOLDOWN, EPOCH + 200)


def test_one_incident_cuts_once_and_growth_needs_use(quota):
    """Complaints about requests of before the cut cut no more; the cap grows only while it is full."""
    limiter = quota(max_concurrent=8)
    now = EPOCH
    first = [limiter.try_reserve(now, Demand()) for _ in range(8)]
    now += 1
    for lease in first[:5]:
        limiter.refused(now, lease, Observation(), Refusal.SLOW_DOWN)
    assert limiter.snapshot(now).slot_cap == 4
    for lease in first[5:]:
        limiter.settle(now, lease, Usage(1, 1))
    now += 100
    for _ in range(50):  # one at a time never fills four places
        limiter.settle(now, limiter.try_reserve(now, Demand()), Usage(1, 1))
    assert limiter.snapshot(now).slot_cap == 4
    for _ in range(100):
        flying = []
        while isinstance(answer := limiter.try_reserve(now, Demand()), Lease):
            flying.append(answer)
        for lease in flying:
            limiter.settle(now, lease, Usage(1, 1))
    assert limiter.snapshot(now).slot_cap == 8
    now += 1
    second = [limiter.try_reserve(now, Demand()) for _ in range(8)]
    limiter.refused(now + 1, second[0], Observation(), Refusal.OVERLOAD)
    assert limiter.snapshot(now + 1).slot_cap == 4, "a new incident cuts again"


def test_a_hidden_cap_is_found_once(quota):
    """A server that works on six at a time refuses a few at first, and then one a minute at the most."""
    limiter, now, flying, refused = quota(max_concurrent=32), EPOCH, [], []
    for _ in range(8000):
        answer = limiter.try_reserve(now, Demand())
        if isinstance(answer, Lease):
            if len(flying) < 6:
                flying.append((now + 0.4, answer))
            else:
                limiter.refused(now, answer, Observation(), Refusal.CONCURRENCY)
                refused.append(now - EPOCH)
            continue
        ends, lease = min(flying, default=(answer.wake_at, None))
        now = min(ends, answer.wake_at)
        if lease is not None and now == ends:
            flying.remove((ends, lease))
            limiter.settle(now, lease, Usage(1, 1))
    late = [at for at in refused if at > 20]
    assert now - EPOCH > 200
    assert len(late) <= (now - EPOCH) / 60
    assert limiter.snapshot(now).slot_cap == 6
    limiter.retune(now, LimitSettings(max_concurrent=4))
    assert limiter.snapshot(now).slot_cap == 4


def test_pause_doubles_by_incident_and_retry_after_is_a_floor(quota):
    """Without Retry-After the pause starts at 1 s and doubles by incident, not by complaint."""
    limiter = quota(max_concurrent=9)
    now = EPOCH
    for expected in (1, 2, 4):
        flying = [limiter.try_reserve(now, Demand()) for _ in range(3)]
        now += 0.5
        for lease in flying:
            limiter.refused(now, lease, Observation(), Refusal.RATE)
        assert limiter.try_reserve(now, Demand()).wake_at == now + expected
        now += expected
    lease = limiter.try_reserve(now, Demand())
    limiter.refused(now, lease, Observation(retry_after_s=33.3), Refusal.RATE)
    assert limiter.try_reserve(now, Demand()).wake_at >= now + 33.3


@pytest.mark.parametrize("law", ["openai", "azure", "safe"])
def test_an_exhausted_day_drains(law, quota):
    """Once the day is used up the answer is not a wait but when it may go on, and then it does."""
    limiter = quota(requests_per_day=3, law=law)
    for _ in range(3):
        limiter.settle(EPOCH, limiter.try_reserve(EPOCH, Demand()))
    answer = limiter.try_reserve(EPOCH, Demand())
    assert isinstance(answer, Exhausted)
    assert answer.dimension is Dimension.REQUESTS
    assert EPOCH < answer.until <= EPOCH + DAY
    assert isinstance(limiter.try_reserve(answer.until, Demand()), Lease)


def reading(dimension, limit, remaining, period=MINUTE, rounding=0):
    return Observation((Reading(dimension, limit, remaining, None, period, rounding),))


def test_a_daily_reading_never_becomes_a_minute(quota):
    """The trap: 10,000 requests a day leave the minute's limit alone; when they are gone, the run drains."""
    limiter = quota(requests_per_minute=50, learn="auto")
    lease = limiter.try_reserve(EPOCH, Demand())
    limiter.observe(EPOCH, reading(Dimension.REQUESTS, 10_000, 9_999, DAY), lease)
    assert limiter.snapshot(EPOCH).requests_limit == 50
    limiter.settle(EPOCH, lease)
    lease = limiter.try_reserve(EPOCH + 1, Demand())
    limiter.refused(EPOCH + 1, lease, reading(Dimension.REQUESTS, 10_000, 0, DAY), Refusal.DAY)
    assert isinstance(limiter.try_reserve(EPOCH + 1, Demand()), Exhausted)


def test_headers_tighten_and_loosen_only_to_the_settings(quota):
    """config: down, and up again to the settings; auto: what the server says."""
    for learn, limits in (("config", (500, 1000)), ("auto", (500, 9000))):
        limiter = quota(tokens_per_minute=1000, learn=learn)
        for told, expected in zip((500, 9000), limits, strict=True):
            limiter.observe(EPOCH, reading(Dimension.TOKENS, told, told))
            assert limiter.snapshot(EPOCH).tokens_limit == expected


@pytest.mark.parametrize(
    ("law", "used", "reset_s", "minute", "day"),
    [
        ("requests:sliding, tokens:sliding", 1, 60.0, 600, None),
        ("requests:fixed, tokens:fixed", 30, 12.5, 600, None),
        ("requests:sliding, tokens:sliding, requests:sliding:86400", 30, 3600.0, None, 600),
        ("safe", 1, 144.0, None, 600),
        ("safe", 1, 0.1, 600, None),
        ("openai", 1, 60.0, None, None),
    ],
)
def test_the_period_of_other_laws(law, used, reset_s, minute, day, quota):
    """Where the law is no bucket, the reset is when the window ends."""
    limiter = quota(learn="auto", law=law)
    limiter.observe(EPOCH, read_headers(requests_headers(600, used, reset_s), EPOCH))
    assert limiter.core.limit(Dimension.REQUESTS) == minute
    assert limiter.core.limit(Dimension.REQUESTS, DAY) == day


@pytest.mark.parametrize("law", ["openai", "azure", "safe", "requests:sliding, tokens:sliding"])
def test_what_may_be_a_bucket_of_a_day_is_no_minutes_limit(law, quota):
    """10,000 requests a day that reset in 8.64 s are not 10,000 a minute, whatever the law."""
    limiter = quota(learn="auto", law=law)
    limiter.observe(EPOCH, read_headers(requests_headers(10_000, 1, 8.64), EPOCH))
    assert limiter.core.limit(Dimension.REQUESTS) is None


def requests_headers(limit, used, reset_s):
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(limit - used),
        "x-ratelimit-reset-requests": f"{reset_s}s",
    }


def test_auto_without_numbers_feels_its_way(quota):
    """One request at a time until the first headers; then their limits hold."""
    limiter = quota(learn="auto", law="azure")
    lease = limiter.try_reserve(EPOCH, Demand(5))
    assert limiter.try_reserve(EPOCH, Demand(5)).cause is Cause.SLOTS
    limiter.observe(EPOCH, reading(Dimension.REQUESTS, 600, 599), lease)
    limiter.settle(EPOCH, lease, Usage(5, 0))
    used = limiter.used(EPOCH)
    assert set(used) == {"requests:fixed:60", "requests:sliding:10", "requests:sliding:1"}
    assert used["requests:sliding:1"] == 1, "what was sent before counts"


def test_a_total_is_unlearned(quota):
    """A Workspace's limit binds prompts and replies together while it is shown, and not once another is."""
    limiter = quota(learn="auto", law="anthropic", input_tokens_per_minute=9, output_tokens_per_minute=9)
    shown = {"input-tokens": 50_000, "output-tokens": 10_000}
    for total, limit in ((38_000, 38_000), (60_000, None), (38_000, 38_000), (None, None)):
        headers = {f"anthropic-ratelimit-{n}-limit": str(number) for n, number in shown.items()}
        if total:
            headers["anthropic-ratelimit-tokens-limit"] = str(total)
            headers["anthropic-ratelimit-tokens-remaining"] = str(total)
        limiter.observe(EPOCH, read_headers(headers, EPOCH))
        assert limiter.snapshot(EPOCH).tokens_limit == limit
        assert limiter.snapshot(EPOCH).server_remaining_tokens == limit
        assert limiter.largest() == {
            Dimension.INPUT_TOKENS: 50_000,
            Dimension.OUTPUT_TOKENS: 10_000,
            **({Dimension.TOKENS: limit} if limit else {}),
        }


@pytest.mark.parametrize("rounding", [0, 500])
@pytest.mark.parametrize("law", ["openai", "azure", "safe"])
@effort(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_own_calls_are_never_counted_twice(law, rounding, seed, new_state):
    """Readings of a server that sees only us never change what we believe, but for whole tokens.

    It may have taken the reading at any moment of the call, and round it.
    """
    rng = random.Random(seed)
    limit, numbers = 6000, itertools.count()
    quota = Quota(new_state(), LimitSettings(tokens_per_minute=limit, max_concurrent=6, law=law))
    server = make_window(Kind(EXPECTED[law][-1][1] if law != "safe" else "sliding"), limit, 60)
    events = [(EPOCH + rng.uniform(0, 200), next(numbers), "ask", None) for _ in range(60)]
    heapq.heapify(events)
    while events:
        now, _, event, given = heapq.heappop(events)
        at = ticks.from_seconds(now)
        if event == "ask":
            lease = quota.try_reserve(now, Demand(rng.randint(1, 2000)))
            if isinstance(lease, Lease):
                server.take(at, lease.amounts[1])
                look = now + rng.choice([0.0, rng.uniform(0, 30)])
                heapq.heappush(events, (look, next(numbers), "look", lease))
        elif event == "look":
            left = math.floor(limit - server.used(at))
            left = (left + rounding) // 1000 * 1000 if rounding else left
            seen = reading(Dimension.TOKENS, limit, min(left, limit), rounding=rounding)
            end = now + rng.choice([0.0, rng.uniform(0, 30)])
            heapq.heappush(events, (end, next(numbers), "end", (given, seen)))
        else:
            before = sum(quota.used(now).values())
            quota.observe(now, given[1], given[0])
            assert sum(quota.used(now).values()) < before + 1
            quota.settle(now, given[0])


def test_others_use_of_the_account_is_believed(quota):
    """What only others can have used is counted, and nothing is admitted beyond it."""
    limiter = quota(tokens_per_minute=6000)
    lease = limiter.try_reserve(EPOCH, Demand(100))
    limiter.observe(EPOCH, reading(Dimension.TOKENS, 6000, 50), lease)
    assert limiter.used(EPOCH)["tokens:bucket:60"] == 5950
    assert limiter.try_reserve(EPOCH, Demand(51)).wake_at == pytest.approx(EPOCH + 0.01, abs=1e-6)


@pytest.mark.parametrize("law", LAWS)
@effort(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_clock_jumps(law, seed, new_state, broken):
    """A clock set back is no time at all: the law holds on the time that really went by.

    And nobody waits longer than the law's own wait.
    """
    rng = random.Random(seed)
    quota = Quota(new_state(), LimitSettings(requests_per_minute=9, tokens_per_minute=900, law=law))
    shown, real, admitted = EPOCH, EPOCH, []
    for _ in range(40):
        if rng.random() < 0.2:
            shown -= rng.choice([0.3, 5.0, 3600.0, 1e7])
        answer = quota.try_reserve(shown, Demand(rng.randint(1, 300)))
        if isinstance(answer, Lease):
            admitted.append((real, answer.amounts[1]))
            quota.settle(shown, answer)
        else:
            assert answer.wake_at - shown <= 121
            shown, real = shown + (answer.wake_at - shown), real + (answer.wake_at - shown)
    for _, kind, period in EXPECTED[law]:
        if period == 60 and kind != "fixed":  # calendar windows are those of the clock
            assert broken[kind](admitted, 900, 60) is None


@effort(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_book_survives_being_written_down(seed, new_state):
    """A core that reads the book answers as the one that wrote it."""
    rng = random.Random(seed)
    settings = LimitSettings(
        requests_per_minute=20,
        tokens_per_minute=5000,
        requests_per_day=1000,
        max_concurrent=5,
        law=rng.choice(LAWS[:4]),
        charge=rng.choice(["sum", "actual", "fitted"]),
    )
    quota = Quota(new_state(), settings)
    now, flying = EPOCH, []
    for _ in range(30):
        now += rng.uniform(0, 4)
        answer = quota.try_reserve(now, Demand(rng.randint(1, 900), 10, 50))
        flying += [answer] if isinstance(answer, Lease) else []
        if flying and rng.random() < 0.5:
            quota.settle(now, flying.pop(), Usage(5, 5))
        other = LimiterCore("key", settings, quota.core.holder)
        other.load(quota.core.dump())
        assert other.dump() == quota.core.dump()
        probe = Demand(rng.randint(1, 4000))
        third = LimiterCore("key", settings, quota.core.holder)
        third.load(quota.core.dump())
        assert str(other.try_reserve(now, probe)) == str(third.try_reserve(now, probe))


def test_dead_holders_give_back_slots_only(quota):
    """A dead process's slot is free at once; its request and tokens stay charged."""
    limiter = quota(requests_per_minute=10, tokens_per_minute=100, max_concurrent=1, charge="actual")
    lease = limiter.try_reserve(EPOCH, Demand(30, 10))
    assert limiter.release_dead(EPOCH, {limiter.core.holder}) == 1
    assert limiter.used(EPOCH)["tokens:bucket:60"] == 40
    assert isinstance(limiter.try_reserve(EPOCH, Demand(60)), Lease)
    assert not limiter.still_valid(EPOCH, lease)
    with pytest.raises(LeaseError):
        limiter.settle(EPOCH, lease)


def test_a_sleeper_must_ask_again(quota):
    """A lease that was slept over does not allow to send any more."""
    limiter = quota(max_concurrent=1)
    lease = limiter.try_reserve(EPOCH, Demand())
    assert limiter.still_valid(EPOCH + 1, lease)
    assert not limiter.still_valid(EPOCH + 60, lease)


def test_retune_up_and_down(quota):
    """New limits hold at once for what comes; what is counted stays counted."""
    limiter = quota(tokens_per_minute=100)
    limiter.try_reserve(EPOCH, Demand(100))
    limiter.retune(EPOCH, LimitSettings(tokens_per_minute=300))
    assert isinstance(limiter.try_reserve(EPOCH, Demand(200)), Lease)
    assert isinstance(limiter.try_reserve(EPOCH, Demand(1)), Wait)
    limiter.retune(EPOCH, LimitSettings(tokens_per_minute=30, law="safe"))
    assert limiter.try_reserve(EPOCH, Demand(30)).wake_at == EPOCH + 60, "another law knows the last minute"


def test_ids_are_never_given_twice(quota):
    """Every lease of a key has an id of its own."""
    limiter = quota()
    ids = [limiter.try_reserve(EPOCH, Demand()).id for _ in range(50)]
    assert len(set(ids)) == 50
