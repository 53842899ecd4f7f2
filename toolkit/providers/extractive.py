r"""The classical extractive baseline: LexRank.

A sentence matters as far as others that matter are like it: its rank is its share of a random walk from
sentence to sentence along their likeness (Erkan and Radev 2004, "LexRank: Graph-based Lexical Centrality as
Salience in Text Summarization", section 3.3, without a threshold). With :math:`\hat x_i` the tf-idf vector of
sentence :math:`i` over content stems, of length 1, and :math:`d` the damping,

.. math:: r_j = (1 - d) / n + d \sum_i r_i \frac{\hat x_i \hat x_j}{\sum_k \hat x_i \hat x_k}

Libraries that have it keep the matrix of all pairs and fetch the data of a sentence splitter at their first
use. Here the matrix is never made: each step is two passes over the words, so that a transcript of an hour
takes a tenth of a second.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from toolkit.providers.baseline import BaselineProvider, fitting
from toolkit.words import content, stems

if TYPE_CHECKING:
    import numpy as np

    Vector = np.ndarray[tuple[int], np.dtype[Any]]

DAMPING = 0.85
TOLERANCE = 1e-6
MOST_STEPS = 200

FEWEST_STEMS = 4
"""A shorter sentence ("So the bees.") is like many and tells little; taken only where there are no others."""

TOO_ALIKE = 0.5
"""Cosine from which on a sentence says again what one that was taken has said."""


class ExtractiveSummarizationProvider(BaselineProvider):
    """Summarizes with the sentences that are most like all others, in the order of the transcript.

    As many as ``summary_max_tokens`` (160) holds, the best first, none that says what another does.
    """

    name: ClassVar[str] = "extractive"
    default_model: ClassVar[str | None] = "lexrank"

    def choose(self, said: Sequence[str], cap: int) -> list[str]:
        """Return the best sentences that fit together; the very best one in any case."""
        if not said:
            return []
        bags = [Counter(content(stems(sentence))) for sentence in said]
        ranks = lexrank(bags)
        telling = [index for index, bag in enumerate(bags) if len(bag) >= FEWEST_STEMS] or range(len(said))
        order = sorted(telling, key=lambda index: -ranks[index])
        taken = fitting(said, _different(order, bags, said, cap), cap) or order[:1]
        return [said[index] for index in sorted(taken)]


def lexrank(bags: Sequence[Counter[str]]) -> list[float]:
    """Return the rank of each sentence, given its stems with their counts; the ranks' sum is 1.

    Ranks are rounded, so that sentences that are equally good stay in their order whatever the machine.
    """
    import numpy as np

    count = len(bags)
    numbers: dict[str, int] = {}
    for bag in bags:
        for word in bag:
            numbers.setdefault(word, len(numbers))
    if not numbers:
        return [1 / count] * count
    rows = np.repeat(np.arange(count), [len(bag) for bag in bags])
    columns = np.array([numbers[word] for bag in bags for word in bag])
    values = np.array([times for bag in bags for times in bag.values()], dtype="float64")
    values *= np.log(1 + count / np.bincount(columns))[columns]
    values /= np.sqrt(np.bincount(rows, values**2, count))[rows]

    def likeness(weights: Vector) -> Vector:
        """Multiply by the matrix of all cosines."""
        summed = np.bincount(columns, values * weights[rows], len(numbers))
        return np.bincount(rows, values * summed[columns], count)

    degrees = likeness(np.ones(count))
    alone = degrees == 0  # Sentences without content are like none, and lead nowhere in particular.
    ranks = np.full(count, 1 / count)
    for _ in range(MOST_STEPS):
        leaving = np.where(alone, 0.0, ranks / np.where(alone, 1.0, degrees))
        walked = (1 - DAMPING + DAMPING * ranks[alone].sum()) / count + DAMPING * likeness(leaving)
        moved = float(np.abs(walked - ranks).sum())
        ranks = walked
        if moved < TOLERANCE:
            break
    return [float(f"{rank:.9g}") for rank in ranks]


def _different(
    order: Sequence[int], bags: Sequence[Counter[str]], said: Sequence[str], cap: int
) -> list[int]:
    """Return the order without sentences too like an earlier one of it, as far as the cap can reach."""
    kept: list[int] = []
    reach = 4 * cap  # bytes that the cap holds, by the estimate of tokens
    for index in order:
        if any(_cosine(bags[index], bags[other]) >= TOO_ALIKE for other in kept):
            continue
        kept.append(index)
        reach -= len(said[index].encode("utf-8", "replace"))
        # Beyond what fits, some more for the gaps that long sentences leave.
        if reach < -4 * cap:
            break
    return kept


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    shared = sum(times * other[word] for word, times in one.items() if word in other)
    if not shared:
        return 0.0
    return shared / math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))
