"""Looking around in a sweep, with mouse and keyboard, in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EPISODES = Path(__file__).parents[2] / "data/episodes"
SWEEP = f"""
import toolkit as tk
episodes = tk.load_episodes({str(EPISODES)!r})[:3]
grid = {{"summary_batch_size": [1, 2, 4], "chunk_tokens": [64, 128, 256]}}
study = tk.sweep(episodes, tk.Config(provider="scripted"), grid, repeats=2, progress=False)
explorer = tk.SweepExplorer(study, episodes)
"""


def test_a_sweep_is_explored(open_notebook: Callable[..., Any]) -> None:
    """Plot, axes, filter and two cells are chosen; plot, table, summaries and lines follow."""
    from playwright.sync_api import expect

    notebook = open_notebook(SWEEP, "explorer", "print(explorer.code())")
    notebook.run(0)
    shown = notebook.run(1)
    expect(shown.locator("figure img")).to_have_count(1)
    for theme in ("dark", "light"):  # a plot is drawn for paper, and turned over where all else is dark
        notebook.theme(theme)
        turned_over = shown.locator("figure img").evaluate("plot => getComputedStyle(plot).filter") != "none"
        assert turned_over == (theme == "dark")
    notebook.pictures("explorer-heatmap", shown)

    shown.get_by_label("Plot").select_option("lines")
    expect(shown.get_by_label("Up")).to_be_hidden()
    shown.get_by_label("Each").select_option("chunk_tokens")
    shown.get_by_label("Measure").select_option("makespan (s)")
    expect(shown.locator("figcaption")).to_contain_text("Makespan (s) by summary_batch_size, a line for each")

    shown.get_by_label("Only where").fill("chunk_tokens <")
    shown.get_by_label("Only where").press("Enter")
    expect(shown.locator(".alerts")).to_contain_text("does not work")
    shown.get_by_label("Only where").fill("chunk_tokens < 256")
    shown.get_by_label("Only where").press("Enter")
    expect(shown.locator(".facts")).to_contain_text("12 of 18 rows")
    expect(shown.locator(".alerts")).to_have_count(0)
    notebook.pictures("explorer-lines", shown)

    shown.get_by_role("tab", name="Summaries").click()
    shown.get_by_label("Right cell").fill("5")
    shown.get_by_label("Right cell").press("Enter")
    shown.get_by_role("button", name="Show summaries").press("Enter")
    expect(shown.locator(".beside").first).to_contain_text("coverage")
    expect(shown.get_by_text("Cell 5: summary_batch_size = 2, chunk_tokens = 128")).to_be_visible()
    notebook.pictures("explorer-summaries", shown)

    shown.get_by_role("tab", name="Code").click()
    expect(shown.locator("pre")).to_contain_text("cells = study.cells.query('chunk_tokens < 256')")
    assert notebook.run(2).inner_text().strip() == shown.locator("pre").inner_text().strip()
    notebook.pictures("explorer-code", shown)
    assert shown.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_the_keyboard_is_enough(open_notebook: Callable[..., Any]) -> None:
    """From the first control to the last by Tab, and each says what it is."""
    notebook = open_notebook(SWEEP, "explorer")
    notebook.run(0)
    shown = notebook.run(1)
    shown.get_by_label("Plot").focus()
    seen = []
    for _ in range(12):
        named = "document.activeElement.labels?.[0]?.innerText ?? document.activeElement.innerText"
        seen.append(notebook.page.evaluate(f"() => {named}").strip().splitlines()[:1])
        notebook.page.keyboard.press("Tab")
    words = [name for names in seen for name in names]
    assert words[:5] == ["Plot", "Across", "Up", "Measure", "Only where"]
    assert "Cells" in words


def test_it_survives_what_a_user_does(open_notebook: Callable[..., Any]) -> None:
    """Run twice, closed, shown twice, and after a restart of the kernel, no view is broken."""
    from playwright.sync_api import expect

    notebook = open_notebook(SWEEP, "explorer", "explorer")
    notebook.run(0)
    for number in (1, 2, 1):
        notebook.run(number)
    notebook.output(2).get_by_label("Plot").select_option("pareto")
    for number in (1, 2):
        expect(notebook.output(number).locator("figcaption")).to_contain_text("Cost against quality")
    notebook.command("notebook:clear-cell-output")
    notebook.restart()
    notebook.run(0)
    expect(notebook.run(1).locator("figure img")).to_have_count(1)
