"""The progress of a run: what it counts, how far it says to be, and what it draws."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.limits import Cause, Standing
from toolkit.progress import Progress
from toolkit.records import CallRecord, Episode, EpisodeRecord, Stage, Status, Summary
from toolkit.runs import Run

RunScripted = Callable[..., Run]
MakeEpisodes = Callable[..., list[Episode]]


def call(episode_id: str, output_tokens: int | None = 10) -> CallRecord:
    return CallRecord(
        episode_id,
        "c",
        Stage.MAP,
        0,
        "p",
        "m",
        Status.OK,
        None,
        started_at=0.0,
        output_tokens=output_tokens,
    )


def episode(episode_id: str) -> EpisodeRecord:
    return EpisodeRecord(episode_id, episode_id, 1, 0.0, 1.0, Summary("Done."))


def quiet(episodes: int | None) -> Progress:
    return Progress(episodes, shown=False, clock=ManualClock())


# For each episode the number of calls of each of its steps; the episodes' steps mixed by a shuffled deck.
PLANS = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=5)


@given(PLANS, st.randoms(use_true_random=False))
def test_share_grows_with_each_call_and_stays_in_its_bounds(plans: list[list[int]], rng: object) -> None:
    """Only a newly planned step may take the bar back; a call or an episode that ends never does."""
    progress = quiet(len(plans))
    scripts = {
        f"e{n}": [event for calls in plan for event in (calls, *["call"] * calls)]
        for n, plan in enumerate(plans)
    }
    deck = [name for name, script in scripts.items() for _ in range(len(script) + 1)]
    rng.shuffle(deck)  # type: ignore[attr-defined]
    before = progress.done_share
    assert before == 0
    for name in deck:
        event = scripts[name].pop(0) if scripts[name] else None
        if isinstance(event, int):
            progress.planned(name, event)
        elif event == "call":
            progress.called(call(name))
            assert progress.done_share > before
        else:
            progress.finished(episode(name))
            assert progress.done_share > before
        before = progress.done_share
        assert 0 <= before <= len(plans) + 1e-9
        assert before < len(plans) or progress.episodes == len(plans)
    assert before == len(plans)
    total = sum(sum(plan) for plan in plans)
    assert (progress.calls, progress.calls_planned, progress.output_tokens) == (total, total, 10 * total)


def test_an_episode_under_way_is_not_done() -> None:
    """All planned calls done is not the episode's end: a reduce may follow, and the bar must not be full."""
    progress = quiet(1)
    progress.planned("e", 2)
    for _ in range(2):
        progress.called(call("e"))
    assert 0.5 < progress.done_share < 1


def test_calls_without_tokens_count_as_calls() -> None:
    """A failed call has no tokens and is over all the same."""
    progress = quiet(1)
    progress.planned("e", 1)
    progress.called(call("e", None))
    assert (progress.calls, progress.output_tokens) == (1, 0)


def test_progress_of_a_run_is_its_frames(
    run_scripted: RunScripted, make_episodes: MakeEpisodes, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was drawn last is what the run's frames count."""
    done = run_scripted(make_episodes(3, lines=4), kwargs={"progress": True}, summary_batch_size=2)
    last = capsys.readouterr().err.rstrip().rsplit("\r")[-1]
    assert "100%" in last
    assert f"3/3 episodes, {len(done.calls)}/{len(done.calls)} chunks" in last


def test_bar_shows_episodes_chunks_and_tokens_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the work in ten seconds is told in numbers, without a terminal too."""
    clock = ManualClock()
    with Progress(2, shown=True, clock=clock) as progress:
        progress.planned("e0", 3)
        clock.advance(10.0)
        progress.called(call("e0", 50))
        progress.finished(episode("e0"))
    shown = capsys.readouterr().err
    assert "1/2 episodes, 1/3 chunks, 5 tokens/s" in shown
    assert " 50%" in shown


def test_generator_has_a_count_and_no_share(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody knows how many episodes a generator brings: no percentage is made up."""
    with Progress(None, shown=True, clock=ManualClock()) as progress:
        progress.finished(episode("e0"))
    shown = capsys.readouterr().err
    assert "1 episode," in shown
    assert "%" not in shown


@pytest.mark.parametrize("shown", [False, None])
def test_nothing_is_drawn_into_a_file(shown: bool | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Unasked, a bar is drawn in terminals and notebooks only: logs stay readable."""
    with Progress(2, shown=shown, clock=ManualClock()) as progress:
        progress.finished(episode("e0"))
    assert capsys.readouterr() == ("", "")


def test_a_bar_for_no_episodes_can_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """No episodes: the share of nothing must not be divided by it."""
    with Progress(0, shown=True, clock=ManualClock()):
        pass
    assert "%" in capsys.readouterr().err


def waits_until(seconds: float) -> Standing:
    return Standing(Cause.TOKENS, ManualClock().epoch() + seconds, 3)


def test_a_wait_is_shown_with_its_reason_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar that stands still says why, and when it goes on."""
    with Progress(2, shown=True, clock=ManualClock(), waits=lambda: waits_until(40.0)) as progress:
        progress.look()
    shown = capsys.readouterr().err
    ends = time.strftime("%H:%M:%S", time.localtime(ManualClock().epoch() + 40))
    assert f"3 waiting for the limit on tokens until {ends}" in shown


def test_a_long_wait_is_a_line_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a bar, once for each long wait; short ones and those of unknown length say nothing."""
    standing = [waits_until(5.0)]
    with Progress(2, shown=None, clock=ManualClock(), waits=lambda: standing[0]) as progress:
        progress.look()
        standing[0] = Standing(Cause.SLOTS, math.inf, 1)
        progress.look()
        assert capsys.readouterr().err == ""
        standing[0] = waits_until(40.0)
        progress.look()
        standing[0] = waits_until(41.0)
        progress.look()
        assert capsys.readouterr().err.count("waiting for the limit on tokens until") == 1
        standing[0] = waits_until(100.0)
        progress.look()
        assert capsys.readouterr().err.count("waiting for the limit on tokens until") == 1


def test_silence_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """``progress=False`` prints nothing, however long a wait is."""
    with Progress(2, shown=False, clock=ManualClock(), waits=lambda: waits_until(40.0)) as progress:
        progress.finished(episode("e0"))
    assert capsys.readouterr().err == ""


def test_what_was_cancelled_is_not_done() -> None:
    """A stopped run does not show its waiting episodes and calls as finished."""
    with Progress(2, shown=False, clock=ManualClock()) as progress:
        progress.planned("e0", 3)
        progress.called(replace(call("e0", 0), status=Status.CANCELLED))
        progress.finished(replace(episode("e0"), summary=Summary("", Status.CANCELLED)))
    assert (progress.calls, progress.episodes) == (0, 0)


def test_a_database_of_limits_that_is_away_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a bar, too: a line when it goes, and one when it goes again."""
    standing: list[Standing | None] = [None]
    away = Standing(Cause.REQUESTS, math.inf, 0, "nothing is sent: the limits in DB cannot be reached")
    with Progress(2, shown=None, clock=ManualClock(), waits=lambda: standing[0]) as progress:
        for now in (None, away, away, None, away):
            standing[0] = now
            progress.look()
        assert progress.snapshot("running").waits_for == away.trouble
    assert capsys.readouterr().err == 2 * f"toolkit: {away.trouble}\n"
