"""What the tests of the widgets share: small episodes, and a wait for what goes on in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from toolkit import Config, Episode
from toolkit.widgets import TuningPanel
from toolkit.widgets.driving import Driver
from toolkit.widgets.predicting import Predictor

WAIT_S = 30.0
"""At most, for what takes a tenth of a second."""


def _talk(number: int, sentences: int = 120) -> Episode:
    lines = [f"In part {line} of talk {number} somebody says a few words." for line in range(sentences)]
    return Episode.from_text(f"talk-{number}", "\n".join(lines), title=f"Talk {number}")


@pytest.fixture
def talk() -> Callable[..., Episode]:
    """Make an episode of lines of eleven words, by its number and the number of lines."""
    return _talk


@pytest.fixture
def episodes() -> list[Episode]:
    return [_talk(number) for number in range(6)]


@pytest.fixture
def scripted() -> Config:
    return Config(provider="scripted", summary_batch_size=2, summary_chunk_parallelism=2)


@pytest.fixture
def idle() -> Callable[[Driver | Predictor], None]:
    """Wait until a driver or a predictor does nothing any more."""
    return _idle


def _idle(one: Driver | Predictor) -> None:
    assert one.idle.wait(WAIT_S)


@pytest.fixture
def make_panel() -> Iterator[Callable[..., TuningPanel]]:
    """Make panels, and take them away at the end."""
    made: list[TuningPanel] = []

    def make(*given: object, **options: object) -> TuningPanel:
        made.append(TuningPanel(*given, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for panel in made:
        panel.buttons["stop"].click()
        _idle(panel._driver)
        panel.close()
        _idle(panel._predictor)
