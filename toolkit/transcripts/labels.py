"""Which of the things that stand before a colon are speakers.

A line such as ``Here is the thing: it works`` looks like ``Ann: it works``. One line cannot tell them apart,
the whole file can: speakers come back, begin the file, or open a good part of its lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from toolkit.transcripts.clean import one_line

LONGEST_LABEL = 90
"""Characters; members of parliament with riding and party come close."""

_PARTICLE = re.compile(
    r"af|al|and|bin|da|dal|de|del|della|den|der|des|di|dos|du|e|el|et|ibn|la|las|"
    r"le|los|of|o|ter|the|to|und|v|van|vom|von|y|zu|zum|zur",
    re.IGNORECASE,
)
# Words that begin a sentence with a colon in it, not a name.
_SENTENCE_START = re.compile(
    r"a|also|an|and|another|as|at|because|before|but|by|finally|for|from|he|her|here|"
    r"hey|his|how|i|if|in|is|it|its|just|let|like|many|maybe|me|more|most|my|next|no|"
    r"not|now|of|oh|ok|okay|on|once|one|or|our|right|she|so|some|that|then|there|"
    r"these|they|thing|this|those|to|two|three|we|well|what|when|where|which|who|why|"
    r"with|yeah|yes|you|your",
    re.IGNORECASE,
)
_SECTION_NAME = re.compile(
    r"ad|ads|advert|advertisement|answers|basically|best|bonus|break|caution|cons|credits|"
    r"example|examples|fact|fair|first|fourth|fifth|footnote|goal|hint|idea|important|intro|"
    r"introduction|jingle|last|later|lesson|links|meaning|music|next|note|notes|outro|"
    r"outcome|point|problem|pros|quote|reason|recap|remember|result|rule|second|section|"
    r"solution|source|sources|spoiler|sponsor|sponsors|step|summary|third|tip|today|tomorrow|"
    r"topic|transcript|translation|truth|update|verdict|warning|yesterday",
    re.IGNORECASE,
)
_NOT_IN_NAMES = re.compile(r"[?!;:=<>{}|\\/\"“”]|https?:|\.\.\.|…")
_PARENTHESES = re.compile(r"\([^()]*\)")
_ABBREVIATED = re.compile(r"(.+?)\s*\(([^\W\d_][\w.]{0,4})\)")


def speaker_names(labels: Sequence[str | None], *, marked: bool = False) -> dict[str, str]:
    """Tell the speakers among the possible labels of a file.

    Parameters
    ----------
    labels : sequence of str or None
        What each line (cue) of the file has in the place of a label, in order; None where nothing is.
    marked : bool
        The place is one that hardly anything but a label takes, such as bold type or before a time.

    Returns
    -------
    dict of str to str
        Label as written -> name of the speaker. ``AB`` becomes ``Ann Bell`` where the file introduces her
        as ``Ann Bell (AB)``.
    """
    counts = Counter(label for label in labels if label is not None)
    named = {label for label in counts if is_name(label)}
    if marked:
        accepted = {
            label for label in counts if label in named or (counts[label] > 1 and is_name(label.title()))
        }
    else:
        accepted = _accepted(counts, named, labels)
    return _full_names(accepted)


def is_name(label: str) -> bool:
    """Say whether a label may be a name or a role: capitals, not too many words, no sentence."""
    if not 0 < len(label) <= LONGEST_LABEL or _NOT_IN_NAMES.search(label):
        return False
    bare = label
    while (shorter := _PARENTHESES.sub(" ", bare)) != bare:
        bare = shorter
    words = bare.replace(",", " ").split()
    if not 0 < len(words) <= 7 or "(" in bare or ")" in bare:
        return False
    if len(words) == 1 and len(words[0]) == 1:
        return words[0].isupper()  # Q and A, or initials
    if _SENTENCE_START.fullmatch(words[0].strip(".’'")) or _SECTION_NAME.fullmatch(bare.strip()):
        return False
    return _is_capital(words[0]) and all(
        _is_capital(word) or _PARTICLE.fullmatch(word) or word in "&+-–" for word in words
    )


def _is_capital(word: str) -> bool:
    first = word.lstrip("'’@#.[")[:1]
    return first.isupper() or first.isdigit() or (first.isalpha() and not first.islower())


def _accepted(counts: Counter[str], named: set[str], labels: Sequence[str | None]) -> set[str]:
    share = sum(counts[label] for label in named) / max(1, len(labels))
    recurring = {label for label in named if counts[label] > 1}
    # Short files: most lines are labelled, though no speaker need have come back.
    dialogue = share >= 0.5
    begins = bool(labels) and labels[0] in named
    if not dialogue and not (recurring and (begins or len(recurring) > 1 or share >= 0.2)):
        return set()
    first_names = {word for label in recurring for word in label.split()}
    accepted = {
        label
        for label in named
        if label in recurring or dialogue or len(label.split()) > 1 or label in first_names
    }
    if dialogue:
        return accepted
    return accepted | {
        label for label in counts if counts[label] > 2 and re.fullmatch(r"[^\W\d_]+ ?\d*", label)
    }


def _full_names(accepted: Iterable[str]) -> dict[str, str]:
    names = {label: one_line(label.strip("[]")) for label in accepted}
    for label in list(names):
        if not (match := _ABBREVIATED.fullmatch(label)):
            continue
        full, short = match[1], match[2]
        initials = "".join(word[0] for word in re.split(r"[\s-]+", full) if word[0].isupper())
        if short in names or short.replace(".", "") == initials:
            names[label] = names[short] = full
    return names
