"""Sliders and fields: what they show, what they say, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from toolkit import Config
from toolkit.widgets.controls import Controls


@pytest.fixture
def turned() -> list[int]:
    return []


@pytest.fixture
def controls(turned: list[int]) -> Controls:
    config = Config(provider="scripted", summary_batch_size=3, summary_chunk_parallelism=2)
    return Controls(config, lambda: turned.append(1))


def shown(controls: Controls) -> list[str]:
    """Return the labels of what is shown, in its order, which is the order of the tab key."""
    found = []

    def look(widget: Any) -> None:
        if widget.layout.display == "none":
            return
        if getattr(widget, "description", ""):
            found.append(widget.description)
        for child in getattr(widget, "children", ()):
            look(child)

    look(controls.box)
    return list(dict.fromkeys(found))


def test_they_show_the_config(controls: Controls, turned: list[int]) -> None:
    """And nobody is told that they do."""
    assert controls.numbers["summary_batch_size"].field.value == "3"
    assert controls.numbers["summary_batch_size"].slider.value == 2
    assert controls.numbers["chunk_tokens"].field.value == ""
    assert controls.numbers["chunk_tokens"].field.placeholder == "512"
    assert controls.config.summary_batch_size == 3
    assert turned == []


def test_every_control_has_a_name(controls: Controls) -> None:
    """And says what it is, by the name that ``Config`` has for it."""
    for control in controls.numbers.values():
        assert control.slider.description == control.field.description == control.knob.label
        assert control.knob.setting in control.field.tooltip
    assert all(
        chosen.description and chosen.tooltip
        for chosen in (controls.provider, controls.model, controls.reuse)
    )


def test_dragging_sets_the_field_and_typing_the_slider(controls: Controls, turned: list[int]) -> None:
    """Each change is told once."""
    control = controls.numbers["summary_batch_size"]
    control.slider.value = 9
    assert control.field.value == "12"
    assert controls.config.summary_batch_size == 12
    control.field.value = "5"
    assert control.slider.value == 4
    assert controls.config.summary_batch_size == 5
    assert len(turned) == 2


def test_a_value_between_the_steps_is_kept(controls: Controls) -> None:
    """The slider shows the nearest step and changes nothing."""
    controls.numbers["summary_batch_size"].field.value = "17"
    assert controls.config.summary_batch_size == 17
    assert controls.numbers["summary_batch_size"].slider.value == 10


def test_an_empty_field_leaves_it_to_the_provider(controls: Controls) -> None:
    """The slider stands at what the provider takes."""
    control = controls.numbers["chunk_tokens"]
    control.field.value = "300"
    assert controls.config.chunk_tokens == 300
    control.field.value = ""
    assert controls.config.chunk_tokens is None


@pytest.mark.parametrize("typed", ["0", "-3", "2000", "many", ""])
def test_a_wrong_value_is_said_beside_its_field(controls: Controls, turned: list[int], typed: str) -> None:
    """In one sentence; the last good config stays in force."""
    controls.numbers["summary_batch_size"].field.value = typed
    assert "summary_batch_size" in controls.problem
    note = controls.numbers["summary_batch_size"].note
    assert note.layout.display is None
    assert 'role="alert"' in note.value
    assert controls.config.summary_batch_size == 3
    assert turned == [1]
    controls.numbers["summary_batch_size"].field.value = "4"
    assert controls.problem == ""
    assert note.layout.display == "none"


def test_a_wrong_combination_is_said_beside_one_of_its_fields(controls: Controls) -> None:
    """And goes away whichever of the two is changed."""
    controls.numbers["chunk_tokens"].field.value = "200"
    controls.numbers["chunk_overlap_tokens"].field.value = "150"
    assert "more than half" in controls.numbers["chunk_overlap_tokens"].note.value
    controls.numbers["chunk_tokens"].field.value = "600"
    assert controls.problem == ""
    assert controls.numbers["chunk_overlap_tokens"].note.value == ""


def test_only_what_the_provider_has_is_shown(controls: Controls) -> None:
    """Another provider brings its own limits, and takes the other's away."""
    assert "Requests / min" not in shown(controls)
    controls.provider.value = "openai"
    assert shown(controls) == [
        *("Provider", "Model", "Episodes at once", "Chunks at once", "Chunk tokens", "Overlap tokens"),
        *("Reply tokens", "In flight", "Requests / min", "Tokens / min", "Budget (US$)", "Kept answers"),
    ]
    controls.provider.value = "anthropic"
    assert "Input tokens / min" in shown(controls)
    assert "Tokens / min" not in shown(controls)
    assert controls.config.provider == "anthropic"


def test_another_provider_has_another_model(turned: list[int]) -> None:
    """The model of the first would be refused by the second; back again it is there again."""
    controls = Controls(Config(provider="openai", model="gpt-5.6-terra"), lambda: turned.append(1))
    assert "gpt-5.6-luna" in controls.model.options
    controls.provider.value = "anthropic"
    assert controls.config.model is None
    assert controls.model.placeholder.startswith("claude")
    assert not any(name.startswith("gpt") for name in controls.model.options)
    controls.provider.value = "openai"
    assert controls.config.model == "gpt-5.6-terra"
    assert len(turned) == 2


def test_what_has_no_control_stays(turned: list[int]) -> None:
    """Keys, addresses and prompts go along."""
    config = Config(
        provider="openai",
        openai_base_url="http://127.0.0.1:1/v1",
        openai_api_key="secret",
        temperature=0.3,
        summary_chunk_parallelism=1,
    )
    controls = Controls(config, lambda: turned.append(1))
    controls.numbers["openai_requests_per_minute"].field.value = "70"
    made = controls.config
    assert (made.openai_base_url, made.openai_api_key, made.temperature) == (
        config.openai_base_url,
        config.openai_api_key,
        0.3,
    )
    assert made.openai_requests_per_minute == 70


def test_a_provider_that_is_not_there_is_shown_as_it_is(turned: list[int]) -> None:
    """What is wrong with it is for the plan to say."""
    controls = Controls(Config(provider="nobody"), lambda: turned.append(1))
    assert controls.provider.value == "nobody"
    assert controls.config.provider == "nobody"
    controls.provider.value = "scripted"
    assert controls.config.provider == "scripted"
