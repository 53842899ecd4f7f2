"""``simulate``: the same as a run where a run can be known, laws kept, nothing called, nothing by chance."""

from __future__ import annotations

import math
import socket
import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.frames import ATTEMPTS, CALLS, EPISODES, LIMITS
from toolkit.latency import LatencyModel
from toolkit.limits import LimitSettings
from toolkit.planning import plan
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode, Reply, Request
from toolkit.simulation import Faults, simulate
from toolkit.testing import ApiServer
from toolkit.workflow import run

# The parts of a service are no phases of their own.
NO_PHASES = ("prompt_s", "decode_s", "total_s")
PHASES = [column.name for column in CALLS if column.unit == "s" and column.name not in NO_PHASES]


def make_episodes(count: int, lines: int = 1) -> list[Episode]:
    """Make episodes of lines that just fill a chunk of 32 words each."""
    line = " ".join(["word"] * 30)
    return [
        Episode.from_text(f"e{n}", "\n".join(f"Hill{n} {line} dry{i}." for i in range(lines)))
        for n in range(count)
    ]


def hosted(**settings: Any) -> Config:
    """Make settings of a hosted model on which one limit after the other can be put."""
    wide = {
        "openai_requests_per_minute": 10**6,
        "openai_tokens_per_minute": 10**9,
        "openai_max_concurrent_requests": 1000,
    }
    return Config(provider="openai", model="gpt-4o-mini", **{**wide, **settings})


class Limited(ScriptedSummarizationProvider):
    """A script behind limits."""

    settings_of_limits = LimitSettings()

    def quota_key(self) -> str:
        return f"scripted {id(self)}"

    def limits(self) -> LimitSettings:
        return self.settings_of_limits


def limited(clock: ManualClock, config: Config, limits: LimitSettings, latency_s: float) -> Limited:
    provider = Limited(
        config, latency_s=latency_s, clock=clock, replies=lambda request: " ".join(["so"] * 7) + " end."
    )
    provider.settings_of_limits = limits
    return provider


# -- against a run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize(
    "limits",
    [
        LimitSettings(requests_per_minute=4),
        LimitSettings(requests_per_minute=5, law="requests:sliding"),
        LimitSettings(requests_per_minute=5, law="requests:fixed"),
        LimitSettings(tokens_per_minute=400),
        LimitSettings(tokens_per_minute=150, charge="actual"),
        LimitSettings(requests_per_minute=6, tokens_per_minute=500, max_concurrent=1),
    ],
    ids=["requests", "sliding", "fixed", "tokens", "actual", "mixed"],
)
def test_it_is_the_run_to_the_microsecond(limits: LimitSettings, lines: int) -> None:
    """With one call at a time and a known latency a run is foretold exactly, waits and causes included."""
    clock = ManualClock()
    config = Config(
        provider="scripted", chunk_tokens=32, limits_url="memory://", summary_max_tokens=64, reuse="none"
    )
    provider = limited(clock, config, limits, 0.75)
    episodes = make_episodes(6, lines)
    began_at = int(clock.epoch())
    real = run(episodes, config, provider=provider, clock=clock, progress=False)
    guess = simulate(
        episodes,
        config,
        provider=provider,
        latency=LatencyModel(base_s=0.75, output_tokens=8),
        began_at=began_at,
    )
    assert real.counts() == guess.counts() == {"ok": 6}
    assert guess.makespan_s == pytest.approx(real.makespan_s, abs=1e-5)
    assert guess.makespan_s > 0.75 * len(real.calls) + 2, "the limits are to bind"
    columns = ["stage", "chunk_index", "status", "attempts", "input_tokens", "output_tokens", *PHASES]
    for name in columns:
        pd.testing.assert_series_equal(real.calls[name], guess.calls[name], rtol=0, atol=1e-5)
    ours, theirs = (run.limits.drop(columns=["run_id", "quota_key"]) for run in (guess, real))
    pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-5)
    assert guess.quota_shares == pytest.approx(real.quota_shares)


