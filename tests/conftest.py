"""What all tests share: no setting of the machine's own environment reaches them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postgresql_server import Server


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the variables that ``Config`` reads, so that a test sees only what it sets itself.

    Runs are kept in memory until the test's end: none may find what another has left.
    """
    for name in os.environ:
        if name.startswith(("TOOLKIT_", "OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOOLKIT_STORE_URL", "memory://")
    yield
    if opened := sys.modules.get("toolkit.store.opened"):
        opened.close_stores()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Have one server for all tests that want one; each takes a database of its own."""
    from postgresql_server import postgresql_server

    with postgresql_server() as server:
        yield server
