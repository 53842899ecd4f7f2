"""``report``: a page that opens from disk, asks nothing of anybody and runs no script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from toolkit import __version__
from toolkit.archive import open_store
from toolkit.arguments import read_episodes
from toolkit.clock import Clock, SystemClock
from toolkit.errors import ConfigError
from toolkit.files import write_whole
from toolkit.handle import RunHandle
from toolkit.parts import Page, template
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.wording import moment

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_NAMED = 3
_NAME_LENGTH = 40


def report(
    of: Any,
    path: str | Path | None = None,
    *,
    episodes: Iterable[Episode] | None = None,
    clock: Clock | None = None,
) -> Path:
    """Write a report: one page of HTML with figures, plots and tables, which needs nothing but itself.

    It has no script, asks for nothing from anywhere, and holds no key or password. It holds the summaries,
    and what settings and errors say.

    Parameters
    ----------
    of : Run, RunHandle, list of them, or Sweep
        A run also from ``open_store().run(id)``, also one that goes on; several are set beside each other.
        Instead of a sweep, a DataFrame with a row for each cell and repeat.
    path : str or Path, optional
        By default ``report-ID.html`` in the working folder. A file that is there is replaced.
    episodes : iterable of Episode, optional
        Those of the runs: their references are put beside the summaries, and the summaries are scored.
    clock : Clock, optional
        Says when the page was made.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ConfigError
        If ``of`` is nothing of that.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> tk.report(run)
    PosixPath('report-3f2a9c1b7d40.html')
    >>> tk.report([tk.open_store().run("3f2a"), run], "comparison.html", episodes=episodes)
    """
    subject = _subject(of)
    target = Path(path if path is not None else file_name(subject)).expanduser()
    write_whole([(target, _page(subject, episodes, clock))])
    return target


def page(of: Any, *, episodes: Iterable[Episode] | None = None, clock: Clock | None = None) -> str:
    """Return the page that `report` writes; the parameters and what is raised are those of it."""
    return _page(_subject(of), episodes, clock)


def _page(subject: Any, episodes: Iterable[Episode] | None, clock: Clock | None) -> str:
    known = _known(episodes)
    made: Page
    # Each loads pandas and what it draws with.
    if not isinstance(subject, list):
        from toolkit.reports.of_study import page_of_study

        made = page_of_study(subject)
    elif len(subject) == 1:
        from toolkit.reports.of_run import page_of_run

        made = page_of_run(subject[0], known)
    else:
        from toolkit.reports.of_runs import page_of_runs

        made = page_of_runs(subject, known)
    when = moment((clock or SystemClock()).epoch())
    return template("page.html", _TEMPLATES).render(page=made, when=when, version=__version__)


def _subject(of: Any) -> Any:
    """Return a list of runs, or a study."""
    import pandas as pd

    if isinstance(of, pd.DataFrame) or isinstance(getattr(of, "cells", None), pd.DataFrame):
        return of
    given = list(of) if isinstance(of, list | tuple) else [of]
    if not given:
        raise ConfigError("report of what? the list of runs is empty")
    return [_run_of(one) for one in given]


def _run_of(one: Any) -> Run:
    if isinstance(one, RunHandle):
        # All that has ended is in the store.
        secret = one.config.store_password
        store = open_store(one.config.store_url, password=secret.get_secret_value() if secret else None)
        return store.run(one.id)
    # Of many simulations the one in the middle.
    one = getattr(one, "median_run", one)
    if isinstance(one, Run):
        return one
    raise ConfigError(
        "a report is of a run (tk.run, tk.simulate, tk.open_store().run(id)), of a list of them, or of a "
        f"sweep; this is a {type(one).__name__}"
    )


def _known(episodes: Iterable[Episode] | None) -> list[Episode]:
    return [] if episodes is None else list(read_episodes(episodes))


def file_name(subject: Any) -> str:
    """Return the name of a report's file when none is given: after the ids of what it is of."""
    if isinstance(subject, list):
        ids = [str(run.id) for run in subject]
    else:
        ids = [str(getattr(subject, "name", None) or getattr(subject, "id", None) or "study")]
    named = [re.sub(r"[^\w-]+", "_", one)[:_NAME_LENGTH].strip("_") or "run" for one in ids[:_MOST_NAMED]]
    more = [f"and-{len(ids) - _MOST_NAMED}-more"] if len(ids) > _MOST_NAMED else []
    return f"report-{'-'.join([*named, *more])}.html"