@pytest.mark.parametrize("faults", ["RateLimited", "TransientError"])
def test_retries_are_those_of_a_run(faults: str) -> None:
    """What fails every time is tried as often as in a run, and fails in the end or goes on for ever."""
    config = hosted(max_attempts=3, retry_total_s=20)
    kind = {"RateLimited": Faults(rate_limited=1.0), "TransientError": Faults(server_error=1.0)}[faults]
    guess = simulate([500], config, latency=1.0, faults=kind)
    (call,) = guess.calls.to_dict("records")
    assert guess.counts() == {"failed": 1}
    assert set(guess.attempts["error_kind"]) == {faults}
    assert call["status"] == "failed"
    if faults == "TransientError":
        assert call["attempts"] == 3
        assert call["failed_attempts_s"] == pytest.approx(3.0)
        assert 0.75 <= call["retry_wait_s"] <= 1.5  # half to all of 0.5 s and of 1 s
    else:
        # Each pauses the key for the second that the server asked for.
        assert call["wait_cooldown_s"] == pytest.approx(call["attempts"] - 1, abs=0.1)


def test_it_predicts_a_run_against_a_server() -> None:
    """Fitted to one run, it knows the next: what the server counts, what it says, how long a call takes."""
    words = "experimentally notwithstanding archaeological correspondence "
    episodes = [Episode.from_text(f"e{n}", f"{n} " + words * (8 + n % 5)) for n in range(24)]
    with ApiServer(requests_per_minute=20, latency=0.05, reply_words=4, pool_by="key") as server:
        config = hosted(
            openai_base_url=server.base_url,
            openai_requests_per_minute=20,
            limits_url="memory://",
            reuse="none",
            summary_batch_size=4,
        ).replace(model="of-no-known-vocabulary", summary_max_tokens=32)
        real = run(episodes[:16], config, progress=False)
    model = LatencyModel.fit(real)
    assert model.mean_service_s(100, 10) == pytest.approx(0.055, abs=0.015)
    assert 0 < model.run_s < 1
    guess = simulate(episodes[:16], config, latency=model)
    assert guess.calls["input_tokens"].sum() == pytest.approx(real.calls["input_tokens"].sum(), rel=0.02)
    assert guess.makespan_s == pytest.approx(real.makespan_s, rel=0.3)
    # The server tells whole requests only, and the limiter believes it.
    tight = simulate([100] * 24, hosted(openai_requests_per_minute=20, summary_batch_size=4), latency=0.05)
    assert "tightened" in set(tight.limits["event"])
    assert tight.makespan_s > 60 * 4 / 20


# -- arithmetic that anybody can check -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("episodes", "batch", "slots", "seconds"),
    [(8, 1, 99, 16), (8, 3, 99, 6), (8, 8, 99, 2), (8, 8, 3, 6), (1, 8, 99, 2)],
)
def test_direct_calls(episodes: int, batch: int, slots: int, seconds: float) -> None:
    """So many episodes at a time, and no more calls in flight than there are slots."""
    config = hosted(summary_batch_size=batch, openai_max_concurrent_requests=slots)
    guess = simulate([300] * episodes, config, latency=2.0)
    assert guess.makespan_s == pytest.approx(seconds)
    assert guess.limits["in_flight"].max() == min(batch, slots, episodes)


@pytest.mark.parametrize(("parallel", "seconds"), [(1, 7), (2, 4), (4, 3), (6, 2), (99, 2)])
def test_chunks_of_an_episode(parallel: int, seconds: float) -> None:
    """Six chunks, so many at a time, and then their summaries."""
    config = Config(provider="scripted", chunk_tokens=32, summary_chunk_parallelism=parallel)
    guess = simulate(make_episodes(1, 6), config, latency=LatencyModel.constant(1.0, output_tokens=4))
    assert list(guess.calls["stage"]).count("map") == 6
    assert guess.makespan_s == pytest.approx(seconds)


