r"""Figures of one summary: against a reference, against its transcript, and by itself.

Words, stems, content stems and sentences are those of ``toolkit.words``; all n-grams are of stems.

ROUGE (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries")
    Shares of n-grams in common (ROUGE-1, ROUGE-2) and of the longest common subsequence (ROUGE-L): of the
    reference's (recall), of the summary's (precision), and their harmonic mean; computed by ``rouge-score``.
Coverage
    With :math:`S` the content stems of the summary, and the content of the transcript the sequence
    :math:`w_1 … w_n` of its content stems, :math:`C = |\{i: w_i \in S\}| / n`: how much of what is said is
    about what the summary names. It grows with the summary's length; compare at about equal lengths.
Evenness of coverage
    The content of the transcript is cut into ten parts of equal length, :math:`c_p` is the coverage of part
    :math:`p`, and :math:`E = (\sum c_p)^2 / (10 \sum c_p^2)` (Jain, Chiu and Hawe 1984, "A Quantitative
    Measure of Fairness"): 1 where all parts are covered alike, 0.1 where a single one is covered at all.
Novelty
    The share of the different n-grams in the summary's sentences that are neither in the transcript nor in a
    speaker's name: 0 for what only quotes. New words are the summary's own wording, or inventions.
Repetition
    With :math:`N` three-word runs in the summary, of which :math:`D` are different, :math:`1 - D / N`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from toolkit.records import Episode
from toolkit.words import content, is_cut_off, sentences, stems

ROUGE = ("rouge1", "rouge2", "rougeL")
PARTS = 10
REPEATED_WORDS = 3


class Rouge(NamedTuple):
    """One ROUGE score, from 0 to 1."""

    f: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Source:
    """A transcript as the measures need it, made once for all that is compared with it.

    Attributes
    ----------
    words : int
        Words spoken.
    parts : tuple of list of str
        The content stems of each tenth of it, in their order.
    lines : tuple of list of str
        All its stems, and those of each speaker's name.
    """

    words: int
    parts: tuple[list[str], ...]
    lines: tuple[list[str], ...]

    @classmethod
    def of(cls, episode: Episode) -> Source:
        """Take an episode apart."""
        said = stems(episode.text)
        about = content(said)
        edges = [len(about) * part // PARTS for part in range(PARTS + 1)]
        return cls(
            words=len(said),
            parts=tuple(about[left:right] for left, right in pairwise(edges)),
            lines=(said, *map(stems, episode.speakers)),
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """What can be said of a summary without a reference; None where a measure does not apply."""

    coverage: float | None
    coverage_evenness: float | None
    novelty1: float | None
    novelty2: float | None
    repetition: float | None
    words: int
    sentences: int
    compression: float | None
    cut_off: bool | None


def figures(summary: str, source: Source) -> Figures:
    """Compare a summary with its transcript.

    Examples
    --------
    >>> from toolkit import Episode
    >>> source = Source.of(Episode.from_text("bees", "Bees dance. They point to flowers."))
    >>> figures("The bees dance well", source).novelty1
    0.5
    """
    by_sentence = [stems(sentence) for sentence in sentences(summary)]
    said = [word for sentence in by_sentence for word in sentence]
    coverage, evenness = _coverage(set(content(said)), source)
    return Figures(
        coverage=coverage,
        coverage_evenness=evenness,
        novelty1=_share_not_in(set(said), source.lines),
        novelty2=_share_not_in(set().union(*map(pairwise, by_sentence)), map(pairwise, source.lines)),
        repetition=_repetition(said),
        words=len(said),
        sentences=sum(map(bool, by_sentence)),
        compression=source.words / len(said) if said else None,
        cut_off=is_cut_off(summary),
    )


def rouge(summary: str, reference: str) -> dict[str, Rouge] | None:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L with stemming; None if the reference has no words.

    A summary without words scores 0, and so does ROUGE-2 if either has a single word only.
    """
    if not stems(reference):
        return None
    found = _scorer().score(reference, summary)
    return {name: Rouge(score.fmeasure, score.precision, score.recall) for name, score in found.items()}


class _Stems:
    """The words of ``rouge-score`` on ASCII text, and words beyond it, which its own tokenizer drops."""

    def tokenize(self, text: str) -> list[str]:
        return stems(text)


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE), tokenizer=_Stems())


def _coverage(named: set[str], source: Source) -> tuple[float | None, float | None]:
    """Return the share of the transcript's content that is named, and how even it is over the parts."""
    hits = [sum(map(named.__contains__, part)) for part in source.parts]
    total = sum(map(len, source.parts))
    if not total:
        return None, None
    # Of less than ten content stems some parts are empty: there is nothing that could be covered.
    shares = [hit / len(part) for hit, part in zip(hits, source.parts, strict=True) if part]
    squares = sum(share * share for share in shares)
    evenness = sum(shares) ** 2 / (len(shares) * squares) if squares else None
    return sum(hits) / total, evenness


def _share_not_in(own: set[Any], lines: Iterable[Iterable[Any]]) -> float | None:
    # Not the sets' difference: a set of all pairs of a transcript takes three times as long to make.
    known = set().union(*(own.intersection(line) for line in lines))
    return 1 - len(known) / len(own) if own else None


def _repetition(said: Sequence[str]) -> float | None:
    runs = list(zip(*(said[start:] for start in range(REPEATED_WORDS)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else None
