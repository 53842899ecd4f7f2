"""The panel as a whole, without a browser: buttons are pressed and sliders set."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from ipywidgets.widgets.widget import _instances

from toolkit import Config, ConfigError, Episode, LatencyModel, RunHandle, TuningPanel, plan
from toolkit.runs import Run
from toolkit.testing import ApiServer
from toolkit.widgets import places
from toolkit.widgets.driving import State
from toolkit.widgets.places import Place

Make = Callable[..., TuningPanel]
Idle = Callable[[Any], None]
SECOND = LatencyModel(base_s=1.0, output_tokens=20)


def page(panel: TuningPanel, name: str) -> str:
    """Return what one of its pages says, as text."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", panel._face.pages[name].value)).split())


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def hosted(server: Any, **settings: Any) -> Config:
    return Config(
        provider="openai",
        openai_base_url=server.base_url,
        openai_requests_per_minute=6000,
        openai_tokens_per_minute=10_000_000,
        chunk_tokens=300,
        limits_url="memory://",
        **{"summary_chunk_parallelism": 1, "summary_batch_size": 2, **settings},
    )


@pytest.fixture
def server() -> Any:
    with ApiServer.spawn(latency=0.1, requests_per_minute=6000, tokens_per_minute=10_000_000) as server:
        yield server


