"""Where settings come from besides the program, the environment and a command line, and which go first."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from toolkit.errors import ConfigError, nearest_name
from toolkit.urls import DATABASES, same_place, show_scheme, split_password

ENVIRONMENT_PREFIX = "TOOLKIT_"
ENVIRONMENT_ALIASES = {
    "OPENAI_API_KEY": "openai_api_key",
    "OPENAI_BASE_URL": "openai_base_url",
    "AZURE_OPENAI_API_KEY": "azure_api_key",
    "AZURE_OPENAI_ENDPOINT": "azure_endpoint",
    "ANTHROPIC_API_KEY": "anthropic_api_key",
    "ANTHROPIC_BASE_URL": "anthropic_base_url",
}
"""Names that the vendors' own tools read, and the fields that they fill."""
CACHE_VARIABLE = ENVIRONMENT_PREFIX + "CACHE"
"""Names the folder of converted copies of models: a matter of the machine, and no setting of a run."""


class ConfigWarning(UserWarning):
    """A setting has no effect, or means something else than an older version's."""


def parse_setting(assignment: str) -> tuple[str, Any]:
    """Split ``name=value``, as typed at a command line.

    The value is read as TOML (``4``, ``0.5``, ``true``, ``"text"``); what is no TOML is taken as text.

    Raises
    ------
    ConfigError
        If there is no ``=``.
    """
    name, equals, value = assignment.partition("=")
    if not equals or not name.strip() or "//" in name:
        # An address, of which a part may be a password, is often what somebody forgot the name of.
        shown = show_scheme(assignment) if "//" in assignment else repr(assignment)
        raise ConfigError(f"{shown} is no setting; write name=value")
    name, value = name.strip(), value.strip()
    try:
        table = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return name, value
    # Text of several lines may look like one value and further settings.
    return name, table["value"] if len(table) == 1 else value


def from_environment(
    environment: Mapping[str, str], given: Mapping[str, Any], fields: Iterable[str]
) -> dict[str, str]:
    """Return the settings that the environment holds; an empty variable counts as unset.

    ``given`` are the settings of the program, ``fields`` the names of all that there are. A machine that is
    set up for Azure as well must not have its requests to OpenAI, or to a server of one's own, sent to Azure
    instead.
    """
    found = {field: environment[name] for name, field in ENVIRONMENT_ALIASES.items() if environment.get(name)}
    if any({**found, **given}.get(name) for name in ("openai_api_key", "openai_base_url")):
        found.pop("azure_endpoint", None)
    if given.get("azure_endpoint"):
        found.pop("openai_base_url", None)
    for name in fields:
        if value := environment.get(ENVIRONMENT_PREFIX + name.upper()):
            found[name] = value
    return found


def merge_settings(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of several sources, of which the later go before the earlier.

    A password that stands in the address of a database becomes a setting of its own, such as
    ``store_password``. It is for that address alone: where a later source names another, it is left out. One
    that is given by itself goes with any address.

    Raises
    ------
    ConfigError
        If one source holds two passwords.
    """
    merged: dict[str, Any] = {}
    bound: set[str] = set()
    for source in sources:
        settings = dict(source)
        for url, password in DATABASES.items():
            address, given, inside = settings.get(url), settings.get(password), None
            if isinstance(address, str):
                settings[url], inside = split_password(address)
            if inside is not None:
                if given and _plain(given) != inside:
                    wrong = f"{url} holds another password than {password}; leave one of them out"
                    raise ConfigError(wrong, [url, password])
                settings[password] = inside
            elif url in bound and url in settings and not same_place(merged[url], settings[url]):
                del merged[password]
                bound.discard(url)
            if password in settings:
                (bound.add if inside is not None and not given else bound.discard)(url)
        merged.update(settings)
    return merged


def variable_of(field: str, environment: Mapping[str, str]) -> str | None:
    """Return the variable of the environment that holds a field, if any does."""
    own = ENVIRONMENT_PREFIX + field.upper()
    if environment.get(own):
        return own
    aliases = (
        name for name, filled in ENVIRONMENT_ALIASES.items() if filled == field and environment.get(name)
    )
    return next(aliases, None)


def warn_of_unknown(environment: Mapping[str, str], fields: Iterable[str]) -> None:
    """Say so if a variable is meant for the toolkit and names no setting."""
    known = {CACHE_VARIABLE, *(ENVIRONMENT_PREFIX + name.upper() for name in fields)}
    for name in environment:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            warnings.warn(
                f"{name} stands in the environment and is no setting; {nearest_name(name, known)}",
                ConfigWarning,
                stacklevel=3,
            )


def _plain(secret: object) -> object:
    reveal = getattr(secret, "get_secret_value", None)
    return reveal() if reveal else secret