def test_what_a_run_takes_beside_its_calls() -> None:
    """Gaps stand between calls and between episodes, overhead in the calls, the run's own at the start."""
    model = LatencyModel(
        base_s=1.0, output_tokens=4, gap_s=0.1, episode_gap_s=0.01, run_s=5.0, overhead_s=0.5
    )
    config = hosted(chunk_tokens=100, summary_max_tokens=32)
    guess = simulate([450, 450], config, latency=model)
    maps, reduces = ((guess.calls["stage"] == stage).sum() for stage in ("map", "reduce"))
    assert guess.makespan_s == pytest.approx(5 + 1.5 * (maps + reduces) + 0.1 * maps + 0.01)
    assert guess.calls["overhead_s"].tolist() == pytest.approx([0.5] * (maps + reduces))


def test_local_requests_are_merged_into_batches() -> None:
    """Eight that come together are one batch, as far as the bound on its tokens goes, and take as long."""
    model = LatencyModel(base_s=1.0, per_neighbour_token_s=0.01, output_tokens=100)
    wide, narrow = (
        simulate(
            [500] * 8,
            Config(summary_batch_size=8, summary_chunk_parallelism=1, engine_batch_tokens=tokens),
            latency=model,
        )
        for tokens in (16_384, 3000)
    )
    assert set(wide.calls["batch_size"]) == {8}
    assert wide.makespan_s == pytest.approx(1 + 7 * 100 * 0.01, abs=0.02)
    assert narrow.calls["batch_size"].max() < 8
    assert narrow.calls["queue_s"].max() > 1


# -- what always holds ---------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], dict[str, int], Faults, int]:
    sizes = draw(st.lists(st.integers(20, 1500), min_size=1, max_size=12))
    knobs = {
        "summary_batch_size": draw(st.integers(1, 8)),
        "summary_chunk_parallelism": draw(st.integers(1, 8)),
        "chunk_tokens": draw(st.sampled_from([100, 300, 1000])),
        "openai_max_concurrent_requests": draw(st.integers(1, 12)),
        "openai_requests_per_minute": draw(st.integers(2, 60)),
        "openai_tokens_per_minute": draw(st.integers(2000, 20_000)),
        "summary_max_tokens": draw(st.integers(16, 64)),
    }
    faults = draw(st.sampled_from([Faults(), Faults(rate_limited=0.1, overloaded=0.1, server_error=0.1)]))
    return sizes, knobs, faults, draw(st.integers(0, 99))


@given(cases())
@settings(deadline=None, max_examples=60)
def test_laws_of_every_simulation(case: tuple[list[int], dict[str, int], Faults, int]) -> None:
    """Limits are kept, calls are conserved, and a call's phases are its whole time."""
    sizes, knobs, faults, seed = case
    model = LatencyModel(base_s=0.3, per_output_token_s=0.01, spread=0.5, output_tokens=30, overhead_s=0.001)
    guess = simulate(sizes, hosted(**knobs), latency=model, faults=faults, seed=seed)
    calls, attempts, limits = guess.calls, guess.attempts, guess.limits

    assert list(guess.episodes["episode_id"]) == [f"e{n}" for n in range(len(sizes))]
    assert guess.episodes["calls"].sum() == len(calls) == calls["call_id"].nunique()
    assert calls["attempts"].sum() == len(attempts)
    by_stage = calls.groupby(["episode_id", "stage"]).size().unstack(fill_value=0)
    for row in by_stage.to_dict("records"):
        assert row.get("direct", 0) == 1 or row.get("map", 0) > 1

    summed = calls[PHASES].fillna(0).sum(axis=1)
    assert (summed - calls["total_s"]).abs().max() < 1e-9
    assert (calls[PHASES].fillna(0) >= 0).all().all()

    admitted = limits[limits["event"] == "admitted"]
    assert len(admitted) == len(attempts)
    assert limits["in_flight"].max() <= knobs["openai_max_concurrent_requests"]
    assert limits["in_flight"].iloc[-1] == 0
    rate = knobs["openai_requests_per_minute"]
    times = admitted["t_s"].tolist()
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = rate + rate * (times[last] - times[first]) / 60
            assert last - first + 1 <= allowed + 1e-6

    in_episode = calls.groupby("episode_id").apply(_most_at_a_time, include_groups=False)
    assert in_episode.max() <= knobs["summary_chunk_parallelism"]
    assert _most_at_a_time(guess.calls) <= knobs["summary_chunk_parallelism"] * knobs["summary_batch_size"]


