"""Notebooks are part of the product: they run from top to bottom, offline, with public names only."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

import toolkit
from toolkit.lab import copy_samples

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
OTHERS = {"matplotlib", "pandas"}
"""Packages that notebooks use beside Python's own: the toolkit brings them."""
MODULES = ("plots", "quality", "testing")
"""Public modules, which are no names in ``__all__``."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_there_are_nine_notebooks() -> None:
    """The folder was found; without this the tests below would pass on nothing."""
    assert len(NOTEBOOKS) == 9


@each_notebook
def test_notebook_is_kept_clean(path: Path) -> None:
    """No outputs, no execution counts and nothing of the machine that it ran on are committed."""
    notebook = read(path)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(path))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert dict(notebook.metadata.language_info) == {"name": "python"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


@each_notebook
def test_notebook_asks_one_question_and_says_what_it_teaches(path: Path) -> None:
    """The title is the question; the last words are what came of it, and what did not."""
    notebook = read(path)
    headings = [line for cell in notebook.cells for line in cell.source.splitlines() if line.startswith("# ")]
    titles = [line for line in headings if line in notebook.cells[0].source]
    assert len(titles) == 1
    assert titles[0].endswith("?")
    assert notebook.cells[-1].source.startswith("## What this teaches, and what it does not\n")


@each_notebook
def test_first_code_cell_has_the_parameters(path: Path) -> None:
    """It carries papermill's tag, and sets plain values: FAST and where the episodes are."""
    first, *others = code_cells(path)
    assert first.metadata.get("tags") == ["parameters"]
    assert all("parameters" not in cell.metadata.get("tags", []) for cell in others)
    values = {}
    for node in ast.parse(first.source).body:
        assert isinstance(node, ast.Assign)
        assert isinstance(node.targets[0], ast.Name)
        values[node.targets[0].id] = ast.literal_eval(node.value)
    assert values == {"FAST": False, "EPISODES": "../data/episodes"}
    assert (FOLDER / values["EPISODES"]).is_dir()


@each_notebook
def test_notebook_uses_public_names_only(path: Path) -> None:
    """Of the toolkit a notebook imports the package alone, and takes from it only what it exports."""
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("toolkit"), cell.source
            if isinstance(node, ast.Import):
                assert all(not name.name.startswith("toolkit.") for name in node.names), cell.source
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tk":
                assert node.attr in [*toolkit.__all__, *MODULES], f"tk.{node.attr}"


@each_notebook
def test_notebook_imports_what_the_toolkit_brings(path: Path) -> None:
    """A fresh install runs it, or the extra that its first words name."""
    import sys

    brought = OTHERS | (
        {"distributed"} if "episode-toolkit[cluster]" in read(path).cells[0].source else set()
    )
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            names = []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                assert top in brought or top == "toolkit" or top in sys.stdlib_module_names, name


def test_own_provider_takes_twenty_lines() -> None:
    """The notebook says how little it needs; it must not grow in silence."""
    (path,) = (path for path in NOTEBOOKS if "provider" in path.stem)
    classes = [
        node
        for cell in code_cells(path)
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.ClassDef) and node.name == "ByHand"
    ]
    (provider,) = classes
    assert provider.end_lineno is not None
    assert provider.end_lineno - provider.lineno + 1 <= 20


@pytest.fixture(scope="module")
def times(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
    """Take the seconds of each notebook, and show them in a table at the end, captured or not."""
    taken: dict[str, float] = {}
    yield taken
    if taken:
        with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
            print("\nSeconds of each notebook with FAST:")
            for name, seconds in [*taken.items(), ("together", sum(taken.values()))]:
                print(f"  {name:<28} {seconds:6.1f}")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@each_notebook
def test_notebook_runs(path: Path, tmp_path: Path, times: dict[str, float]) -> None:
    """With FAST every cell runs in a fresh kernel, says nothing on standard error, and leaves nothing behind.

    It runs in a copy as ``toolkit lab`` makes it, with no setting in its environment: what keeps its runs out
    of the project's store is its own.
    """
    from nbclient import NotebookClient

    place = copy_samples(tmp_path / "lab").folder
    before = sorted(place.rglob("*"))
    notebook = read(place / "notebooks" / path.name)
    first = next(number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    # Where papermill puts it.
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell("FAST = True"))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TOOLKIT_", "OPENAI_", "ANTHROPIC_", "AZURE_"))
    }
    state = tmp_path / "state"
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(place / "notebooks")}},
    )
    began = time.perf_counter()
    client.execute(env=environment | {"XDG_STATE_HOME": str(state)})
    times[path.stem] = time.perf_counter() - began
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert sorted(place.rglob("*")) == before
    assert not state.exists()
