"""Addresses that settings hold: checked, compared, parted from their passwords, and shown without them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

MEMORY = "memory://"
SQLITE = "sqlite:///"
POSTGRESQL = "postgresql+psycopg://"
DATABASES = {"store_url": "store_password", "limits_url": "limits_password"}
"""Settings that are addresses of databases, and those that are their passwords."""

# Special characters stand escaped, or an address would not be read here as it is read further down: where a
# password holds "@", the driver takes what follows for the name of the host, and shows it.
_DATABASE = re.compile(
    r"""
    (?: (?P<user> [^:/?#@]*) (?: : (?P<password> [^/?#@]*) )? @ )?
    (?P<host> \[ [0-9A-Fa-f:.]+ \] | [^:/?#@\[\]]* )
    (?: : (?P<port> [^/?#@]*) )?
    / (?P<name> [^/?#@]+ )
    (?: \? (?P<query> [^#@]*) )?
    """,
    re.VERBOSE,
)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORTS = range(1, 65536)
_POSTGRESQL_PORT = 5432
# Those of libpq's parameters that are no secret and say nothing that the address says already. Whatever else
# stands there could be a password under a misspelt name.
_PARAMETERS = frozenset(
    [
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "gssencmode",
        "host",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "krbsrvname",
        "load_balance_hosts",
        "options",
        "passfile",
        "sslcert",
        "sslcertmode",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
    ]
)
_MALFORMED = (
    f"is no {POSTGRESQL}USER@HOST:PORT/DB, in which @ : / ? # % of a name or password are written as "
    "%40 %3A %2F %3F %23 %25"
)


@dataclass(frozen=True, slots=True)
class _Database:
    """A database on a server: its address without the password, the password, and where it leads."""

    url: str
    password: str | None
    place: tuple[object, ...]


def check_server_url(name: str, url: str) -> None:
    """Refuse an address that is none, or that holds a secret which would be shown wherever it is shown.

    Raises
    ------
    ValueError
        With a sentence for the user that begins with the name of the setting.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = urlsplit("")
    if not host:
        raise ValueError(f"{name} is no address; write http://HOST:PORT/PATH or https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError(f"{name} must hold no user name and no password; keys have settings of their own")
    if parts.query or parts.fragment:
        raise ValueError(f"{name} must end with its path, without '?' or '#'")


def check_database_url(url: str, password: str) -> None:
    """Refuse what is no address of a database, or holds its password, whose setting is given.

    Raises
    ------
    ValueError
        With the end of a sentence for the user, in which nothing of the address stands.
    """
    if url == MEMORY or (url.startswith(SQLITE) and url != SQLITE):
        return
    if not url.startswith(POSTGRESQL):
        raise ValueError(f"is none of {MEMORY}, {SQLITE}PATH and {POSTGRESQL}USER@HOST:PORT/DB")
    if _read_database(url, password).url != url:
        raise ValueError(f"must hold no password; it has a setting of its own, {password}")


def split_password(url: str) -> tuple[str, str | None]:
    """Return the address of a database without its password, and the password, decoded, or None.

    What is no address is returned as it is: that it is none, ``check_database_url`` says.
    """
    database = _database_or_none(url)
    return (url, None) if database is None else (database.url, database.password)


def same_place(one: object, other: object) -> bool:
    """Whether two addresses, of which either may be none, lead one user to one database.

    Host, port, user and database count, and of the parameters those that lead to another host.
    """
    if one == other:
        return True
    first, second = (_database_or_none(url) if isinstance(url, str) else None for url in (one, other))
    return first is not None and second is not None and first.place == second.place


def hide_passwords(text: str) -> str:
    """Mask whatever may be a password before the host of an address, however malformed the address is."""
    return re.sub(r"//.*@", "//***@", text, flags=re.DOTALL)


def show_scheme(value: object) -> str:
    """Return the beginning of an address of a database; what is malformed may hold a password anywhere."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value) if isinstance(value, str) else None
    return repr(f"{scheme[0]}…") if scheme else "…"


def _database_or_none(url: str) -> _Database | None:
    try:
        return _read_database(url) if url.startswith(POSTGRESQL) else None
    except ValueError:
        return None


def _read_database(url: str, password: str = "") -> _Database:
    rest = url.removeprefix(POSTGRESQL)
    parts = _DATABASE.fullmatch(rest)
    if parts is None or any(letter.isspace() or not letter.isprintable() for letter in rest):
        raise ValueError(_MALFORMED)
    port = parts["port"]
    if port is not None and not (re.fullmatch("[0-9]{1,5}", port) and int(port) in _PORTS):
        raise ValueError(f"must name a port from {_PORTS[0]} to {_PORTS[-1]}, or none")
    query = parse_qsl(parts["query"] or "", keep_blank_values=True)
    if any(name.lower() == "password" for name, _ in query):
        raise ValueError(f"must hold no password after '?'; set {password} (TOOLKIT_{password.upper()})")
    if not {name for name, _ in query} <= _PARAMETERS:
        raise ValueError(f"takes after '?' only {', '.join(sorted(_PARAMETERS))}")
    user, name = _decode(parts["user"] or ""), _decode(parts["name"])
    hosts = tuple(sorted(pair for pair in query if pair[0] in ("host", "hostaddr")))
    return _Database(
        url=POSTGRESQL + (f"{parts['user']}@" if user else "") + rest[parts.start("host") :],
        password=_decode(parts["password"] or "") or None,
        place=(user, parts["host"].lower(), int(port or _POSTGRESQL_PORT), name, hosts),
    )


def _decode(part: str) -> str:
    try:
        decoded = unquote(part, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if _STRAY_PERCENT.search(part) or "\0" in decoded:
        raise ValueError(f"{_MALFORMED}, and other letters in UTF-8")
    return decoded
