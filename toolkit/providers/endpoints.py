"""Where a hosted model is reached and with what key: checked before the first call, and never shown."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from toolkit.errors import AuthenticationFailed, ConfigError

PLACEHOLDER_KEY = "unused"
"""What servers of one's own are sent where no key is set: the vendors' libraries insist on one."""

# Not a secret: it keeps the digest of a key from being found in tables of digests that others made.
_DIGEST_SALT = b"episode-toolkit quota key"
_SHORTEST_PIECE = 8
"""Pieces of a key from this length on are masked; a vendor's message may repeat its beginning and end."""
_KEY_SHAPED = re.compile(r"\bsk-[\w.…-]{4,}|[\w.-]*\*{3,}[\w.*-]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a server.

    Attributes
    ----------
    url : str
        Without user name, password, query and the slash at the end.
    scheme, host : str
        Lower-case.
    port : int
    """

    url: str
    scheme: str
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether what is sent there does not leave this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return address.is_loopback

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"


def read_endpoint(setting: str, url: str) -> Endpoint:
    """Read the address that a setting holds; ``Config`` has checked that it is one.

    Raises
    ------
    ConfigError
        If it holds a user name or is no address after all.
    """
    parts = urlsplit(url)
    if not parts.hostname or "@" in parts.netloc or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{setting} is no address; write https://HOST/PATH")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    host = parts.hostname.lower()
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{parts.port}" if parts.port else ""
    return Endpoint(f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}", parts.scheme, host, port)


def check_key(
    key: str | None, endpoint: Endpoint, *, provider: str, names: str, allow_insecure_http: bool
) -> str:
    """Return the key to send.

    Parameters
    ----------
    key : str or None
    endpoint : Endpoint
    provider : str
    names : str
        The settings and variables that hold the key, for the message.
    allow_insecure_http : bool

    Raises
    ------
    AuthenticationFailed
        If there is none and the server is not on this machine.
    ConfigError
        If it would go over the network in the open, or no header can hold it.
    """
    if not key:
        if endpoint.loopback:
            return PLACEHOLDER_KEY
        raise AuthenticationFailed(f"{endpoint.host} needs a key; set {names}", provider=provider)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"the key in {names} holds blanks, line ends or letters that no key has")
    if endpoint.scheme == "http" and not endpoint.loopback and not allow_insecure_http:
        raise ConfigError(
            f"{endpoint.place} is reached over http, where the key could be read on the way; use https, or "
            "set allow_insecure_http=True where the network is your own"
        )
    return key


def digest_key(key: str) -> str:
    """Return a digest that tells accounts apart, equal in all processes; the key cannot be read back."""
    return hashlib.blake2b(key.encode(), key=_DIGEST_SALT, digest_size=9).hexdigest()


def mask(text: str, key: str) -> str:
    """Take a key, pieces of it, and what else looks like one, out of a text."""
    if len(key) >= _SHORTEST_PIECE:
        start = 0
        while start + _SHORTEST_PIECE <= len(text):
            length = 0
            while start + length < len(text) and text[start : start + length + 1] in key:
                length += 1
            if length >= _SHORTEST_PIECE:
                text = f"{text[:start]}***{text[start + length :]}"
                start += 3
            else:
                start += 1
    elif len(key) > 3 and key != PLACEHOLDER_KEY:
        text = text.replace(key, "***")
    return _KEY_SHAPED.sub("***", text)


def scrub(error: BaseException, key: str) -> None:
    """Mask a key in the words of an exception and of those behind it, which a traceback would print."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        words = tuple(mask(part, key) if isinstance(part, str) else part for part in link.args)
        if words != link.args:
            link.args = words
        message = getattr(link, "message", None)
        if isinstance(message, str) and mask(message, key) != message:
            link.message = mask(message, key)  # type: ignore[attr-defined]
        link = link.__cause__ or link.__context__
