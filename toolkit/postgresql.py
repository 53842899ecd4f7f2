"""What PostgreSQL's errors mean, told by their codes, and what to do about them."""

from __future__ import annotations

from typing import NamedTuple

from toolkit.urls import DATABASES


class Trouble(NamedTuple):
    """What is wrong with a database.

    Attributes
    ----------
    what : str
        The end of a sentence about it.
    advice : str
        What to do.
    passing : bool
        Whether it may be over a moment later.
    """

    what: str
    advice: str
    passing: bool


_TROUBLES = {
    # by SQLSTATE or its class
    "08": Trouble("cannot be reached", "see that the server runs and the address is right", True),
    "25": Trouble("is read-only", "set {url} to the server that takes writes", True),
    "28": Trouble(
        "refuses the user or the password", "set {password} ({variable}), PGPASSWORD or ~/.pgpass", False
    ),
    "3D": Trouble("does not exist on the server", "make it with: createdb NAME", False),
    "40": Trouble("asks to do a transaction again", "nothing: it is done again", True),
    "42501": Trouble(
        "does not let this user do that", "give the user the right to make and write tables", False
    ),
    "53": Trouble("has no room left", "free disk space or connections on the server", True),
    "55": Trouble("is locked by another session", "end the session that keeps it locked", True),
    "57014": Trouble("broke off what was to be done", "see why: a statement_timeout, an administrator", True),
    "57": Trouble("is shutting down or starting", "see that the server runs", True),
    "58": Trouble("cannot be read or written on its disk", "check the server's disk", True),
    "XX": Trouble("is damaged", "look into the server's log", False),
}
LOST_CONNECTION = _TROUBLES["08"]


def trouble_of(cause: BaseException, setting: str) -> Trouble | None:
    """Return what an error of psycopg's means; None if that is not known.

    Parameters
    ----------
    cause : Exception
    setting : str
        The one that holds the address of the database.
    """
    state = getattr(cause, "sqlstate", None)
    if state:
        code = state if state in _TROUBLES else state[:2]
    elif type(cause).__name__ == "OperationalError":
        code = _without_state(str(cause))
    else:
        return None
    known = _TROUBLES.get(code)
    password = DATABASES[setting]
    return known and known._replace(
        advice=known.advice.format(url=setting, password=password, variable=f"TOOLKIT_{password.upper()}")
    )


def _without_state(words: str) -> str:
    """Tell by the server's words, where no connection was made or it broke, and nobody gives a state."""
    if "authentication failed" in words or "no password supplied" in words:
        return "28"
    if 'database "' in words and "does not exist" in words:
        return "3D"
    return "08"


def detail_of(cause: BaseException) -> str:
    """Return an error's own words in one line; a server's further ones may hold a whole row."""
    return getattr(getattr(cause, "diag", None), "message_primary", None) or " ".join(str(cause).split())
