"""Which names are one speaker's: a file introduces her by a long one and goes on with a short one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable

from toolkit.transcripts.clean import one_line

_ABBREVIATED = re.compile(r"(.+?)\s*\(([^\W\d_][\w.]{0,4})\)")
_INNERMOST = re.compile(r"\s*\([^()]*\)")
# Not "Ann and Bob", "Speaker 1", "Grad C" or "Ann B.", beside which there may well be another Ann.
_FULL_NAME = re.compile(
    r"(?!.* (?:and|et|und|with|y) )"
    r"(?P<first>[^\W\d_][\w'’-]+)(?: [^\s\d&+/,()]+)*? [^\W\d_][\w'’-]*[^\W\d_]\.?"
)


def one_name_each(names: Iterable[str]) -> dict[str, str]:
    """Choose the name under which each speaker is shown.

    Parameters
    ----------
    names : iterable of str
        The speakers of one file.

    Returns
    -------
    dict of str to str
        Name in the file -> name to show. ``Ann Bell (AB)`` and ``AB`` become ``Ann Bell``, so does
        ``Ann Bell (The Mill)`` beside ``Ann Bell``, and so does ``Ann`` if only one full name begins with it.
    """
    shown = {name: name for name in names}
    for name in list(shown):
        if match := _ABBREVIATED.fullmatch(name):
            full, short = match[1], match[2]
            initials = "".join(word[0] for word in re.split(r"[\s-]+", full) if word[0].isupper())
            if short in shown or short.replace(".", "") == initials:
                shown[name] = shown[short] = full
    remarked = _with_one_value((_without_remark(name, shown), name) for name in shown)
    for bare, name in remarked.items():
        shown[name] = shown.get(bare, shown[name])
    people = set(shown.values())
    full_names = _with_one_value(
        (match["first"], name) for name in people if (match := _FULL_NAME.fullmatch(name))
    )
    return {name: full_names.get(chosen, chosen) for name, chosen in shown.items()}


def _without_remark(name: str, known: Collection[str]) -> str:
    """Take remarks in parentheses off until that is another known name; empty if it never is."""
    bare = name
    while (shorter := one_line(_INNERMOST.sub("", bare))) != bare:
        bare = shorter
        if bare in known:
            return bare
    return ""


def _with_one_value(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    values = defaultdict(set)
    for key, value in pairs:
        values[key].add(value)
    return {key: min(some) for key, some in values.items() if len(some) == 1}
