"""The ladder: how many settings are run over how many episodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toolkit.tuning.predicting import estimate
from toolkit.tuning.rungs import FINALISTS, affordable, first_settings, make_rungs, pilot_rung

COUNTS = st.integers(1, 500)


@given(settings=COUNTS, episodes=st.integers(1, 100), repeats=st.integers(1, 5))
def test_fewer_settings_over_more_episodes(settings: int, episodes: int, repeats: int) -> None:
    """Up to all episodes, with a choice left on the last rung, and repeats there alone."""
    rungs = make_rungs(settings, episodes, repeats)
    sizes = [rung.episodes for rung in rungs]
    counts = [rung.settings for rung in rungs]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == episodes
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == settings
    assert counts[-1] >= min(2, settings)
    assert [rung.repeats for rung in rungs] == [1] * (len(rungs) - 1) + [repeats]
    if len(rungs) > 2:
        assert counts[-1] <= max(FINALISTS, settings // 4)


@given(settings=COUNTS, episodes=st.integers(1, 100), most=st.floats(1, 1e5))
def test_what_a_budget_does_for(settings: int, episodes: int, most: float) -> None:
    """All rungs together stay below it, and one setting more would not; repeats go first."""
    begin, repeats = affordable(settings, episodes, 2, most)

    def work(count: int) -> int:
        return sum(rung.work for rung in make_rungs(count, episodes, repeats))

    assert begin == 1 or work(begin) <= most
    assert begin == settings or work(begin + 1) > most
    assert repeats == 2 or sum(rung.work for rung in make_rungs(min(settings, FINALISTS), episodes, 2)) > most


@given(total=COUNTS, really=COUNTS, pilots=st.integers(0, 20))
def test_what_may_be_run_is_not_all_given_out_at_once(total: int, really: int, pilots: int) -> None:
    """Pilots count, and a part is left for what looks good later; if all may be run, all begin."""
    begin = first_settings(total, really, pilots)
    if really >= total:
        assert begin == total
    else:
        assert begin == 1 or begin + pilots <= really


def test_what_was_measured_over_some_is_carried_over_to_all() -> None:
    """By the simulation's own ratio between few and all episodes, not in proportion to their number."""
    found = estimate({1: 100.0, 2: 50.0}, {1: 30.0}, {1: 25.0})
    assert found == {1: 120.0, 2: 60.0}


def test_what_was_not_measured_is_corrected_by_the_usual_error() -> None:
    """The median of what the others were off; without any, the prediction stands."""
    predicted = {1: 10.0, 2: 10.0, 3: 10.0, 4: 10.0}
    found = estimate(predicted, {1: 9.0, 2: 8.0, 3: 30.0}, {1: 10.0, 2: 10.0, 3: 10.0})
    assert found == {1: 9.0, 2: 8.0, 3: 30.0, 4: 9.0}
    assert estimate(predicted, {}, {}) == predicted


def test_a_prediction_of_nothing_is_no_ratio() -> None:
    """A cost of zero cannot be carried over by division."""
    assert estimate({1: 0.0}, {1: 0.0}, {1: 0.0}) == {1: 0.0}


@given(episodes=st.integers(1, 100), at_a_time=st.integers(1, 200), place=st.integers(0, 2))
def test_pilots_have_as_many_episodes_as_they_work_on(episodes: int, at_a_time: int, place: int) -> None:
    """From a rung on, the first one that is wide enough; all episodes, if none is."""
    rungs = make_rungs(4, episodes, 2)
    begin = rungs[min(place, len(rungs) - 1)]
    own = pilot_rung(rungs, begin, at_a_time)
    assert own.repeats == 1
    assert own.episodes >= max(begin.episodes, min(at_a_time, episodes))
    assert all(
        rung.episodes < max(begin.episodes, at_a_time) for rung in rungs if rung.episodes < own.episodes
    )