def test_it_shows_what_a_setting_would_come_to(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """Bound, bottleneck, cost and conflicts; then the simulated time and timeline."""
    panel = make_panel(episodes, scripted, latency=SECOND)
    idle(panel._predictor)
    found = plan(episodes, scripted, SECOND)
    assert f"At least {found.bound_s:.1f} s bound by latency, on average" in page(panel, "plan")
    assert "No conflicts" in page(panel, "conflicts")
    assert "Simulated" in page(panel, "played")
    assert "<svg" in panel._face.pages["played"].value
    assert "as given: 1 s" in page(panel, "played")
    panel.controls.numbers["summary_batch_size"].field.value = "60"
    idle(panel._predictor)
    assert "there are only 6 episodes" in page(panel, "conflicts")


def test_a_guess_is_called_one(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """Nothing that was made up may look like a measurement."""
    panel = make_panel(episodes, scripted)
    idle(panel._predictor)
    assert "Simulated, by a guess" in page(panel, "played")
    panel.buttons["run"].click()
    idle(panel._driver)
    idle(panel._predictor)
    assert "by a guess" not in page(panel, "played")
    assert "measured:" in page(panel, "played")


def test_a_run_from_the_button_to_the_tabs(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """The run is there as an object, its episodes and figures are shown."""
    panel = make_panel(episodes, scripted)
    assert panel.run is None
    panel.buttons["run"].click()
    idle(panel._driver)
    assert isinstance(panel.run, Run)
    assert panel.run.counts() == {"ok": 6}
    assert "6 of 6" in page(panel, "running")
    assert page(panel, "episodes").count(" ok ") == 6
    assert panel._results.widget.titles[0] == "Figures"
    until(lambda: panel.run.id in panel._results._pages["Figures"].value)  # type: ignore[union-attr]
    panel._results.widget.selected_index = 1
    until(lambda: "Talk 3" in panel._results._pages["Summaries"].value)
    assert not panel.buttons["run"].disabled
    assert panel.buttons["stop"].disabled


def test_setting_something_touches_no_run_before_apply(
    make_panel: Make, episodes: list[Episode], server: Any, idle: Idle
) -> None:
    """Apply changes limits and widths of the run that goes on, and nothing else."""
    panel = make_panel(episodes, hosted(server))
    panel.buttons["run"].click()
    until(lambda: panel._driver.state is State.RUNNING)
    handle = panel.run
    assert isinstance(handle, RunHandle)
    assert panel.buttons["apply"].disabled
    panel.controls.numbers["summary_batch_size"].field.value = "4"
    panel.controls.numbers["openai_requests_per_minute"].field.value = "5,000"
    panel.controls.numbers["chunk_tokens"].field.value = "200"
    assert handle.config.summary_batch_size == 2
    assert not panel.buttons["apply"].disabled
    assert "not applied to the run: summary_batch_size=4, openai_requests_per_minute=5000" in page(
        panel, "pending"
    )
    assert "next run only: chunk_tokens" in page(panel, "pending")
    panel.buttons["apply"].click()
    assert handle.config.summary_batch_size == 4
    assert handle.config.openai_requests_per_minute == 5000
    assert handle.config.chunk_tokens == 300
    assert panel.buttons["apply"].disabled
    assert "Applied to run" in page(panel, "message")
    panel.buttons["stop"].click()
    idle(panel._driver)
    assert panel.config.chunk_tokens == 200


def test_stop_answers_at_once_and_run_goes_on_from_there(
    make_panel: Make, episodes: list[Episode], server: Any, idle: Idle
) -> None:
    """It says that it stops, keeps what is done, and the next run takes it from there."""
    panel = make_panel(episodes, hosted(server))
    panel.buttons["run"].click()
    until(lambda: isinstance(panel.run, RunHandle) and panel.run.progress.calls >= 3)
    panel.buttons["stop"].click()
    assert "Stopping" in page(panel, "message")
    idle(panel._driver)
    stopped = panel.run
    assert isinstance(stopped, Run)
    assert stopped.interrupted
    assert "Run goes on from there" in page(panel, "message")
    kept = int((stopped.calls["status"] == "ok").sum())
    panel.buttons["run"].click()
    idle(panel._driver)
    assert isinstance(panel.run, Run)
    assert panel.run.reused.calls == kept >= 3
    assert panel.run.counts() == {"ok": 6}


def test_a_run_of_kept_answers_says_that_nothing_was_measured(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """Or a makespan of nothing would be taken for the setting's."""
    panel = make_panel(episodes, scripted)
    for _ in range(2):
        panel.buttons["run"].click()
        idle(panel._driver)
    assert "nothing was measured" in page(panel, "message")
    panel.controls.reuse.value = "none"
    panel.buttons["run"].click()
    idle(panel._driver)
    assert isinstance(panel.run, Run)
    assert panel.run.reused.calls == 0


def test_settings_are_collected_for_a_sweep(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """Each once; the second button measures them, in the background."""
    panel = make_panel(episodes, scripted)
    assert panel.sweep is None
    assert panel.buttons["sweep"].disabled
    for width in (1, 3, 3):
        panel.controls.numbers["summary_batch_size"].field.value = f"{width}"
        panel.buttons["add"].click()
    assert panel.cells == [
        {"summary_batch_size": 1, "summary_chunk_parallelism": 2},
        {"summary_batch_size": 3, "summary_chunk_parallelism": 2},
    ]
    assert "collected already" in page(panel, "message")
    assert panel.buttons["sweep"].description == "Run sweep (2)"
    panel.buttons["sweep"].click()
    idle(panel._driver)
    assert panel.sweep is not None
    assert sorted(panel.sweep.cells["summary_batch_size"]) == [1, 3]
    assert set(panel.sweep.cells["status"]) == {"ok"}
    assert panel._results.widget.titles[-1] == "Sweep"
    panel.buttons["clear"].click()
    assert panel.cells == []


def test_cells_of_two_providers_go_into_one_sweep(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """What is different in any of them is in all."""
    panel = make_panel(episodes, scripted)
    panel.buttons["add"].click()
    panel.controls.provider.value = "lead"
    panel.buttons["add"].click()
    assert [cell["provider"] for cell in panel.cells] == ["scripted", "lead"]
    panel.buttons["sweep"].click()
    idle(panel._driver)
    assert panel.sweep is not None
    assert list(panel.sweep.cells["provider"]) == ["scripted", "lead"]
    assert set(panel.sweep.cells["status"]) == {"ok"}


def test_what_costs_money_waits_for_a_word(
    make_panel: Make, episodes: list[Episode], idle: Idle, server: Any
) -> None:
    """Said with what it may cost; a budget or the button lets it go on."""
    prices = {"gpt-5.6-luna": {"input": 1.0, "output": 2.0}}
    panel = make_panel(episodes, hosted(server, prices=prices))
    panel.buttons["run"].click()
    idle(panel._driver)
    assert panel.run is None
    assert "would really call openai/gpt-5.6-luna: up to" in page(panel, "message")
    assert panel.buttons["consent"].layout.display is None
    assert panel.buttons["consent"].description.startswith("Spend up to $")
    panel.buttons["consent"].click()
    idle(panel._driver)
    assert isinstance(panel.run, Run)
    assert panel.run.counts() == {"ok": 6}
    assert panel.buttons["consent"].layout.display == "none"
    panel.controls.numbers["budget_usd"].field.value = "5"
    panel.controls.reuse.value = "none"
    panel.buttons["run"].click()
    idle(panel._driver)
    assert isinstance(panel.run, Run)
    assert panel.run.config.budget_usd == 5
    assert panel.run.totals()["calls"] > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"provider": "openai"}, "needs a key; set openai_api_key"),
        ({"provider": "transformers", "model": "./no-such-folder"}, "is not available"),
        ({"provider": "nobody"}, "provider 'nobody' is unknown"),
    ],
)
def test_what_is_missing_is_said_in_the_panel(
    make_panel: Make,
    episodes: list[Episode],
    idle: Idle,
    capfd: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    said: str,
) -> None:
    """One clear text, and no traceback anywhere."""
    panel = make_panel(episodes, Config(**settings))
    panel.buttons["run"].click()
    idle(panel._driver)
    assert said in page(panel, "message")
    assert 'role="alert"' in panel._face.pages["message"].value
    assert capfd.readouterr() == ("", "")


def test_a_server_that_cannot_be_reached_is_said(
    make_panel: Make, episodes: list[Episode], idle: Idle
) -> None:
    """With the address, as the run's episodes say it."""
    config = Config(provider="openai", openai_base_url="http://127.0.0.1:9/v1", max_attempts=1)
    panel = make_panel(episodes[:2], config)
    panel.buttons["run"].click()
    idle(panel._driver)
    assert "2 failed" in page(panel, "message")
    assert "127.0.0.1:9" in page(panel, "message")


def test_while_a_setting_is_wrong_nothing_can_run(
    make_panel: Make, episodes: list[Episode], scripted: Config
) -> None:
    """Its sentence stands beside the field, and ``config`` raises it."""
    panel = make_panel(episodes, scripted)
    panel.controls.numbers["summary_batch_size"].field.value = "0"
    assert panel.buttons["run"].disabled
    with pytest.raises(ConfigError, match="summary_batch_size"):
        _ = panel.config
    panel.controls.numbers["summary_batch_size"].field.value = "2"
    assert not panel.buttons["run"].disabled
    assert panel.config.summary_batch_size == 2


def test_suggestions_can_be_taken(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """The controls then say what the plan suggests."""
    panel = make_panel(episodes, scripted, latency=SECOND)
    idle(panel._predictor)
    wanted = plan(episodes, scripted, SECOND).suggested
    assert wanted
    panel.buttons["suggested"].click()
    idle(panel._predictor)
    assert {name: getattr(panel.config, name) for name in wanted} == wanted
    assert panel._prediction is not None
    assert panel._prediction.config == panel.config


def test_code_is_returned_and_shown(make_panel: Make, episodes: list[Episode], scripted: Config) -> None:
    """The lines follow the controls while they are to be seen."""
    panel = make_panel(episodes, scripted)
    assert "summary_batch_size=2" in panel.code()
    assert "tk.run(episodes, config)" in page(panel, "code")
    panel.buttons["code"].value = True
    panel.controls.numbers["summary_batch_size"].field.value = "7"
    assert "summary_batch_size=7" in page(panel, "code")
    panel.buttons["code"].value = False
    assert page(panel, "code") == ""


def test_without_widgets_there_is_the_plan(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """A terminal, and a notebook that is executed without a browser, show its text."""
    panel = make_panel(episodes, scripted, latency=SECOND)
    found = str(plan(episodes, scripted, SECOND))
    assert repr(panel).startswith("TuningPanel of 6 episodes")
    assert found in repr(panel)
    bundle = panel._repr_mimebundle_()
    assert found in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
    panel.buttons["run"].click()
    idle(panel._driver)
    assert repr(panel.run) in repr(panel)


def test_it_has_no_thread_but_for_what_it_does(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """A view that is gone, which nobody tells a kernel of, must not keep anything going."""
    panel = make_panel(episodes, scripted)
    panel.buttons["run"].click()
    idle(panel._driver)
    idle(panel._predictor)
    until(lambda: panel._results._pages["Figures"].value != "")
    own = ("prediction", "panel", f"run {panel.run.id}")  # type: ignore[union-attr]
    until(lambda: not [t.name for t in threading.enumerate() if any(name in t.name for name in own)])


def test_two_panels_do_not_know_of_each_other(
    make_panel: Make, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """Each has its settings and its run."""
    one, other = make_panel(episodes, scripted), make_panel(episodes, scripted)
    one.controls.numbers["summary_batch_size"].field.value = "5"
    one.buttons["run"].click()
    idle(one._driver)
    assert other.config.summary_batch_size == 2
    assert other.run is None


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Say which cell is being run, and when."""
    monkeypatch.setattr(places, "_standing", {})
    return lambda name, when: monkeypatch.setattr(places, "_here", lambda: Place(name, when))


def test_a_cell_that_is_run_twice_has_one_panel(
    make_panel: Make, episodes: list[Episode], scripted: Config, cell: Callable[[str, str], None]
) -> None:
    """The first one is closed, with all of its widgets: a kernel keeps what is not closed."""
    cell("a", "1")
    first = make_panel(episodes, scripted)
    first._repr_mimebundle_()
    models = len(_instances)
    cell("a", "2")
    second = make_panel(episodes, scripted)
    second._repr_mimebundle_()
    assert first.widget.comm is None
    assert second.widget.comm is not None
    assert len(_instances) <= models + 4


def test_a_run_of_a_cell_that_is_run_again_can_still_be_stopped(
    make_panel: Make,
    episodes: list[Episode],
    server: Any,
    cell: Callable[[str, str], None],
    idle: Idle,
) -> None:
    """The new panel takes it over: a run that spends, and that nobody can stop any more, would do harm."""
    cell("a", "1")
    first = make_panel(episodes, hosted(server))
    first._repr_mimebundle_()
    first.buttons["run"].click()
    until(lambda: isinstance(first.run, RunHandle))
    handle = first.run
    cell("a", "2")
    second = make_panel(episodes, hosted(server))
    second._repr_mimebundle_()
    assert second.run is handle
    assert "goes on" in page(second, "message")
    second.buttons["stop"].click()
    idle(second._driver)
    assert isinstance(second.run, Run)
    assert second.run.interrupted


def test_a_closed_panel_is_told_nothing(
    make_panel: Make, episodes: list[Episode], server: Any, idle: Idle
) -> None:
    """Its run goes on to the end, and no closed widget is written to."""
    panel = make_panel(episodes[:2], hosted(server, summary_chunk_parallelism=4))
    panel.buttons["run"].click()
    until(lambda: isinstance(panel.run, RunHandle))
    panel.close()
    idle(panel._driver)
    assert isinstance(panel.run, Run)
    assert panel.run.counts() == {"ok": 2}


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ([], {}, "no episodes"),
        ("data", {}, "list of Episode"),
        ([Episode.from_text("a", "x"), Episode.from_text("a", "y")], {}, "two episodes have the id"),
        ([Episode.from_text("a", "x")], {"latency": 3}, "latency= is of type int; give a LatencyModel"),
    ],
)
def test_bad_input_is_one_sentence(given: Any, options: dict[str, Any], said: str) -> None:
    """Before any widget is made."""
    before = len(_instances)
    with pytest.raises(ConfigError, match=said):
        TuningPanel(given, **options)
    assert len(_instances) == before
