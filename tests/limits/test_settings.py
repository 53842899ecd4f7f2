"""Settings, laws and the share."""

from __future__ import annotations

import pytest

from toolkit.errors import ConfigError
from toolkit.limits import Demand, LimiterCore, LimitSettings, open_state, quota_share, quota_shares
from toolkit.limits.window import Kind
from toolkit.records import Usage


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute=0"),
        ({"tokens_per_minute": -5}, "tokens_per_minute=-5"),
        ({"tokens_per_day": 1.5}, "tokens_per_day=1.5"),
        ({"max_concurrent": True}, "max_concurrent=True"),
        ({"law": "opnai"}, "did you mean 'openai'"),
        ({"law": "tokens:sliding:10"}, "bind requests only"),
        ({"law": "tokens:bukket"}, "did you mean 'bucket'"),
        ({"law": "requests:fixed:61"}, "1 to 60 s, or 86400"),
        ({"law": "requests:fixed", "tokens_per_minute": 5}, "does not say how tokens"),
        ({"charge": "guess"}, "charge='guess'"),
        ({"oversize": "drop"}, "oversize='drop'"),
        ({"learn": "yes"}, "learn='yes'"),
        ({"optimistic": True}, "charge='fitted'"),
    ],
)
def test_a_wrong_setting_is_named(wrong, message):
    """One clear sentence about what is wrong."""
    with pytest.raises(ConfigError, match=message):
        LimitSettings(**wrong)
    with pytest.raises(ConfigError, match="did you mean 'max_concurrent'"):
        LimitSettings().replace(max_concurent=3)


def test_short_windows_are_rounded_up():
    """50 requests a minute are 9 in 10 s and 1 in 1 s; tokens are bound by the minute only."""
    rules = LimitSettings(requests_per_minute=50, tokens_per_minute=50, law="azure").rules()
    assert {clause.name: limit for clause, limit in rules.items()} == {
        "requests:fixed:60": 50,
        "requests:sliding:10": 9,
        "requests:sliding:1": 1,
        "tokens:fixed:60": 50,
    }


def test_unknown_state():
    """A URL of another kind is refused."""
    with pytest.raises(ConfigError, match="redis"):
        open_state("redis://somewhere")
    assert open_state("memory://") is open_state("memory://")


def test_quota_shares_of_a_law():
    """What settlements correct counts at the admission; limits of a day are not told."""
    core = LimiterCore("key", LimitSettings(tokens_per_minute=600, requests_per_day=9, transit_s=0))
    epoch = 1_700_000_000.0
    first = core.try_reserve(epoch, Demand(500, 100))
    core.note_waiting(epoch, 1)
    core.settle(epoch + 1, first, Usage(200, 1))
    second = core.try_reserve(epoch + 30, Demand(300, 300))
    core.note_waiting(epoch + 30, 0)
    core.settle(epoch + 40, second, Usage(300, 1))
    assert quota_shares(core.history, core.rules()) == {"tokens:bucket:60": pytest.approx(900 / 900)}
    assert [event.tokens for event in core.history if event.lease_id == 1] == [600, -300]


def test_quota_share():
    """A saturated law gives 1; gaps in which nobody waited do not count; without waits there is none."""
    bucket = [(0.0, 60), *((float(t), 1) for t in range(1, 61))]
    assert quota_share(bucket, [(0, 60)], kind=Kind.BUCKET, limit=60) == 1
    assert quota_share([(t, 5) for t in (0, 59, 60, 119)], [(0, 119)], kind=Kind.FIXED, limit=10) == 1
    assert quota_share([(0, 10), (60, 10)], [(0, 60)], kind=Kind.SLIDING, limit=10) == 1
    idle = [*bucket, (9000.0, 1)]
    assert quota_share(idle, [(0, 60)], kind=Kind.BUCKET, limit=60) == 1
    assert quota_share(bucket, [], kind=Kind.BUCKET, limit=60) is None
    half = [(0.0, 30), (60.0, 30)]
    assert quota_share(half, [(0, 60)], kind=Kind.BUCKET, limit=60) == 0.5
