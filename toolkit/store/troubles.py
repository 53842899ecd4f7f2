"""What a database's own errors mean, told by their codes, and what to do about them."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError

from toolkit import postgresql
from toolkit.errors import StoreError
from toolkit.postgresql import Trouble
from toolkit.store.address import Address

TROUBLES = (DBAPIError, sqlite3.Error, OSError, OverflowError)
"""What databases and drivers raise; the last is how sqlite3 says that a number is too large."""
_ELSEWHERE = "set store_url to another file"
_CLOSED = Trouble("cannot be opened", f"check the folder and its permissions, or {_ELSEWHERE}", True)
_LOCKED = Trouble("is locked by another process", "end the process that keeps it locked", True)
_SQLITE = {
    # by the first two words of the code
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_FULL": Trouble("cannot grow: the disk is full", f"free disk space, or {_ELSEWHERE}", True),
    "SQLITE_IOERR": Trouble(
        "cannot be read or written on its disk", f"check the disk, or {_ELSEWHERE}", True
    ),
    "SQLITE_READONLY": Trouble(
        "is read-only",
        f"give yourself the right to write the file and its folder, or {_ELSEWHERE}",
        True,
    ),
    "SQLITE_PROTOCOL": Trouble("is locked by other processes", "run fewer of them", True),
    "SQLITE_NOMEM": Trouble("cannot be used: there is no memory left", "run less at once", True),
    "SQLITE_PERM": Trouble(
        "cannot be opened", f"check the folder and its permissions, or {_ELSEWHERE}", True
    ),
    "SQLITE_CANTOPEN": Trouble(
        "cannot be opened", f"check the folder and its permissions, or {_ELSEWHERE}", True
    ),
    "SQLITE_CORRUPT": Trouble(
        "is damaged",
        f"move the file away (what can be read of it: sqlite3 FILE .recover), or {_ELSEWHERE}",
        False,
    ),
    "SQLITE_NOTADB": Trouble("is no SQLite database", f"move the file away, or {_ELSEWHERE}", False),
}


class Refused(StoreError):
    """What was to be written is wrong in itself; other rows are taken as ever."""


def explain(error: Exception, address: Address) -> StoreError:
    """Return one of ``TROUBLES`` in the toolkit's terms; ``passing`` says whether to try again."""
    if isinstance(error, OSError):
        return StoreError(
            f"the store {address.shown} cannot be used ({error.strerror or error}); check the folder and its "
            f"permissions, or {_ELSEWHERE}",
            passing=True,
        )
    cause = getattr(error, "orig", None) or error
    known = _known(cause)
    if known is None and getattr(error, "connection_invalidated", False):
        known = postgresql.LOST_CONNECTION
    detail = postgresql.detail_of(cause)
    if known is None:
        return Refused(
            f"the store {address.shown} refused what was to be written ({detail}) and keeps all else; please "
            "report it"
        )
    return StoreError(
        f"the store {address.shown} {known.what} ({detail}); {known.advice}", passing=known.passing
    )


def _known(cause: BaseException) -> Trouble | None:
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorname", None) or ""
        return _SQLITE.get("_".join(code.split("_")[:2]))
    return postgresql.trouble_of(cause, "store_url")
