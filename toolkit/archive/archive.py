"""``Archive``: everything measured so far, as DataFrames; and how to get rid of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from toolkit.archive import erasing, history, overview, queries, studies
from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError, MissingDependency, StoreError
from toolkit.files import write_whole
from toolkit.runs import Run, csv_of
from toolkit.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    import sqlalchemy as sa

    from toolkit.store.address import Address

T = TypeVar("T")
RunIds = str | Sequence[str] | None
"""One run, several, or all; the beginning of an id that no other run's begins with will do."""
Values = str | Sequence[str] | None
"""One value, several, or any."""

_DAY_S = 86_400


def open_store(url: str | None = None, *, password: str | None = None) -> Archive:
    """Open what is kept of runs.

    Parameters
    ----------
    url : str, optional
        ``memory://``, ``sqlite:///PATH`` or ``postgresql+psycopg://USER@HOST/DATABASE``; by default
        ``TOOLKIT_STORE_URL``, else the file ``.toolkit/runs.db`` of the project.
    password : str, optional
        Of the database; it may stand in the URL or in ``TOOLKIT_STORE_PASSWORD`` as well.

    Returns
    -------
    Archive

    Raises
    ------
    ConfigError
        If the URL is none.
    StoreError
        If the store cannot be opened.
    """
    from toolkit.store.address import read_address

    given = {name: value for name, value in (("store_url", url), ("store_password", password)) if value}
    config = Config(**given)
    secret = config.store_password
    address = read_address(config.store_url, secret.get_secret_value() if secret else None)
    # Some tracebacks show what the variables of each frame hold.
    del url, password, given
    return Archive(address)


