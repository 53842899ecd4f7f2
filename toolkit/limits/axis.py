"""The time axis of the core: epoch seconds that never jump, the same for all processes of a machine.

Calendar windows need epoch time; buckets need time that no correction of the wall clock moves. So the axis
is a clock that counts on through sleep (a laptop's lid), moved once to epoch time. Processes that share a
state share the anchor, which the state keeps per boot: without that, two notebooks started before and
after a correction would each see the other's charges in the past or in the future.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from toolkit.clock import Clock, SystemClock

Axis = Callable[[], float]


def boot_id() -> str:
    """Return a name of this boot of the machine; empty where the system gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def sleepless_seconds() -> float:
    """Return machine-wide monotonic seconds that go on while the machine sleeps.

    Linux counts sleep in ``CLOCK_BOOTTIME``, macOS in its ``CLOCK_MONOTONIC``, Windows always.
    """
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        number = getattr(time, name, None)
        if number is not None:
            return time.clock_gettime(number)
    return time.monotonic()


def anchor() -> float:
    """Return what turns `sleepless_seconds` into epoch seconds, as the wall clock has it now."""
    return time.time() - sleepless_seconds()


def make_axis(clock: Clock, offset: Callable[[], float] | None = None) -> Axis:
    """Return the axis of a clock; the machine's own clock goes by ``offset``, if one is shared."""
    if isinstance(clock, SystemClock):
        if offset is not None:
            return lambda: offset() + sleepless_seconds()
        own = anchor()
        return lambda: own + sleepless_seconds()
    own = clock.epoch() - clock.now()
    return lambda: own + clock.now()
