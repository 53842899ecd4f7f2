"""The plainest baseline: how the transcript begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from toolkit.providers.baseline import BaselineProvider


class LeadSummarizationProvider(BaselineProvider):
    """Summarizes with the first sentences, as many as ``summary_max_tokens`` (160) holds.

    Examples
    --------
    >>> from toolkit import Config, get_provider
    >>> lead = get_provider(Config(provider="lead", summary_max_tokens=12))
    >>> lead.summarize("Ann: Um. Bees dance. They point to flowers. And they count.").text
    'Bees dance. They point to flowers.'
    """

    name: ClassVar[str] = "lead"
    default_model: ClassVar[str | None] = "first-sentences"

    def choose(self, said: Sequence[str], cap: int) -> list[str]:
        """Return the first sentences that fit together; the very first one in any case."""
        taken, left = list(said[:1]), cap - self.count_tokens(said[0]) if said else 0
        for sentence in said[1:]:
            left -= self.count_tokens(" " + sentence)
            if left < 0:
                break
            taken.append(sentence)
        return taken