def _most_at_a_time(calls: pd.DataFrame) -> int:
    """Return the most calls that go on at a time, to the microsecond."""
    starts = calls["started_at"].astype("int64").tolist()
    ends = [start + math.floor(1e6 * total) for start, total in zip(starts, calls["total_s"], strict=True)]
    moments = sorted([(time, 1) for time in starts] + [(time - 1, -1) for time in ends])
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


@given(cases(), st.sampled_from(["openai_requests_per_minute", "openai_max_concurrent_requests"]))
@settings(deadline=None, max_examples=40)
def test_a_higher_limit_never_makes_calls_of_one_length_later(
    case: tuple[list[int], dict[str, int], Faults, int], name: str
) -> None:
    """With one call an episode, all of one length, there is no order in which less waiting takes longer."""
    sizes, knobs, _, seed = case
    knobs |= {"openai_tokens_per_minute": 10**8}
    del knobs["chunk_tokens"]
    low, high = (
        simulate(
            sizes,
            hosted(**{**knobs, name: knobs[name] * factor}),
            latency=LatencyModel.constant(1.5, output_tokens=10),
            seed=seed,
        )
        for factor in (1, 2)
    )
    assert high.makespan_s <= low.makespan_s + 1e-9


@given(cases())
@settings(deadline=None, max_examples=15)
def test_same_seed_same_frames(case: tuple[list[int], dict[str, int], Faults, int]) -> None:
    """A simulation can be repeated: nothing in it comes from the machine."""
    sizes, knobs, faults, seed = case
    model = LatencyModel(base_s=0.3, spread=0.5, output_tokens=30)
    first, second = (
        simulate(sizes, hosted(**knobs), latency=model, faults=faults, seed=seed) for _ in range(2)
    )
    for frame in ("episodes", "calls", "attempts", "limits"):
        pd.testing.assert_frame_equal(getattr(first, frame), getattr(second, frame))
    assert (first.id, first.makespan_s) == (second.id, second.makespan_s)


def test_another_seed_is_other_luck() -> None:
    """Service times differ, and the order of the calls' luck does not depend on the schedule."""
    model = LatencyModel(base_s=1.0, spread=0.3)
    one, other = (simulate([500] * 9, hosted(), latency=model, seed=seed) for seed in (1, 2))
    assert set(one.calls["service_s"]).isdisjoint(other.calls["service_s"])
    wide = simulate([500] * 9, hosted(summary_batch_size=9), latency=model, seed=1)
    by_id = one.calls.set_index("episode_id")["service_s"]
    pd.testing.assert_series_equal(
        by_id, wide.calls.set_index("episode_id")["service_s"].loc[by_id.index], rtol=0, atol=1e-9
    )


# -- nothing outside -----------------------------------------------------------------------------------


