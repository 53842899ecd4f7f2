"""Threads of PyTorch that wait do not keep the processor from others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from toolkit.engines.spinning import SPINS, spin_briefly

ASKED = {"GOMP_SPINCOUNT": str(SPINS)}


@pytest.mark.parametrize(
    ("environ", "loaded", "then"),
    [
        ({}, {"os"}, ASKED),
        ({}, {"os", "torch"}, {}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, set(), {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "7"}, set(), {"GOMP_SPINCOUNT": "7"}),
    ],
    ids=["first", "loaded", "policy", "count"],
)
def test_asked_for_unless_the_user_has_chosen_or_it_is_too_late(
    environ: dict[str, str], loaded: set[str], then: dict[str, str]
) -> None:
    """What somebody has set stays, and nothing is set that nobody would read."""
    spin_briefly(environ, loaded)
    assert environ == then


@pytest.mark.parametrize("first", ["toolkit.engines.torch", "toolkit.engines.unloaded"])
def test_asked_for_before_torch_is_loaded(first: str) -> None:
    """Whichever part of the engines comes first; the toolkit itself sets nothing."""
    code = (
        "import os, sys, toolkit\n"
        "assert 'GOMP_SPINCOUNT' not in os.environ\n"
        f"import {first}\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['GOMP_SPINCOUNT'])\n"
    )
    kept = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    told = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(SPINS)
