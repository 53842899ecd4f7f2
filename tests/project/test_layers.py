"""Imports point down: the table of layers, held against every import of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "toolkit"

# Level of a module, or of all modules of a folder.
LEVELS = {
    "errors": 0,
    "arguments": 0,
    "clock": 0,
    "environment": 0,
    "records": 0,
    "config": 0,
    "protocols": 0,
    "refusals": 0,
    "urls": 0,
    "harmless": 0,
    "files": 0,
    "garbage": 0,
    "postgresql": 0,
    "sqlite": 0,
    "machine": 0,
    "memory": 0,
    "wording": 0,
    "parts": 0,
    "settings": 0,
    "testing": 0,
    "tokens": 1,
    "words": 1,
    "chunking": 1,
    "mapreduce": 1,
    "retry": 1,
    "calls": 1,
    "limits": 1,
    "store": 1,
    "prices": 1,
    "transcripts": 1,
    "providers": 2,
    "engines": 2,
    "backends": 2,
    "runs": 3,
    "frames": 3,
    "metrics": 3,
    "intervals": 3,
    "studies": 3,
    "views": 3,
    "archive": 3,
    "planning": 3,
    "latency": 3,
    "fitting": 3,
    "crowding": 3,
    "workflow": 4,
    "work": 4,
    "workers": 4,
    "gate": 4,
    "bars": 4,
    "progress": 4,
    "interrupts": 4,
    "keeping": 4,
    "handle": 4,
    "simulation": 4,
    "plots": 4,
    "quality": 4,
    "sweeps": 5,
    "tuning": 5,
    "reports": 5,
    "lab": 5,
    "screen": 5,
    "cli": 6,
    "widgets": 6,
}

# Within a level: who may import whom. A folder's own modules may import each other.
SIDEWAYS = {
    ("arguments", "errors"),
    ("arguments", "harmless"),
    ("arguments", "records"),
    ("config", "environment"),
    ("config", "errors"),
    ("config", "parts"),
    ("config", "records"),
    ("config", "refusals"),
    ("config", "settings"),
    ("config", "urls"),
    ("config", "wording"),
    ("environment", "errors"),
    ("environment", "urls"),
    ("postgresql", "urls"),
    ("refusals", "environment"),
    ("refusals", "urls"),
    ("wording", "harmless"),
    ("parts", "harmless"),
    ("parts", "wording"),
    ("settings", "parts"),
    ("settings", "wording"),
    ("records", "parts"),
    ("records", "wording"),
    ("protocols", "clock"),
    ("protocols", "errors"),
    ("protocols", "records"),
    ("mapreduce", "chunking"),
    ("mapreduce", "tokens"),
    ("calls", "limits"),
    ("calls", "retry"),
    ("calls", "store"),
    ("store", "limits"),
    ("store", "mapreduce"),
    ("providers", "engines"),
    ("runs", "frames"),
    ("runs", "metrics"),
    ("runs", "views"),
    ("studies", "intervals"),
    ("views", "frames"),
    ("views", "intervals"),
    ("views", "metrics"),
    ("views", "studies"),
    ("archive", "frames"),
    ("planning", "frames"),
    ("planning", "runs"),
    ("archive", "runs"),
    ("fitting", "runs"),
    ("crowding", "runs"),
    ("latency", "fitting"),
    ("latency", "crowding"),
    ("latency", "runs"),
    ("handle", "interrupts"),
    ("progress", "bars"),
    ("handle", "progress"),
    ("handle", "workflow"),
    ("work", "gate"),
    ("work", "progress"),
    ("workflow", "gate"),
    ("workflow", "interrupts"),
    ("workflow", "keeping"),
    ("workflow", "progress"),
    ("workers", "gate"),
    ("workers", "keeping"),
    ("workers", "progress"),
    ("workers", "work"),
    ("workflow", "work"),
    ("workflow", "workers"),
    ("tuning", "sweeps"),
    # What tests and notebooks stand on; nothing of the toolkit but its words.
    *(("testing", name) for name, level in LEVELS.items() if level == 0),
}

HEAVY = {
    "huggingface_hub",
    "ipywidgets",
    "joblib",
    "matplotlib",
    "numpy",
    "openai",
    "pandas",
    "sqlalchemy",
    "torch",
    "transformers",
}


def module_name(path: Path) -> str:
    """Return the dotted name without ``toolkit.``; a folder's ``__init__`` is the folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


