"""Which process holds a lease, and whether it still lives: process id, start time, boot, namespace and host.

A process id alone may have been given to another process since; with the start time it is unique. It says
something only where it was given: a process in another container, or on another machine that shares the
folder, cannot be looked for from here, and counts as alive.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from pathlib import Path

from toolkit.limits.axis import boot_id


def this_process() -> str:
    """Return the name of this process as a holder."""
    return _name(os.getpid())


@functools.lru_cache(maxsize=1)
def _name(pid: int) -> str:  # by pid, so that a fork has its own
    return f"{pid}/{_start(pid)}/{boot_id()}/{_place()}"


def _place() -> str:
    """Return where this process's id was given: its namespace (a container has its own) and its host."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{namespace}@{socket.gethostname()}"


def is_alive(holder: str) -> bool:
    """Whether a holder may still run; a killed child that nobody has waited for does not."""
    pid, start, boot, place = [*holder.split("/", 3), "", "", ""][:4]
    if place != _place():
        return True
    return boot == boot_id() and pid.isdigit() and start != "" and _start(int(pid)) == start


def _start(pid: int) -> str:
    """Return when a process started, in the system's own words; empty if there is none."""
    if sys.platform == "win32":
        return _start_windows(pid)
    stat = Path(f"/proc/{pid}/stat")
    try:
        # The name in parentheses may hold spaces and parentheses; the state comes after the last one.
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "" if Path("/proc/self/stat").exists() else _start_ps(pid)
    return "" if fields[0] in "ZX" else fields[19]


def _start_ps(pid: int) -> str:
    import subprocess

    # macOS and BSD; a few ms, and only asked while somebody waits behind another process.
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip().replace("/", "-")


def _start_windows(pid: int) -> str:
    import ctypes

    kernel = ctypes.CDLL("kernel32")
    kernel.OpenProcess.restype = ctypes.c_void_p
    query_limited_information = 0x1000
    handle = ctypes.c_void_p(kernel.OpenProcess(query_limited_information, False, pid))
    if not handle:
        return ""
    try:
        times = (ctypes.c_uint64 * 4)()  # creation, exit, kernel, user
        ok = kernel.GetProcessTimes(handle, *(ctypes.byref(times, 8 * place) for place in range(4)))
        return str(times[0]) if ok and not times[1] else ""
    finally:
        kernel.CloseHandle(handle)
