"""JupyterLab as a user has it: a real server, a real kernel and Debian's Chromium, all on this machine.

``open_notebook(*cells)`` gives a `Notebook` to work with. Whatever the page's console or its scripts report
as an error fails the test, and so does a request to anywhere but the server. Pictures are kept in the folder
that ``TEST_PICTURES`` names, else beside the tests' other files.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from lab_in_browser import FLAGS, HEIGHT, SECONDS, WIDTH, Lab, Notebook, watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the browser's path."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        pytest.skip("there is no chromium on this machine (apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start the server, one for all tests."""
    if importlib.util.find_spec("jupyterlab") is None:
        pytest.skip("JupyterLab is not installed; it comes with the extra 'test'")
    server = Lab(tmp_path_factory.mktemp("lab"), tmp_path_factory.getbasetemp())
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Start the browser, one for each module: while it runs, nobody else can use asyncio in this thread."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra 'test'")
    api.expect.set_options(timeout=1000 * SECONDS)
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for pictures."""
    named = os.environ.get("TEST_PICTURES")
    folder = Path(named) if named else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def open_notebook(
    lab: Lab, browser: Browser, tmp_path: Path, pictures_folder: Path
) -> Iterator[Callable[..., Notebook]]:
    """Open a notebook with cells of code (or one that is made already), in a browser that knows nothing yet.

    At the end of the test nothing may be found that the page reported as an error.
    """
    problems: list[str] = []
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    context.set_default_timeout(1000 * SECONDS)

    def open_it(*cells: str | nbformat.NotebookNode, name: str = "notebook.ipynb") -> Notebook:
        made = [cell if not isinstance(cell, str) else nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook = nbformat.v4.new_notebook(cells=made)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        file = tmp_path / name
        nbformat.write(notebook, file)
        page = context.new_page()
        watch(page, lab.url, problems)
        place = file.relative_to(lab.root).as_posix()
        page.goto(f"{lab.url}lab/tree/{place}?token={lab.token}&reset")
        opened = Notebook(page, problems, pictures_folder)
        opened.wait_for_kernel()
        opened.theme("light")
        # The notebook has the window for itself.
        page.evaluate("() => jupyterapp.shell.collapseLeft()")
        return opened

    yield open_it
    context.close()
    lab.end_kernels()
    assert problems == []