LOADED_LATE = (
    "store.",
    "widgets.controls",
    "workers.driving",
    "workers.team",
    "workers.watching",
    "workers.worker",
)
"""Modules that may load heavy packages at once, because all others import them within functions only."""


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
# The package itself only names where its public names live; that its table is right, test_import holds.
INSIDE = [name for name in MODULES if name]


def imports(tree: ast.AST, package: str) -> Iterator[tuple[ast.stmt, str]]:
    """Yield every import statement, wherever it stands, with the full names that it may mean."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                above = ("toolkit." + package).split(".")[: 1 - node.level or None]
                home = ".".join([*above, *filter(None, [node.module])])
            yield from ((node, f"{home}.{alias.name}") for alias in node.names)


def imported_modules(name: str) -> set[str]:
    """Return the toolkit's modules that a module imports; ``""`` is the package itself."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for _, full in imports(ast.parse(path.read_text(encoding="utf-8")), package):
        if full.split(".")[0] != "toolkit":
            continue
        inner = full.removeprefix("toolkit").removeprefix(".")
        while inner not in MODULES:  # The last part may be a name of the module.
            inner = inner.rpartition(".")[0]
        found.add(inner)
    return found


def group(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", INSIDE)
def test_module_has_its_place(name: str) -> None:
    """A new module states its level here, or its imports would be held against nothing."""
    assert group(name) in LEVELS


@pytest.mark.parametrize("name", INSIDE)
def test_imports_point_down(name: str) -> None:
    """Imports inside functions and for type checking count too: those are dependencies all the same."""
    own = group(name)
    for other in imported_modules(name) - {""}:
        theirs = group(other)
        allowed = theirs == own or LEVELS[theirs] < LEVELS[own] or (own, theirs) in SIDEWAYS
        assert allowed, f"{name} (level {LEVELS[own]}) imports {other} (level {LEVELS[theirs]})"


@pytest.mark.parametrize("name", INSIDE)
def test_package_itself_is_imported_for_its_version_only(name: str) -> None:
    """``from toolkit import run`` inside the toolkit would go around the table."""
    if "" in imported_modules(name):
        tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
        names = {full for _, full in imports(tree, "") if full.count(".") == 1}
        assert names & {f"toolkit.{public}" for public in public_names()} == set()


def public_names() -> list[str]:
    import toolkit

    return toolkit.__all__


def test_what_is_allowed_sideways_stays_in_its_level() -> None:
    """An entry that points up would be a hole in the table."""
    assert all(LEVELS[importer] == LEVELS[imported] for importer, imported in SIDEWAYS)


def test_there_is_no_cycle() -> None:
    """Not between modules of one folder either, for which the table has no order."""
    graph = {name: imported_modules(name) - {name, ""} for name in INSIDE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_testing_stands_on_level_0_alone() -> None:
    """The server's laws are written a second time there: code shared with the limiter would check itself."""
    outside = {
        other for name in INSIDE if group(name) == "testing" for other in imported_modules(name) - {""}
    }
    assert {group(other) for other in outside} <= {name for name, level in LEVELS.items() if level == 0}


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        for field in ("body", "orelse", "finalbody"):
            waiting += getattr(node, field, [])
        for handler in getattr(node, "handlers", []):
            waiting += handler.body
        for case in getattr(node, "cases", []):
            waiting += case.body


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(LOADED_LATE)])
def test_heavy_packages_load_when_they_are_used(name: str) -> None:
    """One of them at the top of a module costs every start of the command seconds.

    So does a module that has one.
    """
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    loaded = {
        full.split(".")[0]
        for node in at_import(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, full in imports(node, "")
    }
    assert loaded & HEAVY == set()
    late = {
        full
        for node in at_import(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, full in imports(node, "")
        if full.removeprefix("toolkit.").startswith(LOADED_LATE)
    }
    assert late == set()


def test_the_checks_see_what_they_forbid() -> None:
    """Nested, conditional and relative imports are found; those for types only do not load anything."""
    tree = ast.parse(
        "if TYPE_CHECKING:\n    import pandas\n"
        "try:\n    import torch.nn\nexcept ImportError:\n    from numpy import array\n"
        "class A:\n    import joblib\n"
        "def f():\n    import openai\n    from . import queue\n    from ..errors import ConfigError\n"
    )
    loaded = {
        full.split(".")[0]
        for node in at_import(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, full in imports(node, "engines")
    }
    assert loaded == {"torch", "numpy", "joblib"}
    every = {full for _, full in imports(tree, "engines")}
    assert {"pandas", "openai", "toolkit.engines.queue", "toolkit.errors.ConfigError"} <= every
