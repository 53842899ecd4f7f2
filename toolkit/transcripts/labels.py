"""Which of the things that stand before a colon are speakers.

A line such as ``Here is the thing: it works`` looks like ``Ann: it works``. One line cannot tell them apart,
the whole file can: speakers come back, begin the file, or open a good part of its lines. The less a label
looks like a name, the more of that it takes:

=================================  ========================================================================
label                              is a speaker
=================================  ========================================================================
``Ann Bell``, ``Audience member``  in a file of dialogue, or where it comes back
``An Nguyen``, ``Right Hon. Lee``  so if it comes back (or ``An`` does), or nearly every line has a label
``An``, ``So``                     so if it comes back, and often or where nearly every line has a label
``host``, ``spk_0``, ``ann bell``  so if it comes back, and nearly every line has a label, or such labels
                                   open most lines or the file
=================================  ========================================================================
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from toolkit.transcripts.clean import one_line

LONGEST_LABEL = 120
"""Characters; a minister with all that she is minister of has nearly a hundred."""

_MOST = 0.5
_NEARLY_ALL = 0.8

_PARTICLE = re.compile(
    r"af|al|and|bin|da|dal|de|del|della|den|der|des|di|dos|du|e|el|et|ibn|la|las|"
    r"le|los|of|o|ter|the|to|und|v|van|vom|von|y|zu|zum|zur",
    re.IGNORECASE,
)
# Words that begin a sentence with a colon in it, more often than a name.
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
    r"introduction|jingle|last|later|lesson|links|meaning|music|next|note|notes|one|outro|"
    r"outcome|point|problem|pros|quote|reason|recap|remember|result|rule|second|section|"
    r"solution|source|sources|spoiler|sponsor|sponsors|step|summary|third|three|tip|today|tomorrow|"
    r"topic|transcript|translation|truth|two|update|verdict|warning|yesterday",
    re.IGNORECASE,
)
_ROLE = re.compile(r"audience|caller|chair|guest|host|members?|speakers?|student|voices?", re.IGNORECASE)
_UNCAPITALIZED = re.compile(r"\[?[^\W\d_][\w'’-]*(?: [\w'’-]+){0,2}\]?")
_NOT_IN_NAMES = re.compile(r"[?!;:=<>{}|\\/\"“”]|https?:|\.\.\.|…")
_PARENTHESES = re.compile(r"\([^()]*\)")


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
        Label as written -> name of the speaker.
    """
    counts = Counter(label for label in labels if label is not None)
    likely = likely_names(labels)
    if marked:
        accepted = likely | {label for label in counts if counts[label] > 1 and _is_name(label.title())}
    else:
        accepted = _accepted(counts, likely, labels)
    return {label: one_line(label.strip("[]")) for label in accepted}


def likely_names(labels: Sequence[str | None]) -> set[str]:
    """Return the labels of a file that may be names, by their looks and by how often they stand there."""
    counts = Counter(label for label in labels if label is not None)
    names = {label for label in counts if _is_name(label)}
    doubtful = {label for label in counts if label not in names and _is_capitalized(label)}
    small = {label for label in counts if _is_uncapitalized(label)}
    recurring = {label for label in counts if counts[label] > 1}

    def share(some: Iterable[str]) -> float:
        return sum(counts[label] for label in some) / max(1, len(labels))

    nearly_all = share(names | doubtful | small) >= _NEARLY_ALL
    likely = names | {
        label
        for label in doubtful
        if " " in label and (nearly_all or label in recurring or label.split()[0] in recurring)
    }
    often = max(3, sum(counts[label] for label in likely) / 5)
    likely |= {label for label in doubtful if counts[label] >= often}
    if nearly_all:
        likely |= (doubtful | small) & recurring
    if share(small & recurring) >= _MOST or (labels and labels[0] in small & recurring):
        # It is the file's way to write labels: where nothing else opens lines, one need not come back.
        likely |= small & recurring
        likely |= {label for label in small if nearly_all and not _begins_sentence(label)}
    return likely


def _accepted(counts: Counter[str], likely: set[str], labels: Sequence[str | None]) -> set[str]:
    share = sum(counts[label] for label in likely) / max(1, len(labels))
    recurring = {label for label in likely if counts[label] > 1}
    # Short files: most lines are labelled, though no speaker need have come back.
    if share >= _MOST:
        return likely
    begins = bool(labels) and labels[0] in likely
    if not (recurring and (begins or len(recurring) > 1 or share >= 0.2)):
        return set()
    first_names = {word for label in recurring for word in label.split()}
    return {label for label in likely if label in recurring or len(label.split()) > 1 or label in first_names}


def _is_name(label: str) -> bool:
    """Say whether a label may be a name or a role: capitals, not too many words, no sentence."""
    return _is_capitalized(label) and not _begins_sentence(label)


def _is_capitalized(label: str) -> bool:
    if not 0 < len(label) <= LONGEST_LABEL or _NOT_IN_NAMES.search(label):
        return False
    bare = label
    while (shorter := _PARENTHESES.sub(" ", bare)) != bare:
        bare = shorter
    words = bare.strip("[]").replace(",", " ").split()
    if not 0 < len(words) <= 7 or "(" in bare or ")" in bare or _SECTION_NAME.fullmatch(bare.strip()):
        return False
    if len(words) == 1 and len(words[0]) == 1:
        return words[0].isupper()  # Q and A, or initials
    if not _is_capital(words[0]):
        return False
    return (1 < len(words) <= 3 and _ROLE.fullmatch(words[-1]) is not None) or all(
        _is_capital(word) or _PARTICLE.fullmatch(word) or word in "&+-–" for word in words
    )


def _is_uncapitalized(label: str) -> bool:
    if not _UNCAPITALIZED.fullmatch(label) or not label.islower() or _SECTION_NAME.fullmatch(label):
        return False
    return " " not in label or not _begins_sentence(label)


def _begins_sentence(label: str) -> bool:
    first = label.replace(",", " ").split()[0].strip(".’'")
    return len(label) > 1 and _SENTENCE_START.fullmatch(first) is not None


def _is_capital(word: str) -> bool:
    first = word.lstrip("'’@#.[")[:1]
    return first.isupper() or first.isdigit() or (first.isalpha() and not first.islower())
