"""Words, stems and sentences of a text, for comparing texts: the same in every place that counts them.

On ASCII text the words are those of ROUGE-1.5.5 (runs of letters and digits, in lower case), so that scores
can be compared with published ones. Beyond ASCII, letters with their marks are words as well, and a script
that writes no blanks between words (Chinese, Japanese, Thai …) is taken character by character. Punctuation,
symbols and emoji are no words.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

# Thai, Lao, Tibetan, Burmese, Khmer, kana, and the ideographs of all planes.
_NO_BLANKS = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_WITHOUT_BLANKS = re.compile(f"[{_NO_BLANKS}]")
_ASCII_WORD = re.compile("[a-z0-9]+")
_LETTERS_AND_DIGITS = re.compile(r"[^\W_]+")

# A sentence ends after its mark and what closes with it, before a blank; full-width marks need none.
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Z]\.)(?<!\b(?:Mr|Ms|Dr|St|vs|No)\.)(?<!\b(?:Mrs|e\.g|i\.e)\.)(?<!\bProf\.)"
    r"(?<=[.?!…۔؟।።])[\"'”’)\]»]*\s+|(?<=[。！？｡])[\"'”’」』）)\]]*\s*"
)
_ENDED = re.compile(r"[.?!…。！？｡۔؟।။។።][\"'”’」』）)\]»*_`\s]*$")
_LIST_ITEM = re.compile(r"\s*(?:[-*+•–—#]|\d{1,3}[.)])\s*\S")
_WRITES_NO_STOPS = re.compile("[\u0e00-\u0eff]")

_FUNCTION_WORDS = """
a about above across actually after again against ago ah alright all almost along already also although always
am an and another any anybody anyone anything anyway anywhere are aren around as at away back basically be
became because become been before behind being below between beyond both but by bye came can cannot come comes
coming could couldn d definitely did didn do does doesn doing don done down during each eh either else enough
er erm especially even ever every everybody everyone everything everywhere exactly except few first for from
further gave get gets getting give gives go goes going gone gonna good got gotta great had hadn has hasn have
haven having he hello her here hers herself hey hi him himself his hm hmm how however huh i if in indeed
instead into is isn it its itself just keep kind kinda knew know knows last least less let like likely little
ll lot lots m made make makes making many may maybe me mean means might mine mm mmm more most mostly much must
my myself near never next nice no nobody none nor not nothing now o of off oh ok okay on once one ones only
onto or other others our ours ourselves out over own part people perhaps please pretty probably put quite
rather re really right s said same saw say saying says second see seem seems seen several shall she should
shouldn since so some somebody somehow someone something sometimes somewhere soon sort still stuff such sure t
take takes taking tell than thank thanks that the their theirs them themselves then there therefore these they
thing things think thinking this those though thought three through to together told too took toward towards
try trying two uh uhm um under unless until up upon us use used using usually ve very wanna want wanted wants
was wasn way ways we welcome well went were weren what whatever when whenever where whether which while who
whoever whole whom whose why will with within without won wonderful would wouldn yeah yep yes yet you your
yours yourself yourselves
"""


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Compile what finds a mark or a character that stands alone, and what finds words of all kinds.

    The marks of Unicode have no name in ``re``: they are looked up, once.
    """
    marks, start = [], None
    for code in range(0x300, 0x1F000):
        is_mark = unicodedata.category(chr(code)).startswith("M")
        if is_mark and start is None:
            start = code
        elif not is_mark and start is not None:
            marks.append(f"{chr(start)}-{chr(code - 1)}")
            start = None
    mark = "".join(marks)
    letter = rf"[^\W_{_NO_BLANKS}]"
    any_word = re.compile(rf"{letter}+(?:[{mark}]+{letter}*)*|[{_NO_BLANKS}](?<=\w)[{mark}]*")
    return re.compile(f"[{mark}{_NO_BLANKS}]"), any_word


def words(text: str) -> list[str]:
    """Return the words of a text in their order, in lower case.

    Examples
    --------
    >>> words("Don't dance, Zoë: 蜂が 2!")
    ['don', 't', 'dance', 'zoë', '蜂', 'が', '2']
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    text = unicodedata.normalize("NFKC", text).casefold()
    unusual, any_word = _patterns()
    # Most texts have nothing unusual, which takes half the time; so does looking at each character once only.
    return (any_word if unusual.search("".join(set(text))) else _LETTERS_AND_DIGITS).findall(text)


@lru_cache(maxsize=2**18)
def stem(word: str) -> str:
    """Return the stem of an English word by Porter's algorithm, as ROUGE takes it; other words as they are.

    Words of up to three letters have none. A word of another language in ASCII letters is cut by the English
    rules too: on both sides of a comparison alike.
    """
    if len(word) <= 3 or not word.isascii():
        return word
    return sys.intern(str(_porter().stem(word)))


@cache
def _porter() -> Any:  # nltk carries no types.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


def stems(text: str) -> list[str]:
    """Return the stems of the words of a text, in their order."""
    return list(map(stem, words(text)))


@cache
def function_stems() -> frozenset[str]:
    """Return the stems of words that say little by themselves: English function words and fillers of talk."""
    return frozenset(map(stem, _FUNCTION_WORDS.split()))


def content(stemmed: Sequence[str]) -> list[str]:
    """Return what a text is about, of its stems in their order: without English function words and fillers.

    Of scripts without blanks, whose single characters say little, the pairs of neighbours take their place.
    In other languages function words stay in: figures made of them compare within a language only.
    """
    little = function_stems()
    if not any(map(_stands_alone, set(stemmed))):
        return [word for word in stemmed if word not in little]
    found = []
    for word, following in pairwise([*stemmed, ""]):
        if not _stands_alone(word):
            found += [word] if word not in little else []
        elif following and _stands_alone(following):
            found.append(word + following)
    return found


def _stands_alone(word: str) -> bool:
    return word[0] >= "\u0e00" and _WITHOUT_BLANKS.match(word) is not None


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; each line begins a new one.

    A full stop after an initial or a usual abbreviation ends none.
    """
    found = []
    for line in text.splitlines():
        ends = [match.end() for match in _SENTENCE_END.finditer(line)]
        edges = zip([0, *ends], [*ends, len(line)], strict=True)
        found += [part for left, right in edges if (part := line[left:right].strip())]
    return found


def is_cut_off(text: str) -> bool | None:
    """Say whether the last sentence of a text is unfinished: nothing ends it.

    Returns
    -------
    bool or None
        None where that cannot be told: no words, the last line an item of a list, or a script that ends
        sentences with a blank (Thai, Lao).
    """
    said = words(text)
    if not said or _WRITES_NO_STOPS.match(said[-1]):
        return None
    # What stands after the stop and is neither letter nor digit (an emoji) does not open a sentence.
    bare = text.rstrip()
    while bare and unicodedata.category(bare[-1]) in ("So", "Sk", "Cf", "Mn", "Cs", "Cn"):
        bare = bare[:-1].rstrip()
    if _ENDED.search(bare):
        return False
    return None if _LIST_ITEM.match(bare.splitlines()[-1]) else True