class Archive:
    """All runs of one store; every method reads what is there at that moment.

    Parameters
    ----------
    address : Address
    clock : Clock, optional
        By which runs grow old.

    Raises
    ------
    StoreError
        Here and by every method, if the store cannot be read or written.
    """

    def __init__(self, address: Address, *, clock: Clock | None = None) -> None:
        self._address = address
        self._clock = clock or SystemClock()
        self._read(lambda connection: None)

    def runs(self) -> pd.DataFrame:
        """Return a row for each run, the newest last; ``toolkit.archive.RUNS`` declares the columns."""
        return self._read(lambda connection: overview.runs_frame(connection, None))

    def sweeps(self) -> pd.DataFrame:
        """Return a row for each sweep, the newest last; ``toolkit.archive.SWEEPS`` declares the columns."""
        return self._read(studies.sweeps_frame)

    def run(self, run_id: str) -> Run:
        """Return a run as ``tk.run`` did, with the same frames.

        Of a run that was killed there is what it had kept: episodes that had not ended are ``cancelled`` and
        have their calls. The config has no secrets; ``Config(**run.config.shown())`` takes them from the
        environment.

        Parameters
        ----------
        run_id : str
            Or its beginning, if no other run's id begins so.

        Raises
        ------
        ConfigError
            If there is no such run.
        """
        shown = self._address.shown
        return self._read(
            lambda connection: history.load_run(
                connection, history.find_runs(connection, [run_id], shown)[0], shown
            )
        )

    def episodes(
        self,
        run_id: RunIds = None,
        *,
        status: Values = None,
        provider: Values = None,
        model: Values = None,
        episode_id: Values = None,
    ) -> pd.DataFrame:
        """Return the frame ``episodes`` of one run, of several or of all.

        Parameters
        ----------
        run_id : str or sequence of str, optional
        status, provider, model, episode_id : str or sequence of str, optional
            Only rows that have this value, or one of these.

        Returns
        -------
        DataFrame
            The columns are declared in ``toolkit.frames.EPISODES``; run by run, the newest last.

        Raises
        ------
        ConfigError
            If there is no such run.
        """
        wanted = _wanted(status=status, provider=provider, model=model, episode_id=episode_id)
        return self._read(lambda to: queries.episodes_of(to, self._ids(to, run_id), wanted))

    def calls(
        self,
        run_id: RunIds = None,
        *,
        status: Values = None,
        provider: Values = None,
        model: Values = None,
        episode_id: Values = None,
    ) -> pd.DataFrame:
        """Return the frame ``calls``; see `episodes`."""
        wanted = _wanted(status=status, provider=provider, model=model, episode_id=episode_id)
        return self._read(lambda to: queries.calls_of(to, self._ids(to, run_id), wanted))

    def attempts(
        self,
        run_id: RunIds = None,
        *,
        status: Values = None,
        provider: Values = None,
        model: Values = None,
        episode_id: Values = None,
    ) -> pd.DataFrame:
        """Return the frame ``attempts``; see `episodes`. The values are those of the attempts' calls."""
        wanted = _wanted(status=status, provider=provider, model=model, episode_id=episode_id)
        return self._read(lambda to: queries.attempts_of(to, self._ids(to, run_id), wanted))

    def limits(self, run_id: RunIds = None) -> pd.DataFrame:
        """Return the frame ``limits`` of one run, of several or of all; see `episodes`."""
        return self._read(lambda to: queries.limits_of(to, self._ids(to, run_id)))

    def compare(self, *run_ids: str) -> pd.DataFrame:
        """Set runs side by side.

        Returns
        -------
        DataFrame
            A row for each run in the order given: ``run_id``, the settings in which they differ, and the
            figures that are declared in ``toolkit.archive.FIGURES``. ``provider`` and ``model`` are those
            that the runs had, whatever the config named.

        Raises
        ------
        ConfigError
            If no run is named, or one is not there.
        """
        if not run_ids:
            raise ConfigError("compare which runs? write compare(ID, ID, …); runs() lists them")
        return self._read(lambda to: overview.compare_frame(to, self._ids(to, run_ids) or []))

    def delete(self, *run_ids: str) -> int:
        """Delete runs with all that is kept of them; return how many.

        Of their text nothing is left in an SQLite file, and the file gets shorter. While somebody else uses
        the file, or a run goes on, the text is overwritten where it stood, but copies may be left until the
        next deletion. PostgreSQL writes over what is deleted in its own time.

        Raises
        ------
        ConfigError
            If one is not there, or still runs; none is deleted then.
        """
        if not run_ids:
            raise ConfigError("delete which runs? write delete(ID, ID, …), or purge(older_than_days=…)")

        def delete(connection: sa.Connection) -> int:
            ids = self._ids(connection, run_ids) or []
            if running := sorted(set(ids) & set(history.running_ids(connection))):
                raise ConfigError(f"still running: {', '.join(running)}; stop it first, nothing was deleted")
            erasing.delete_runs(connection, ids)
            return len(ids)

        return self._rid(delete)

    def purge(self, older_than_days: float | None = None, texts_only: bool = False) -> int:
        """Delete old runs, or only the summaries and replies of theirs; return of how many.

        Runs that go on stay as they are. What is said of space and text in `delete` holds here too. Without
        texts the frames stay, but for the summaries; nothing of such runs can be reused.

        Parameters
        ----------
        older_than_days : float, optional
            Days since their start; 0 for all. May be left out with ``texts_only``.
        texts_only : bool
            Keep all figures.

        Raises
        ------
        ConfigError
            If the age is no number from 0 on, or none is given for whole runs.
        """
        if older_than_days is None and not texts_only:
            raise ConfigError("purge(older_than_days=…) needs an age; 0 deletes all runs")
        days = 0.0 if older_than_days is None else older_than_days
        if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days < math.inf:
            raise ConfigError(f"older_than_days={older_than_days!r} must be a number of days from 0 on")
        before = self._clock.epoch() - days * _DAY_S

        def purge(connection: sa.Connection) -> int:
            ids = erasing.older_runs(connection, before)
            if texts_only:
                return erasing.delete_texts(connection, ids)
            erasing.delete_runs(connection, ids)
            return len(ids)

        return self._rid(purge)

    def export(
        self, folder: str | Path, run_id: RunIds = None, format: Literal["csv", "parquet"] = "csv"
    ) -> Path:
        """Write the frames ``runs``, ``episodes``, ``calls``, ``attempts`` and ``limits``, a file for each.

        Files of an earlier export are replaced, and each is whole at any moment. In CSV, text from
        transcripts and models is made harmless for spreadsheets; in Parquet it stands as it is.

        Parameters
        ----------
        folder : str or Path
            Made if needed.
        run_id : str or sequence of str, optional
            By default all runs.
        format : {"csv", "parquet"}

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ConfigError
            If there is no such run or format.
        MissingDependency
            If Parquet is asked for and ``pyarrow`` is not installed.
        OSError
            If the files cannot be written.
        """
        if format not in ("csv", "parquet"):
            raise ConfigError(f"format={format!r} must be 'csv' or 'parquet'")
        if format == "parquet":
            try:
                import_module("pyarrow")
            except ImportError:
                raise MissingDependency("export to Parquet", "pyarrow", "parquet") from None
        frames = self._read(lambda to: _frames(to, self._ids(to, run_id)))
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        write_whole(
            (
                place / f"{name}.{format}",
                csv_of(frame) if format == "csv" else frame.to_parquet(engine="pyarrow", index=False),
            )
            for name, frame in frames.items()
        )
        return place

    def __repr__(self) -> str:
        try:
            held = counted(self._read(_count_runs), "run")
        except StoreError as broken:  # To be shown is no reason to fail.
            held = f"cannot be read: {broken}"
        return f"<Archive {self._address.shown}: {held}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the password, as all pickles; who loads it has its own.
        return open_store, (self._address.url,)

    def _ids(self, connection: sa.Connection, given: RunIds) -> list[str] | None:
        if given is None:
            return None
        names = [given] if isinstance(given, str) else given
        return history.find_runs(connection, names, self._address.shown)

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        from toolkit.store.opened import store_at

        # Anew each time: the file may have been replaced since.
        with store_at(self._address).reading() as connection:
            return work(connection)

    def _rid(self, work: Callable[[sa.Connection], int]) -> int:
        """Delete rows so that nothing of them is left in the file."""
        from toolkit.store.opened import store_at

        def overwriting(connection: sa.Connection) -> tuple[int, bool]:
            if connection.dialect.name != "sqlite":
                return work(connection), False
            before = connection.exec_driver_sql("PRAGMA secure_delete").scalar_one()
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
            try:
                return work(connection), bool(history.running_ids(connection))
            finally:
                connection.exec_driver_sql(f"PRAGMA secure_delete={int(before)}")

        count, busy = store_at(self._address).commit(work=overwriting)
        if self._address.path is not None:
            erasing.give_back(self._address.path, vacuum=bool(count) and not busy)
        return int(count)


def _wanted(**given: Values) -> queries.Wanted:
    return {
        name: [values] if isinstance(values, str) else None if values is None else list(values)
        for name, values in given.items()
    }


def _frames(connection: sa.Connection, ids: Sequence[str] | None) -> dict[str, pd.DataFrame]:
    return {
        "runs": overview.runs_frame(connection, ids),
        "episodes": queries.episodes_of(connection, ids, {}),
        "calls": queries.calls_of(connection, ids, {}),
        "attempts": queries.attempts_of(connection, ids, {}),
        "limits": queries.limits_of(connection, ids),
    }


def _count_runs(connection: sa.Connection) -> int:
    import sqlalchemy as sa

    from toolkit.store import schema

    return connection.execute(sa.select(sa.func.count()).select_from(schema.runs)).scalar_one()
