"""Where a store is: the URL of the config, or the project's own file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import ConfigError

MEMORY = "memory://"
_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg://"
_PROJECT_MARKS = (".git", "pyproject.toml", ".toolkit")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is.

    Attributes
    ----------
    url : str
        ``memory://``, ``sqlite:///PATH`` with an absolute path, or a PostgreSQL URL without its password.
    path : Path or None
        The file of an SQLite store.
    password : str or None
        Of the database; in no repr and in no message.
    """

    url: str
    path: Path | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The file, or the URL, for messages."""
        return self.url if self.path is None else str(self.path)


def read_address(store_url: str | None = None, password: str | None = None) -> Address:
    """Read the address that a config names; None is the project's own file.

    Raises
    ------
    ConfigError
        If the URL is of another kind.
    """
    if store_url is None:
        return _file(default_path())
    if store_url == MEMORY:
        return Address(MEMORY)
    if store_url.startswith(_SQLITE) and store_url != _SQLITE:
        return _file(Path(store_url.removeprefix(_SQLITE)).expanduser())
    if store_url.startswith(_POSTGRESQL):
        return Address(store_url, password=password)
    raise ConfigError(
        "store_url must be memory://, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
    )


def _file(path: Path) -> Address:
    path = path.absolute()
    return Address(f"{_SQLITE}{path}", path)


def default_path(folder: Path | None = None) -> Path:
    """Return ``.toolkit/runs.db`` in the nearest project root from a folder upwards, else in the folder.

    A project root holds ``.git``, ``pyproject.toml`` or a ``.toolkit`` of its own. The user's home is none,
    whatever it holds, and nothing above it: runs of unrelated projects would meet there.
    """
    folder = (folder or Path.cwd()).absolute()
    home = Path.home()
    for place in (folder, *folder.parents):
        if place == home:
            break
        if any((place / mark).exists() for mark in _PROJECT_MARKS):
            return place / ".toolkit" / "runs.db"
    return folder / ".toolkit" / "runs.db"