def test_nothing_is_called_kept_or_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no thread, no sleep, no key, no model: only arithmetic."""

    def forbidden(*told: object, **named: object) -> None:
        raise AssertionError("a simulation reached outside")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(threading.Thread, "start", forbidden)
    monkeypatch.setattr("time.sleep", forbidden)
    for config in (
        Config(provider="openai"),
        Config(provider="anthropic"),
        Config(provider="openai", model="deployed", azure_endpoint="https://mine.openai.azure.com"),
        Config(provider="transformers", model="nobody/has-this", chunk_tokens=300),
    ):
        guess = simulate([700] * 3, config, latency=1.0)
        assert guess.counts() == {"ok": 3}
        assert guess.simulated
        assert guess.store is None


def test_it_is_flagged_and_has_no_texts() -> None:
    """Nobody takes what was made up for a summary."""
    guess = simulate([700], hosted(), latency=1.0)
    assert repr(guess).startswith("<Simulated run sim-")
    assert guess.episodes["summary"].isna().all()


def test_frames_are_those_of_a_run() -> None:
    """All columns, with their types."""
    guess = simulate([700] * 2, hosted(), latency=1.0)
    for frame, columns in (
        (guess.episodes, EPISODES),
        (guess.calls, CALLS),
        (guess.attempts, ATTEMPTS),
        (guess.limits, LIMITS),
    ):
        assert list(frame.columns) == [column.name for column in columns]
    assert guess.episodes["cost_usd"].notna().all()


def test_sizes_are_what_the_server_counts() -> None:
    """An episode of so many tokens makes a prompt of so many more than one of none, for any counter."""
    for model in ("gpt-4o-mini", "of-no-known-vocabulary"):
        config = hosted(openai_base_url="http://127.0.0.1:9/v1").replace(model=model, context_tokens=50_000)
        small, large = simulate([1000, 5000], config, latency=1.0).calls["input_tokens"]
        assert large - small == pytest.approx(4000, rel=0.01)


# -- trouble -------------------------------------------------------------------------------------------


def test_day_that_is_used_up_drains_the_run() -> None:
    """As in a run: what was done stays, the rest is cancelled and says why."""
    config = hosted(openai_requests_per_day=5, summary_batch_size=2)
    guess = simulate([300] * 9, config, latency=1.0)
    assert guess.counts()["ok"] == 5
    assert guess.counts().get("cancelled", 0) + guess.counts().get("failed", 0) == 4
    assert guess.stopped_because is not None
    assert "per day" in guess.stopped_because


def test_text_without_room_fails_alone() -> None:
    """As in a run, the error stands in the episode's row."""
    guess = simulate([400], Config(provider="scripted", summary_max_tokens=9000), latency=1.0)
    assert guess.counts() == {"failed": 1}
    assert "leave no room" in guess.episodes["error"][0]


@pytest.mark.parametrize("lines", [1, 4])
def test_a_bug_in_a_provider_fails_its_episodes(lines: int) -> None:
    """As in a run, be it met in the only call of an episode or in one of several side by side."""

    class Odd(Limited):
        def price(self, reply: Reply) -> float:
            raise LookupError("no price for that")

    config = Config(provider="scripted", chunk_tokens=32, summary_chunk_parallelism=2)
    guess = simulate(make_episodes(2, lines), provider=Odd(config), latency=1.0)
    assert guess.episodes["error"].tolist() == ["LookupError: no price for that"] * 2
    assert guess.makespan_s > 0


def test_a_server_in_the_house_needs_no_key() -> None:
    """To know a run against a plain address takes no key either."""
    config = hosted(openai_base_url="http://10.0.0.5:8000/v1").replace(model="ours")
    assert simulate([300], config, latency=1.0).counts() == {"ok": 1}


def test_any_number_of_refusals_is_one_failure_each() -> None:
    """Requests that are too large are refused at once, and as many as there are leave nothing else behind."""

    class Large(Limited):
        def input_estimate(self, request: Request) -> int:
            return 5000

    provider = Large(Config(provider="scripted"))
    provider.settings_of_limits = LimitSettings(tokens_per_minute=2000)
    guess = simulate([100] * 1500, provider=provider, latency=1.0)
    assert guess.counts() == {"failed": 1500}
    assert guess.episodes["error"].str.contains("5128 tokens").all()
    assert len(guess.calls) == 1500


