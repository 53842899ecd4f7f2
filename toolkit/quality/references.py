"""Which references an episode has, and of which kind each is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from toolkit.errors import ConfigError, nearest_name
from toolkit.records import Episode

References = Mapping[str, str] | Mapping[str, Mapping[str, str]]
"""Episode id -> reference, or kind -> episode id -> reference."""

UNSTATED = "unstated"
"""Kind of the references of which nothing is said."""


def references_of(
    episodes: Sequence[Episode], references: References | None, kind: str | Mapping[str, str] | None
) -> dict[str, dict[str, str]]:
    """Sort references by episode and kind.

    Parameters
    ----------
    episodes : sequence of Episode
    references : mapping, optional
        Episode id -> text, or kind -> episode id -> text; by default each episode's own.
    kind : str or mapping, optional
        The kind of all of them, or episode id -> kind.

    Returns
    -------
    dict
        Episode id -> kind -> text, without blank texts; the kinds in the order in which they are given.

    Raises
    ------
    ConfigError
        If a reference is for no episode here, one has no kind where others have, or kinds are stated twice.
    """
    if references is None:
        references = {episode.id: episode.reference or "" for episode in episodes}
    if any(isinstance(value, Mapping) for value in references.values()):
        by_kind = _nested(references)
        if kind is not None:
            raise ConfigError("references already come by kind; leave out kind=")
    else:
        by_kind = _by_kind({name: str(text) for name, text in references.items() if _said(text)}, kind)
    found: dict[str, dict[str, str]] = {episode.id: {} for episode in episodes}
    for name_of_kind, texts in by_kind.items():
        _check_ids(texts, found)
        for episode_id, text in texts.items():
            if _said(text):
                found[episode_id][name_of_kind] = text
    return found


def _nested(references: Mapping[str, object]) -> dict[str, dict[str, str]]:
    by_kind: dict[str, dict[str, str]] = {}
    for name, texts in references.items():
        if not isinstance(texts, Mapping):
            raise ConfigError(
                f"references: {name!r} holds a text where others hold texts by episode; give either "
                "{episode id: text} or {kind: {episode id: text}}"
            )
        by_kind[name] = {str(episode_id): text for episode_id, text in texts.items()}
    return by_kind


def _by_kind(texts: Mapping[str, str], kind: str | Mapping[str, str] | None) -> dict[str, dict[str, str]]:
    by_kind: dict[str, dict[str, str]] = {}
    for episode_id, text in texts.items():
        own = kind.get(episode_id) if isinstance(kind, Mapping) else UNSTATED if kind is None else kind
        if not isinstance(own, str) or not own.strip():
            raise ConfigError(
                f"kind: the reference of episode {episode_id!r} has none ({own!r}); state one for each, "
                "since kinds are never averaged together"
            )
        by_kind.setdefault(own, {})[episode_id] = text
    return by_kind


def _check_ids(given: Iterable[str], ids: Mapping[str, object]) -> None:
    for name in given:
        if name not in ids:
            raise ConfigError(f"references: there is no episode {name!r}; {nearest_name(name, ids)}")


def _said(text: object) -> bool:
    """Say whether there is a text: tables have NaN where there is none."""
    return isinstance(text, str) and bool(text.strip())
