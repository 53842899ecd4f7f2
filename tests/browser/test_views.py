"""What runs, plans and all the others show of themselves in JupyterLab, light and dark, 900 pixels wide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import SCRIPT, VIEWS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BEGIN = f"""
import sys
import toolkit as tk
episodes = tk.load_episodes({str(ROOT / "data/episodes")!r})
faults = {{"429": 0.05, "400": 0.01}}
server = tk.testing.ApiServer(requests_per_minute=600, latency=0.05, faults=faults, seed=3)
server.__enter__()
config = tk.Config(
    provider="openai", model="gpt-5.6-luna", openai_base_url=server.base_url, openai_api_key="sk-planted",
    limits_url="memory://", openai_requests_per_minute=600, openai_tokens_per_minute=200_000,
    summary_batch_size=4, summary_chunk_parallelism=4, chunk_tokens=512, reuse="none",
)
run = tk.run(episodes, config, progress=False)
study = tk.sweep(
    episodes[:3], tk.Config(),
    {{"chunk_tokens": [64, 128], "provider": ["scripted", "lead", "unheard-of"]}}, repeats=2, progress=False,
)
"""
SHOWN = {
    "run": "run",
    "episode": "episodes[1]",
    "summary": "run.summary(episodes[1].id)",
    "config": "config",
    "plan": "tk.plan(episodes, config)",
    "sweep": "study",
    "simulated": "tk.simulate(episodes, config, latency=0.5)",
    "simulations": "tk.simulate(episodes, config, latency=tk.LatencyModel(base_s=0.5, spread=0.3), seeds=5)",
    "side-by-side": "tk.quality.side_by_side(study.runs[1, 1], study.runs[4, 1], episodes)",
}
PARTS = "document.querySelectorAll('.tk-view details').forEach(part => { part.open = %s })"


def test_everything_shows_itself(open_notebook: Callable[..., Any]) -> None:
    """Nothing is wider than the page, folded or not; letters suit the theme."""
    notebook = open_notebook(BEGIN, *SHOWN.values())
    notebook.run_all()
    page = notebook.page
    for theme in ("dark", "light"):
        notebook.theme(theme)
        for state in ("folded", "open"):
            page.evaluate(f"() => {PARTS % str(state == 'open').lower()}")
            assert page.evaluate(CONTRAST) >= 4.5, (theme, state)
            for number, name in enumerate(SHOWN, 1):
                output = notebook.output(number)
                notebook.picture(f"view-{name}-{state}-{theme}", output)
                assert output.evaluate("node => node.scrollWidth <= node.clientWidth"), name


# Of each text in a view, by the formula of WCAG 2: the least contrast with the colour behind it.
CONTRAST = """() => {
  const channel = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  const parse = text => text.match(/[\\d.]+/g).map(Number)
  const over = (front, back) => {
    const alpha = front[3] ?? 1
    return [0, 1, 2].map(place => alpha * front[place] + (1 - alpha) * back[place])
  }
  const light = colour => {
    const [red, green, blue] = colour.map(value => channel(value / 255))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const behind = node => {
    const layers = []
    for (; node; node = node.parentElement) layers.unshift(parse(getComputedStyle(node).backgroundColor))
    return layers.reduce((back, front) => over(front, back), [255, 255, 255])
  }
  let least = 21
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement
    if (!node.closest('.tk-view') || node.closest('style') || !walker.currentNode.data.trim()) continue
    const back = behind(node)
    const values = [light(over(parse(getComputedStyle(node).color), back)), light(back)]
    least = Math.min(least, (Math.max(...values) + 0.05) / (Math.min(...values) + 0.05))
  }
  return least
}"""


@pytest.fixture
def hostile_notebook(open_notebook: Callable[..., Any]) -> Any:
    """Show every view, made of hostile text, below a formula that Jupyter does typeset."""
    begin = (
        f"import sys\nsys.path.insert(0, {str(ROOT / 'tests/shared')!r})\n"
        "from hostile import VIEWS\nfrom IPython.display import HTML\nHTML('<p>It is $x_1$.</p>')"
    )
    notebook = open_notebook(begin, *(f"VIEWS[{name!r}]()" for name in VIEWS))
    notebook.run_all()
    return notebook


def test_hostile_text_is_text(hostile_notebook: Any) -> None:
    """No script ran, nothing was typeset, all can be read; nothing was asked for and nothing reported."""
    notebook, page = hostile_notebook, hostile_notebook.page
    page.evaluate(f"() => {PARTS % 'true'}")
    # Typesetting takes its time; that of the formula above began before.
    notebook.output(0).locator("mjx-container").wait_for()
    assert page.locator("mjx-container").count() == 1
    assert page.evaluate("() => window.ran") is None
    for number, name in enumerate(VIEWS, 1):
        output = notebook.output(number)
        assert SCRIPT in output.text_content(), name
        assert output.locator("script, iframe, a, b, img:not([src^='data:image/'])").count() == 0, name
        assert output.evaluate("node => node.scrollWidth <= node.clientWidth"), name
    named = "[...document.querySelectorAll('.tk-view *')].flatMap(node => node.getAttributeNames())"
    names = page.evaluate(f"() => [...new Set({named})]")
    assert not [name for name in names if name.startswith("on")]
    notebook.pictures("hostile")
    assert page.evaluate("() => window.ran") is None


def test_a_notebook_of_somebody_else_shows_it_too(open_notebook: Callable[..., Any]) -> None:
    """Jupyter takes the style from outputs that it does not trust; what is left can be read."""
    import nbformat
    from hostile import hostile_run

    made = nbformat.v4.new_output("display_data", {"text/html": hostile_run()._repr_html_()})
    notebook = open_notebook(nbformat.v4.new_code_cell("run", outputs=[made]))
    notebook.page.evaluate(f"() => {PARTS % 'true'}")
    shown = notebook.output(0)
    assert SCRIPT in shown.inner_text()
    assert "Makespan" in shown.inner_text()
    assert shown.locator("style").count() == 0
    assert ".tk-view" not in shown.inner_text()
    assert notebook.page.evaluate("() => window.ran") is None