def test_only_the_same_simulation_has_the_same_id() -> None:
    """Frames of several can be put together: whatever makes two differ is in their names."""
    made = [
        simulate([100] * 3, hosted(), latency=1.0),
        simulate([100, 100, 200], hosted(), latency=1.0),
        simulate(make_episodes(3), hosted(), latency=1.0),
        simulate(make_episodes(3, 2), hosted(), latency=1.0),
        simulate([100] * 3, hosted(), latency=1.00001),
        simulate([100] * 3, hosted(summary_batch_size=2), latency=1.0),
        simulate([100] * 3, hosted(), latency=1.0, seed=1),
        simulate([100] * 3, hosted(), latency=1.0, began_at=1_700_000_000),
        simulate([100] * 3, hosted(), latency=1.0, faults=Faults(timeout=0.001)),
    ]
    assert len({run.id for run in made}) == len(made)
    assert simulate([100] * 3, hosted(), latency=1.0).id == made[0].id


def test_sizes_of_a_frame_are_sizes() -> None:
    """Whole numbers of NumPy are as good as Python's."""
    sizes = np.array([300, 900])
    assert simulate(sizes, hosted(), latency=1.0).id == simulate([300, 900], hosted(), latency=1.0).id


def test_of_a_text_without_words_nothing_is_asked() -> None:
    """Nor of one of no tokens: a run, its simulation and its plan agree."""
    config = Config(provider="scripted")
    real = run([Episode.from_text("e0", "")], config, clock=ManualClock())
    assert real.episodes["error"].tolist() == ["the text has no words"]
    for texts in ([Episode.from_text("e0", "")], [0], np.array([0])):
        played = simulate(texts, config, latency=1.0)
        of_run = ["episode_id", "status", "error", "words", "chunks", "calls", "total_s"]
        pd.testing.assert_frame_equal(played.episodes[of_run], real.episodes[of_run])
        assert (len(played.calls), played.state) == (0, real.state)
        assert (plan(texts, config).calls, plan(texts, config).episodes) == (0, 1)
    assert simulate([0, 100, 0], config, latency=1.0).episodes["status"].tolist() == [
        "failed",
        "ok",
        "failed",
    ]


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({"episodes": []}, "no episodes"),
        ({"episodes": [True]}, "True is no Episode, and no whole number of tokens from 0 to 100,000,000"),
        ({"episodes": "data"}, "must be a list"),
        ({"episodes": [100, make_episodes(1)[0], make_episodes(1)[0]]}, "two episodes have the id 'e0'"),
        ({"latency": None}, "latency= is of type NoneType; give a LatencyModel"),
        ({"latency": -1}, "base_s=-1 must be a number from 0 on"),
        ({"seeds": 0}, "seeds=0 must be at least one"),
        ({"seeds": 2.5}, "seeds=2.5 must be at least one"),
        ({"seeds": "12"}, "seeds='12' must be at least one"),
    ],
)
def test_wrong_use_is_refused(told: dict[str, Any], wrong: str) -> None:
    """With one sentence that says what is wrong."""
    with pytest.raises(ConfigError, match=wrong):
        simulate(**{"episodes": [100], "config": hosted(), "latency": 1.0, **told})


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({"rate_limited": 1.2}, "rate_limited=1.2 must be between 0 and 1"),
        ({"timeout": 0.6, "server_error": 0.6}, "1.2 together"),
        ({"retry_after_s": -1}, "retry_after_s=-1 must be seconds from 0 on"),
    ],
)
def test_wrong_faults_are_refused(told: dict[str, Any], wrong: str) -> None:
    """Rates are probabilities."""
    with pytest.raises(ConfigError, match=wrong):
        Faults(**told)


