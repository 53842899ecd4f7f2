"""Which latency model a prediction goes by."""

from __future__ import annotations

from toolkit import Config, Episode, LatencyModel, run
from toolkit.runs import Run
from toolkit.widgets.latencies import GUESSES, Latencies, kept_runs

GIVEN = LatencyModel(base_s=2.0)


def nothing(config: Config) -> list[Run]:
    return []


def test_without_anything_it_is_a_guess_that_says_so() -> None:
    """A made-up time must not look like a measured one."""
    hosted = Latencies(None, nothing).of(Config(provider="openai", openai_api_key="none"))
    assert hosted.model is GUESSES["hosted"]
    assert hosted.is_guess
    assert "a guess" in hosted.source
    assert Latencies(None, nothing).of(Config(provider="scripted")).model is GUESSES["rule"]
    assert Latencies(None, nothing).of(Config(provider="transformers")).model is GUESSES["local"]
    assert Latencies(None, nothing).of(Config(provider="nobody")).is_guess


def test_what_is_given_is_taken_until_it_was_measured(episodes: list[Episode], scripted: Config) -> None:
    """``latency=`` is how it begins; from the first run on, that counts."""
    latencies = Latencies(GIVEN, nothing)
    assert latencies.of(scripted).model is GIVEN
    latencies.learn(run(episodes, scripted))
    assert latencies.of(scripted).model.fitted is not None


def test_kept_calls_are_fitted_to(episodes: list[Episode], scripted: Config) -> None:
    """What was measured yesterday is better than a guess."""
    made = run(episodes, scripted)
    found = Latencies().of(scripted)
    assert found.model.fitted is not None
    assert found.model.fitted.calls == len(made.calls)
    assert not found.is_guess


def test_too_few_calls_are_not_fitted_to(episodes: list[Episode], scripted: Config) -> None:
    """Seven calls say next to nothing."""
    run(episodes[:1], scripted.replace(chunk_tokens=600))
    assert Latencies().of(scripted).is_guess


def test_calls_of_another_server_or_model_are_not_taken(episodes: list[Episode], scripted: Config) -> None:
    """They have the same provider, and other times."""
    run(episodes, scripted)
    assert kept_runs(scripted) != []
    assert kept_runs(scripted.replace(model="another")) == []
    assert kept_runs(scripted.replace(device="cuda")) == []


def test_the_default_model_is_the_same_named_or_not(episodes: list[Episode], scripted: Config) -> None:
    """Somebody who writes it out has not measured another."""
    run(episodes, scripted.replace(model="first-sentence"))
    assert [kept.model for kept in kept_runs(scripted)] == ["first-sentence"]


def test_a_run_that_took_all_from_the_store_says_nothing(episodes: list[Episode], scripted: Config) -> None:
    """It has no times; what was known stays."""
    run(episodes, scripted)
    again = run(episodes, scripted)
    assert again.reused.calls == len(again.calls)
    latencies = Latencies(GIVEN, nothing)
    latencies.learn(again)
    assert latencies.of(scripted).model is GIVEN
