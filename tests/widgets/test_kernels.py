"""The panel where there is no front end for widgets: a kernel without a browser, and a plain interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import toolkit

ROOT = Path(toolkit.__file__).parents[1]
MADE = """
import toolkit as tk
episodes = [tk.Episode.from_text(f"talk-{n}", "Somebody says a few words. " * 200) for n in range(4)]
config = tk.Config(provider="scripted", summary_batch_size=2, summary_chunk_parallelism=2, store_url="memory://")
panel = tk.TuningPanel(episodes, config)
"""
PRESSED = """
panel.buttons["run"].click()
while not isinstance(panel.run, tk.Run):
    pass
panel.run.counts()
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_kernel_without_a_browser() -> None:
    """A notebook that is executed by a script shows the plan as text, and runs."""
    from nbclient import NotebookClient

    cells = [MADE + "panel", PRESSED, "panel"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    first, second, third = (
        [output["data"] for output in cell.outputs if output.output_type == "execute_result"]
        for cell in notebook.cells
    )
    assert "TuningPanel of 4 episodes" in first[0]["text/plain"]
    assert "bound by" in first[0]["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in first[0]
    assert second[0]["text/plain"] == "{'ok': 4}"
    assert "<Run " in third[0]["text/plain"]
    said = [output for cell in notebook.cells for output in cell.outputs if output.output_type == "stream"]
    assert said == []


def test_a_plain_interpreter() -> None:
    """Nothing fails, nothing is left that keeps the process, and what is printed is the plan."""
    code = f"{MADE}\nprint(panel)\n{PRESSED}\nprint(panel.run)\nprint(panel.code())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert "TuningPanel of 4 episodes" in done.stdout
    assert "bound by" in done.stdout
    assert "4 ok" in done.stdout
    assert "config = tk.Config(" in done.stdout