def test_faults_come_as_often_as_stated() -> None:
    """Over many attempts each kind has its share, and an overload cuts the cap."""
    faults = Faults(rate_limited=0.1, overloaded=0.05, server_error=0.05, timeout=0.02)
    config = hosted(summary_batch_size=50, request_timeout_s=7, max_attempts=20)
    guess = simulate([300] * 2000, config, latency=1.0, faults=faults)
    rates = guess.attempts["status_code"].value_counts() / len(guess.attempts)
    assert rates[429] == pytest.approx(0.1, abs=0.02)
    assert rates[503] == pytest.approx(0.05, abs=0.02)
    assert rates[500] == pytest.approx(0.05, abs=0.02)
    lost = guess.attempts[guess.attempts["paid_unknown"]]
    assert len(lost) / len(guess.attempts) == pytest.approx(0.02, abs=0.01)
    assert set(lost["service_s"].round(6)) == {7.0}
    assert "cut" in set(guess.limits["event"])


def test_service_longer_than_the_timeout_is_given_up() -> None:
    """As a client would: the answer comes too late, and nobody knows whether it was paid for."""
    guess = simulate([300], hosted(request_timeout_s=5, max_attempts=2), latency=8.0)
    assert guess.counts() == {"failed": 1}
    assert guess.attempts["service_s"].tolist() == pytest.approx([5, 5])
    assert guess.attempts["paid_unknown"].all()


# -- many seeds ----------------------------------------------------------------------------------------


def test_many_seeds_give_quantiles() -> None:
    """A row for each; the median run is one of them, and the same as if played alone."""
    model = LatencyModel(base_s=1.0, spread=0.5)
    played = simulate([500] * 10, hosted(summary_batch_size=2), latency=model, seeds=9, seed=5)
    assert list(played.figures["seed"]) == list(range(5, 14))
    assert len(played) == 9
    assert played.makespans.nunique() == 9
    assert played.median_run.makespan_s == played.makespan_s == played.makespans.median()
    alone = simulate([500] * 10, hosted(summary_batch_size=2), latency=model, seed=7)
    assert played.makespans[7] == alone.makespan_s
    quantiles = played.quantiles([0, 0.5, 1])["makespan_s"]
    assert list(quantiles) == [played.makespans.min(), played.makespan_s, played.makespans.max()]
    assert repr(played).startswith("<9 simulations: ")
    assert repr(simulate([500], hosted(), latency=model, seeds=1)).startswith("<1 simulation: ")


def test_calendar_windows_are_met_at_any_moment() -> None:
    """Where limits hold by the calendar's minute, how long a run takes depends on when it begins."""
    config = hosted(
        openai_requests_per_minute=10, limits_law="requests:fixed, tokens:fixed", summary_batch_size=4
    )
    times = simulate([300] * 15, config, latency=1.0, seeds=12).makespans
    assert times.max() - times.min() > 20
    early, late = (
        simulate([300] * 15, config, latency=1.0, began_at=1_700_000_040 + second).makespan_s
        for second in (5, 50)
    )
    assert early == pytest.approx(55 + 2, abs=0.1)
    assert late == pytest.approx(10 + 2, abs=1.1)


def test_fitted_and_simulated_again_is_the_same() -> None:
    """A model that is fitted to a simulation gives its time back."""
    truth = LatencyModel(base_s=0.5, per_output_token_s=0.01, spread=0.2, output_tokens={"direct": [50, 150]})
    first = simulate([500] * 200, hosted(summary_batch_size=8), latency=truth)
    fitted = LatencyModel.fit(first.calls)
    again = simulate([500] * 200, hosted(summary_batch_size=8), latency=fitted, seeds=5)
    assert again.makespan_s == pytest.approx(first.makespan_s, rel=0.03)


def test_providers_own_count_is_not_taught_what_is_made_up() -> None:
    """A provider of the user's own is the same after a simulation as before."""
    from toolkit.providers.registry import get_provider

    config = hosted(openai_base_url="http://127.0.0.1:9/v1").replace(model="of-no-known-vocabulary")
    provider = get_provider(config)
    request = Request("c", "e", "map", "words " * 200)  # type: ignore[arg-type]
    before = provider.input_estimate(request)
    simulate([900] * 20, config, latency=1.0, provider=provider)
    assert provider.input_estimate(request) == before
