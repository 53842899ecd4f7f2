"""What of the machine a measurement depends on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from toolkit.keeping import environment as run_environment

LIBRARIES = (
    "torch",
    "transformers",
    "openai",
    "anthropic",
    "joblib",
    "numpy",
    "pandas",
    "SQLAlchemy",
    "openvino-genai",
    "rouge-score",
)
_GIT_S = 5.0
_MB = 1e6


def describe_machine() -> dict[str, object]:
    """Return versions, processor, cores, memory, load and the git commit of the working folder.

    What the system does not tell is None.
    """
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        **run_environment(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mb": _memory_mb(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "git_commit": _git_commit(),
        "load_at_start": None if load is None else [round(figure, 2) for figure in load],
    }


def machine_digest(environment: Mapping[str, object]) -> str:
    """Return a digest of what should be the same for all cells of a sweep: everything but load and commit."""
    lasting = {
        name: value for name, value in environment.items() if name not in ("load_at_start", "git_commit")
    }
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:12]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's name; ``platform`` knows only its kind on Linux."""
    with suppress(OSError):
        told = Path("/proc/cpuinfo").read_text(errors="replace")
        if found := re.search(r"^(?:model name|Model)\s*:\s*(.+)$", told, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


def _memory_mb() -> float | None:
    with suppress(ValueError, OSError, AttributeError):  # Windows has no sysconf
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _MB)
    return None


def _git_commit() -> str | None:
    """Return the commit of the working folder, with ``+`` if files that git knows are changed."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=_GIT_S, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, or no repository
        return None
    return done.stdout.strip()
