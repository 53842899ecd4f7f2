"""The panel in JupyterLab: dragged, run, retuned, stopped, gone on with, and read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from panel_in_browser import Panel

pytestmark = pytest.mark.slow

EPISODES = Path(__file__).parents[2] / "data/episodes"
TALL = {"width": 900, "height": 2400}
"""For pictures of the whole panel; the width is that of the window."""

HOSTED = f"""
import toolkit as tk
server = tk.testing.ApiServer.spawn(
    law="openai", requests_per_minute=6000, tokens_per_minute=10_000_000, latency=0.8
).__enter__()
episodes = tk.load_episodes({str(EPISODES)!r})
config = tk.Config(
    provider="openai", openai_base_url=server.base_url, openai_max_concurrent_requests=4, chunk_tokens=300,
    openai_requests_per_minute=6000, openai_tokens_per_minute=10_000_000,
    summary_batch_size=2, summary_chunk_parallelism=2, limits_url="memory://",
)
"""
PANEL = "panel = tk.TuningPanel(episodes, config)\npanel"


@pytest.fixture
def expect() -> Any:
    from playwright.sync_api import expect

    return expect


def test_from_dragging_to_the_summaries(open_notebook: Callable[..., Any], expect: Any) -> None:
    """One way through: drag, predict, run, keep on working, retune, stop, go on, read."""
    notebook = open_notebook(HOSTED, PANEL, "1 + 1", "panel.run.reused.calls, panel.run.counts()")
    notebook.run(0)
    panel = Panel(notebook.run(1))
    expect(panel.whole.get_by_text("Simulated, by a guess")).to_be_visible()
    notebook.page.set_viewport_size(TALL)
    notebook.pictures("panel", panel.whole)

    before = panel.bound.inner_text()
    panel.drag("Episodes at once", 60)
    expect(panel.bound).not_to_have_text(before)
    width = panel.field("Episodes at once").input_value()
    assert int(width) > 2
    conflicts = panel.whole.locator(".tk-conflicts")
    expect(conflicts).to_contain_text(f"{min(7, int(width))} episodes x 2 chunks")

    panel.field("Episodes at once").fill("2")
    panel.field("Episodes at once").press("Enter")
    panel.button("Run").click()
    expect(panel.whole.get_by_text("Cost so far")).to_be_visible()
    expect(panel.whole.locator(".tk-episodes")).to_contain_text("under way")
    # The notebook goes on being used.
    assert notebook.run(2).inner_text().split()[-1] == "2"

    panel.field("In flight").fill("8")
    panel.field("In flight").press("Enter")
    expect(panel.whole.get_by_text("Set, and not applied to the run")).to_be_visible()
    panel.button("Apply to running").click()
    expect(panel.whole.get_by_text("Applied to run")).to_be_visible()
    notebook.pictures("panel-running", panel.whole)

    began = time.monotonic()
    panel.button("Stop").click()
    expect(panel.whole.get_by_text(re.compile("Stopping|Run goes on from there"))).to_be_visible()
    print(f"Stop answered within {time.monotonic() - began:.2f} s")
    expect(panel.whole.get_by_text("Run goes on from there")).to_be_visible()
    panel.button("Run").click()
    expect(panel.whole.locator(".tk-results [role=tab]").first).to_be_visible()
    expect(panel.whole.get_by_text("7 ok").first).to_be_visible()
    reused = notebook.run(3).inner_text()
    assert "'ok': 7" in reused
    assert not reused.startswith("(0,")

    summaries = panel.tab("Summaries")
    expect(summaries.get_by_text("Honey bees").first).to_be_visible()
    summaries.locator("summary").first.click()
    assert len(summaries.locator(".writing").first.inner_text()) > 20
    table = panel.tab("Calls")
    expect(table.get_by_role("columnheader", name=re.compile("^episode_id"))).to_be_visible()
    assert table.get_by_role("row").count() > 20
    notebook.pictures("panel-calls", panel.whole)
    plots = panel.tab("Plots")
    expect(plots.locator("img").first).to_be_visible()
    notebook.pictures("panel-plots", panel.whole)


def test_wrong_settings_are_said_beside_their_field(open_notebook: Callable[..., Any], expect: Any) -> None:
    """In the window as it is at 900 pixels, and gone when they are mended."""
    notebook = open_notebook(HOSTED, PANEL)
    notebook.run(0)
    panel = Panel(notebook.run(1))
    panel.field("Overlap tokens").fill("299")
    panel.field("Overlap tokens").press("Enter")
    said = panel.whole.locator(".tk-controls [role=alert]")
    expect(said).to_contain_text("more than half of chunk_tokens=300")
    expect(panel.button("Run")).to_be_disabled()
    notebook.pictures("panel-wrong", panel.whole)
    row, sentence = panel.field("Overlap tokens").bounding_box(), said.bounding_box()
    assert 0 <= sentence["y"] - row["y"] - row["height"] < 20
    panel.field("Overlap tokens").fill("30")
    panel.field("Overlap tokens").press("Enter")
    expect(said).to_have_count(0)
    expect(panel.button("Run")).to_be_enabled()


def test_everything_is_reached_by_the_keyboard(open_notebook: Callable[..., Any], expect: Any) -> None:
    """In the order in which it stands, each with a name; arrows move a slider, the space bar presses."""
    notebook = open_notebook(HOSTED, PANEL)
    notebook.run(0)
    panel = Panel(notebook.run(1))
    expect(panel.whole.get_by_text("Simulated, by a guess")).to_be_visible()
    panel.whole.get_by_label("Provider").focus()
    reached = []
    for _ in range(26):
        reached.append(
            notebook.page.evaluate(
                "() => { const at = document.activeElement; const row = at.closest('.tk-row');"
                " return at.labels?.[0]?.textContent || at.title || row?.textContent || at.textContent }"
            )
        )
        notebook.page.keyboard.press("Tab")
    text = "\n".join(reached)
    places = [
        text.index(name)
        for name in (
            "Provider",
            "Model",
            "Episodes at once",
            "Chunks at once",
            "Budget",
            "Kept answers",
            "Run",
        )
    ]
    assert places == sorted(places)
    assert all(name.strip() for name in reached)
    handle = panel.handle("Episodes at once")
    handle.focus()
    notebook.page.keyboard.press("ArrowRight")
    expect(panel.field("Episodes at once")).to_have_value("3")
    panel.button("Add to sweep").focus()
    notebook.page.keyboard.press("Space")
    expect(panel.button("Run sweep (1)")).to_be_visible()


def test_a_sweep_over_two_settings(open_notebook: Callable[..., Any], expect: Any) -> None:
    """Collected, measured in the background, and there as an object."""
    notebook = open_notebook(
        HOSTED, PANEL, "panel.sweep.cells[['summary_batch_size', 'status']].values.tolist()"
    )
    notebook.run(0)
    panel = Panel(notebook.run(1))
    panel.button("Add to sweep").click()
    panel.field("Episodes at once").fill("5")
    panel.field("Episodes at once").press("Enter")
    panel.button("Add to sweep").click()
    panel.button("Run sweep (2)").click()
    expect(panel.whole.locator(".tk-results [role=tab]").last).to_have_text("Sweep")
    notebook.page.set_viewport_size(TALL)
    notebook.pictures("panel-sweep", panel.whole)
    assert sorted(eval(notebook.run(2).inner_text().partition(":")[2])) == [[2, "ok"], [5, "ok"]]


def test_code_does_the_same(open_notebook: Callable[..., Any], expect: Any) -> None:
    """The lines that are shown can be copied into a cell and run."""
    notebook = open_notebook(HOSTED, PANEL, "exec(panel.code())\nrun.counts()")
    notebook.run(0)
    panel = Panel(notebook.run(1))
    panel.button("Code").click()
    expect(panel.whole.locator("pre")).to_contain_text("run = tk.run(episodes, config)")
    notebook.page.set_viewport_size(TALL)
    notebook.pictures("panel-code", panel.whole)
    assert "{'ok': 7}" in notebook.run(2).inner_text()


def test_running_the_cell_again_closing_and_restarting(
    open_notebook: Callable[..., Any], expect: Any
) -> None:
    """None of it leaves two panels, a run that cannot be stopped, or an error."""
    notebook = open_notebook(
        HOSTED,
        PANEL,
        "import threading\n[t.name for t in threading.enumerate() if 'panel' in t.name or 'pred' in t.name]",
        "from ipywidgets.widgets.widget import _instances\nlen(_instances)",
    )
    notebook.run(0)
    panel = Panel(notebook.run(1))
    models = int(notebook.run(3).inner_text().partition(":")[2])
    panel.button("Run").click()
    expect(panel.whole.locator(".tk-episodes")).to_contain_text("under way")
    panel = Panel(notebook.run(1))
    expect(panel.whole).to_have_count(1)
    expect(panel.whole.get_by_text("The run that this cell has begun before goes on.")).to_be_visible()
    expect(panel.whole.locator(".tk-episodes")).to_contain_text("under way")
    panel.button("Stop").click()
    expect(panel.whole.get_by_text("Run goes on from there")).to_be_visible()
    assert int(notebook.run(3).inner_text().partition(":")[2]) <= models + 15

    # The output is closed while a run goes on: it goes on to its end, and leaves nothing running.
    panel.button("Run").click()
    expect(panel.whole.locator(".tk-episodes")).to_contain_text("under way")
    notebook.cell(1).click()
    notebook.command("notebook:clear-cell-output")
    expect(notebook.output(1).locator(".tk-panel")).to_have_count(0)
    deadline = time.monotonic() + 60
    while "[]" not in notebook.run(2).inner_text():
        assert time.monotonic() < deadline
    panel = Panel(notebook.run(1))
    expect(panel.whole).to_be_visible()

    notebook.restart()
    notebook.run(0)
    panel = Panel(notebook.run(1))
    panel.button("Run").click()
    expect(panel.whole.get_by_text("7 ok").first).to_be_visible()


def test_two_panels_at_once(open_notebook: Callable[..., Any], expect: Any) -> None:
    """Each has its own settings, and its own run."""
    notebook = open_notebook(HOSTED, PANEL, "other = tk.TuningPanel(episodes[:2], config)\nother")
    notebook.run(0)
    one, other = Panel(notebook.run(1)), Panel(notebook.run(2))
    one.button("Run").click()
    other.button("Run").click()
    expect(one.whole.get_by_text("7 ok").first).to_be_visible()
    expect(other.whole.get_by_text("2 ok").first).to_be_visible()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('provider="openai"', "needs a key"),
        ('provider="transformers", model="./no-such-folder"', "is not available"),
        ('provider="openai", openai_base_url="http://127.0.0.1:9/v1", max_attempts=1', "127.0.0.1:9"),
        (
            'provider="openai", openai_base_url="https://models.example/v1", openai_api_key="none"',
            "would really call openai/gpt-5.6-luna",
        ),
    ],
)
def test_what_is_missing_is_said_in_the_panel(
    open_notebook: Callable[..., Any], expect: Any, settings: str, said: str
) -> None:
    """One clear text; nothing under another cell, and nothing in the console."""
    notebook = open_notebook(
        f"import toolkit as tk\nepisodes = tk.load_episodes({str(EPISODES)!r})[:1]\n"
        f"panel = tk.TuningPanel(episodes, tk.Config({settings}))\npanel"
    )
    panel = Panel(notebook.run(0))
    panel.button("Run").click()
    expect(panel.whole.locator(".tk-left")).to_contain_text(said)
    assert "Traceback" not in notebook.text(0)
    notebook.picture(f"panel-missing-{said.split()[0].replace('/', '')}", panel.whole)


def test_wild_texts_are_shown_as_text(open_notebook: Callable[..., Any], expect: Any) -> None:
    """Nothing of a transcript or a title is taken for markup, and no script runs."""
    notebook = open_notebook(
        "import toolkit as tk\n"
        "wild = ['<script>window.ran = true</script>', '<img src=x onerror=\"window.ran = true\">',\n"
        "        '**bold** $x^2$', '\\x1b[31mred', '\\u202eetirw', '\\U0001f41d']\n"
        "episodes = [tk.Episode.from_text(f'{n}{text}', f'{text} is said. ' * 300, title=text)\n"
        "            for n, text in enumerate(wild)]\n"
        "panel = tk.TuningPanel(episodes, tk.Config(provider='scripted', summary_batch_size=2,\n"
        "                       summary_chunk_parallelism=2, model=wild[0]))\npanel"
    )
    panel = Panel(notebook.run(0))
    panel.button("Code").click()
    panel.button("Run").click()
    expect(panel.whole.locator(".tk-episodes")).to_contain_text("<script>window.ran = true</script>")
    for name in ("Summaries", "Episodes", "Calls", "Plots"):
        tab = panel.tab(name)
        expect(tab.locator("summary, table, img").first).to_be_visible()
    panel.tab("Summaries")
    notebook.page.set_viewport_size(TALL)
    notebook.picture("panel-wild", panel.whole)
    assert notebook.page.evaluate("() => window.ran === undefined")
