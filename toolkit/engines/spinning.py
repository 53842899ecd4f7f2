"""How long PyTorch's threads wait for each other before they let others have the processor."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping

SPINS = 10_000
"""Rounds of waiting, some tens of microseconds, before a thread of GNU's OpenMP sleeps; its own default is
300,000, some milliseconds.

Threads that spin on a processor that others want hold up the very threads that they wait for. SmolLM2-135M on
two cores beside two busy processes: with the default 7.5 to 10.2 s for a batch of four and 15.5 to 22.8 s one
by one, with this 5.2 to 8.4 s and 10.0 to 11.0 s; beside another model, 30 to 75 s and 12 to 21 s. Without
others 2.06 to 2.19 s and 3.8 to 4.0 s, and with this 2.20 to 2.29 s and 3.75 to 3.82 s. Not to spin at all
takes a fifth to a third longer where nobody else is.
"""
_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_briefly(environ: MutableMapping[str, str], loaded: Collection[str]) -> None:
    """Ask OpenMP for it, unless the user has chosen, or PyTorch is loaded and would not hear it any more.

    Parameters
    ----------
    environ : mutable mapping
        Environment variables of this process, which OpenMP reads when it is loaded.
    loaded : collection of str
        Names of the modules that are loaded.
    """
    if "torch" not in loaded and not any(name in environ for name in _CHOSEN_BY_USER):
        environ["GOMP_SPINCOUNT"] = str(SPINS)
