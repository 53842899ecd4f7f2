"""Which settings have a control, and the way from what is typed to a config and back."""

from __future__ import annotations

from itertools import pairwise

import pytest

from toolkit import Config, ConfigError
from toolkit.widgets.knobs import (
    KNOBS,
    Knob,
    differences,
    knobs_of,
    models_of,
    settings_of,
    steps,
    with_settings,
)

BY_NAME = {knob.setting: knob for knob in KNOBS}


def test_every_knob_is_a_setting_with_its_own_help() -> None:
    """A name that Config does not have would fail only when somebody drags it."""
    assert all(knob.help.endswith(f"({knob.setting})") for knob in KNOBS)
    assert {knob.setting for knob in KNOBS} <= set(Config.model_fields)


@pytest.mark.parametrize("knob", [knob for knob in KNOBS if knob.values], ids=lambda knob: knob.setting)
def test_a_slider_never_leaves_the_range(knob: Knob) -> None:
    """Every value that can be dragged is one that the config takes."""
    assert list(knob.values) == sorted(set(knob.values))
    for value in (knob.values[0], knob.values[-1]):
        config = Config().replace(**{"summary_chunk_parallelism": 1, knob.setting: value})
        assert getattr(config, knob.setting) == value


def test_steps_are_all_small_numbers_and_then_even() -> None:
    """One step is never more than half of the value: nothing between is out of reach by much."""
    found = steps(1, 30_000)
    assert found[:8] == (1, 2, 3, 4, 5, 6, 7, 8)
    assert found[-1] == 30_000
    assert all(after <= 1.5 * before for before, after in pairwise(found[1:]))


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("summary_batch_size", "7", 7),
        ("openai_tokens_per_minute", "100,000", 100_000),
        ("openai_tokens_per_minute", "2_000_000", 2_000_000),
        ("chunk_tokens", "", None),
        ("budget_usd", "$2.50", 2.5),
        ("budget_usd", "", None),
    ],
)
def test_what_is_typed_is_read(setting: str, text: str, value: object) -> None:
    """Numbers are written as people write them, and read again as they are shown."""
    knob = BY_NAME[setting]
    assert knob.read(text) == value
    assert knob.read(knob.write(knob.read(text))) == value


@pytest.mark.parametrize(
    ("setting", "text"), [("summary_batch_size", ""), ("summary_batch_size", "many"), ("chunk_tokens", "1.5")]
)
def test_what_is_no_number_is_said(setting: str, text: str) -> None:
    """The sentence names the setting, so that it stands beside its field."""
    with pytest.raises(ConfigError, match="whole number") as caught:
        BY_NAME[setting].read(text)
    assert caught.value.settings == (setting,)


def test_the_slider_shows_the_nearest_value() -> None:
    """A value that no step has is not changed by being shown."""
    knob = BY_NAME["openai_requests_per_minute"]
    assert knob.values[knob.place(52)] == 50
    assert knob.values[knob.place(10**9)] == knob.values[-1]
    assert knob.values[knob.place(0)] == 1


@pytest.mark.parametrize(
    ("provider", "has", "lacks"),
    [
        ("scripted", "chunk_tokens", "openai_requests_per_minute"),
        ("scripted", "summary_batch_size", "budget_usd"),
        ("openai", "openai_tokens_per_minute", "anthropic_input_tokens_per_minute"),
        ("openai", "budget_usd", "anthropic_requests_per_minute"),
        ("anthropic", "anthropic_output_tokens_per_minute", "openai_tokens_per_minute"),
        ("no such", "summary_batch_size", "openai_requests_per_minute"),
    ],
)
def test_only_what_means_something_is_shown(provider: str, has: str, lacks: str) -> None:
    """Limits of another vendor's, or a budget for what is free, would promise an effect that they lack."""
    shown = {knob.setting for knob in knobs_of(provider)}
    assert has in shown
    assert lacks not in shown


def test_models_are_those_of_the_provider() -> None:
    """A vendor's list has no model of the other's, and own prices name own models."""
    config = Config(provider="openai", prices={"mine": {"input": 1, "output": 2}})
    assert "mine" in models_of("openai", config)
    assert not any(name.startswith("claude") for name in models_of("openai", config))
    assert all(name.startswith("claude") for name in models_of("anthropic", Config()))
    assert "smollm2-135m" in models_of("transformers", Config())
    assert models_of("no such", Config()) == ()


@pytest.mark.parametrize("provider", ["scripted", "openai", "anthropic", "transformers", "lead"])
def test_a_config_comes_back_as_it_was(provider: str) -> None:
    """Controls that nobody touches change nothing."""
    config = Config(
        provider=provider,
        model="any",
        summary_batch_size=3,
        summary_chunk_parallelism=5,
        chunk_tokens=700,
        openai_api_key="secret",
        temperature=0.5,
    )
    again = with_settings(config, settings_of(config))
    assert again.shown() == config.shown()
    assert again.openai_api_key == config.openai_api_key


def test_a_wrong_combination_names_its_settings() -> None:
    """Its sentence has to stand beside a field."""
    with pytest.raises(ConfigError, match="more than half") as caught:
        with_settings(Config(), {"chunk_tokens": 100, "chunk_overlap_tokens": 80})
    assert caught.value.settings == ("chunk_overlap_tokens", "chunk_tokens")


def test_differences_are_those_of_the_controls() -> None:
    """What has no control cannot differ."""
    config = Config(provider="scripted", summary_batch_size=2, summary_chunk_parallelism=1)
    other = config.replace(summary_batch_size=4, temperature=0.7)
    assert differences(config, other) == {"summary_batch_size": 4}
