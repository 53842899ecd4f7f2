"""The toolkit in JupyterLab, as a new user has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EPISODES = Path(__file__).parents[2] / "data/episodes"
ROOT = EPISODES.parents[1]


def test_episodes_are_shown(open_notebook: Callable[..., Any]) -> None:
    """Transcripts can be loaded and looked at, with the toolkit under test."""
    notebook = open_notebook(
        f"import toolkit as tk\nprint(tk.__file__)\nepisodes = tk.load_episodes({str(EPISODES)!r})",
        "episodes[0]",
    )
    assert notebook.run(0).inner_text().strip() == str(ROOT / "toolkit/__init__.py")
    shown = notebook.run(1)
    assert "city-heat" in shown.inner_text() or "words" in shown.inner_text()
    notebook.pictures("episode")


def test_an_error_of_a_cell_is_an_error_of_the_test(open_notebook: Callable[..., Any]) -> None:
    """A test that reads only what it looks for would miss it."""
    notebook = open_notebook("1 / 0")
    with pytest.raises(pytest.fail.Exception, match="ZeroDivisionError"):
        notebook.run(0)
    assert "ZeroDivisionError" in notebook.run(0, fails=True).inner_text()


def test_a_script_of_an_output_runs(open_notebook: Callable[..., Any]) -> None:
    """That no script ran can be told by a flag: JupyterLab does run those of trusted outputs."""
    notebook = open_notebook(
        "from IPython.display import HTML\nHTML('<script>window.ran = true</script><p>done</p>')"
    )
    notebook.run(0)
    assert notebook.page.evaluate("() => window.ran === true")


def test_what_the_page_reports_is_noticed(open_notebook: Callable[..., Any]) -> None:
    """Errors in the console, in scripts, and requests to elsewhere would fail the test at its end."""
    notebook = open_notebook("1 + 1")
    notebook.page.evaluate("() => { console.error('planted'); setTimeout(() => { throw Error('thrown') }) }")
    notebook.page.evaluate("() => fetch('http://toolkit.example/').catch(() => null)")
    said = "\n".join(notebook.problems)
    assert "console: planted" in said
    assert "script: Error: thrown" in said
    assert "asked for http://toolkit.example/" in said
    notebook.problems.clear()
