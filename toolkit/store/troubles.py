"""What a database's own errors mean, told by their codes, and what to do about them."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError

from toolkit.errors import StoreError
from toolkit.store.address import Address

TROUBLES = (DBAPIError, sqlite3.Error, OSError, OverflowError)
"""What databases and drivers raise; the last is how sqlite3 says that a number is too large."""
_ELSEWHERE = "set store_url to another file"
_SQLITE = {
    # code without what follows its first two words: what is wrong, what to do, whether it may pass
    "SQLITE_BUSY": ("is locked by another process", "end the process that keeps it locked", True),
    "SQLITE_LOCKED": ("is locked by another process", "end the process that keeps it locked", True),
    "SQLITE_FULL": ("cannot grow: the disk is full", f"free disk space, or {_ELSEWHERE}", True),
    "SQLITE_IOERR": ("cannot be read or written on its disk", f"check the disk, or {_ELSEWHERE}", True),
    "SQLITE_READONLY": (
        "is read-only",
        f"give yourself the right to write the file and its folder, or {_ELSEWHERE}",
        True,
    ),
    "SQLITE_PROTOCOL": ("is locked by other processes", "run fewer of them", True),
    "SQLITE_NOMEM": ("cannot be used: there is no memory left", "run less at once", True),
    "SQLITE_PERM": ("cannot be opened", f"check the folder and its permissions, or {_ELSEWHERE}", True),
    "SQLITE_CANTOPEN": ("cannot be opened", f"check the folder and its permissions, or {_ELSEWHERE}", True),
    "SQLITE_CORRUPT": (
        "is damaged",
        f"move the file away (what can be read of it: sqlite3 FILE .recover), or {_ELSEWHERE}",
        False,
    ),
    "SQLITE_NOTADB": ("is no SQLite database", f"move the file away, or {_ELSEWHERE}", False),
}
_POSTGRESQL = {
    # by SQLSTATE or its class
    "08": ("cannot be reached", "see that the server runs and the address is right", True),
    "25": ("is read-only", "set store_url to the server that takes writes", True),
    "28": (
        "refuses the user or the password",
        "set store_password (TOOLKIT_STORE_PASSWORD), PGPASSWORD or ~/.pgpass",
        False,
    ),
    "3D": ("does not exist on the server", "make it with: createdb NAME", False),
    "40": ("asks to do a transaction again", "nothing: it is done again", True),
    "42501": ("does not let this user do that", "give the user the right to make and write tables", False),
    "53": ("has no room left", "free disk space or connections on the server", True),
    "55": ("is locked by another session", "end the session that keeps it locked", True),
    "57014": ("broke off what was to be done", "see why: a statement_timeout, an administrator", True),
    "57": ("is shutting down or starting", "see that the server runs", True),
    "58": ("cannot be read or written on its disk", "check the server's disk", True),
    "XX": ("is damaged", "look into the server's log", False),
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
        known = _POSTGRESQL["08"]
    # A server's further words may hold a whole row.
    detail = getattr(getattr(cause, "diag", None), "message_primary", None) or " ".join(str(cause).split())
    if known is None:
        return Refused(
            f"the store {address.shown} refused what was to be written ({detail}) and keeps all else; please "
            "report it"
        )
    what, advice, passing = known
    return StoreError(f"the store {address.shown} {what} ({detail}); {advice}", passing=passing)


def _known(cause: BaseException) -> tuple[str, str, bool] | None:
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorname", None) or ""
        return _SQLITE.get("_".join(code.split("_")[:2]))
    state = getattr(cause, "sqlstate", None)
    if state:
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    # No connection was made, or it broke, and there is nobody who could give a state. Of a password that
    # is refused psycopg gives none either, and only the server's words tell.
    if type(cause).__name__ != "OperationalError":
        return None
    words = str(cause)
    if "authentication failed" in words or "no password supplied" in words:
        return _POSTGRESQL["28"]
    if 'database "' in words and "does not exist" in words:
        return _POSTGRESQL["3D"]
    return _POSTGRESQL["08"]
