"""What the toolkit's functions are given, checked where it comes in: what is wrong is said in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any, Literal, overload

from toolkit.errors import ConfigError
from toolkit.harmless import whole_characters
from toolkit.records import Episode

MOST_TOKENS = 10**8
"""Of an episode of which only the tokens are known."""


def check_kind(name: str, value: object, kind: type | tuple[type, ...], write: str) -> None:
    """Refuse an argument that is of no such kind; ``write`` says what to give in its place.

    The value itself is not shown: it may hold a key.

    Raises
    ------
    ConfigError
    """
    # A class has the methods of a protocol and is still none of its objects.
    if isinstance(value, type):
        raise ConfigError(f"{name}= is the class {value.__name__} itself; {write}")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ConfigError(f"{name}= is of type {type(value).__name__}; {write}")


@overload
def read_episodes(episodes: Iterable[Episode]) -> Iterator[Episode]: ...


@overload
def read_episodes(episodes: Iterable[Episode | int], *, sizes: Literal[True]) -> Iterator[Episode | int]: ...


def read_episodes(episodes: Iterable[Any], *, sizes: bool = False) -> Iterator[Any]:
    """Return the episodes one by one, as they are asked for.

    Parameters
    ----------
    episodes : iterable of Episode
        A list, or a generator.
    sizes : bool
        Whether whole numbers may stand among them, each for an episode of so many tokens.

    Raises
    ------
    ConfigError
        At once, if this is nothing that holds several; on the way, at what is no episode, and at an id that
        came before.
    """
    if isinstance(episodes, str | bytes | Mapping | Episode) or not isinstance(episodes, Iterable):
        numbers = " or of whole numbers, their tokens" if sizes else ""
        raise ConfigError(
            f"episodes must be a list of Episode objects{numbers}; read files with load_episodes(...)"
        )
    return _each(episodes, sizes)


def _each(episodes: Iterable[Any], sizes: bool) -> Iterator[Any]:
    seen: set[str] = set()
    for number, episode in enumerate(episodes):
        if isinstance(episode, Episode):
            name = episode.id
        elif sizes and _is_size(episode):
            name, episode = f"e{number}", int(episode)
        else:
            shown = repr(episode) if isinstance(episode, int | float) else type(episode).__name__
            size = f", and no whole number of tokens from 0 to {MOST_TOKENS:,}" if sizes else ""
            raise ConfigError(
                f"{shown} is no Episode{size}; use load_episodes(...) or Episode.from_text(id, text)"
            )
        kept_as = whole_characters(name).replace("\0", "\ufffd")
        if kept_as in seen:
            raise ConfigError(f"two episodes have the id {name!r}; ids must differ within a run")
        seen.add(kept_as)
        yield episode


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= MOST_TOKENS
