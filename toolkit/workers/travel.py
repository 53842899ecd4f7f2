"""What goes to a worker process, and what comes back: small, and without secrets."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from toolkit.config import Config
from toolkit.errors import ToolkitError
from toolkit.limits import LimitEvent, LimitSettings
from toolkit.limits.holders import this_process
from toolkit.machine import cores_here, memory_mb
from toolkit.records import EpisodeRecord, WorkerRecord


class RunSpec(NamedTuple):
    """A run, as its workers must know it.

    Attributes
    ----------
    run_id : str
    config : Config
        With whole addresses; secrets are left out of its pickle and found in the worker's environment.
    scope : str
        Which run this is a start of.
    is_part : bool
        Whether it is a part of a study, whose budget it draws from.
    driver : str
        The process that drives it, as a holder.
    boot : str
        The boot of the driver's machine: who has another is on another machine.
    neighbours : int
        Workers on one machine, which share its cores and memory.
    """

    run_id: str
    config: Config
    scope: str
    is_part: bool
    driver: str
    boot: str
    neighbours: int


class Assignment(NamedTuple):
    """An episode to be worked on: its text once, and nothing that is not needed for it."""

    number: int
    id: str
    title: str
    words: int
    text: str


class Report(NamedTuple):
    """What came of an episode.

    Attributes
    ----------
    number : int
    record : EpisodeRecord
    worker : WorkerRecord or None
        The one that worked on it, as it is now; None of one that has no part in the run.
    fatal : ToolkitError or None
        What every further call of the run would meet too.
    events : tuple of LimitEvent
        What the limiter did there since the last report or sign of life.
    """

    number: int
    record: EpisodeRecord
    worker: WorkerRecord | None = None
    fatal: ToolkitError | None = None
    events: tuple[LimitEvent, ...] = ()


class Survey(NamedTuple):
    """What a driver has to know of the provider that its workers make, and has none of itself to ask.

    Attributes
    ----------
    identity : mapping or None
        What the answers depend on.
    quota_key : str or None
    limits : LimitSettings or None
        Of the pool that the calls draw from.
    """

    identity: Mapping[str, Any] | None
    quota_key: str | None
    limits: LimitSettings | None


def worker_name() -> str:
    """Return the name of this process in records."""
    return f"{socket.gethostname()}:{os.getpid()}"


def this_worker(
    name: str, began_at: float, seen_at: float, episodes: int = 0, peak_rss_mb: float | None = None
) -> WorkerRecord:
    """Return what is to be said of this process."""
    return WorkerRecord(
        worker=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        cores=cores_here(),
        memory_mb=memory_mb(),
        holder=this_process(),
        began_at=began_at,
        seen_at=seen_at,
        episodes=episodes,
        peak_rss_mb=peak_rss_mb,
    )
