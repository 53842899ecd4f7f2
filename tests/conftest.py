"""What all tests share: no setting of the machine's own environment reaches them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that ``Config`` reads, so that a test sees only what it sets itself."""
    for name in os.environ:
        if name.startswith(("TOOLKIT_", "OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
