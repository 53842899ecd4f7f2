"""A copy of the repository as somebody has it who has just fetched it, to install from."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_checkout(place: Path) -> Path:
    """Copy what a release is built from to a new folder, without what is not under version control."""
    place.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, place / name)
    for name in ("toolkit", "notebooks", "data"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place
