"""One reply as it grows: how its next token is chosen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from toolkit.engines.jobs import Job
from toolkit.engines.replies import GrowingReply, seed_of

if TYPE_CHECKING:
    import torch


class Writing(GrowingReply):
    """A reply whose tokens are chosen here, by its job and by nothing that is worked on beside it."""

    def __init__(self, job: Job, end_ids: Collection[int]) -> None:
        super().__init__(job, end_ids)
        self._followers: dict[tuple[int, ...], set[int]] = {}
        self._generator = _generator(job)

    @property
    def plain(self) -> bool:
        """Whether the model's likeliest token is always taken as it is."""
        sampling = self.job.sampling
        return self._generator is None and sampling.repetition_penalty == 1 and not sampling.no_repeat_ngram

    def rework(self, scores: torch.Tensor) -> None:
        """Change a row of scores, of shape (vocabulary,), so that the best one is the token to take."""
        import torch

        sampling, reply = self.job.sampling, self.tokens
        if sampling.repetition_penalty != 1 and reply:
            seen = torch.tensor(sorted(set(reply)), device=scores.device)
            picked = scores[seen]
            scores[seen] = torch.where(
                picked < 0, picked * sampling.repetition_penalty, picked / sampling.repetition_penalty
            )
        size = sampling.no_repeat_ngram
        if size and len(reply) >= size:
            *head, last = reply[-size:]
            self._followers.setdefault(tuple(head), set()).add(last)
            banned = self._followers.get(tuple(reply[-(size - 1) :] if size > 1 else ()))
            if banned:
                scores[sorted(banned)] = -torch.inf
        if self._generator is not None:
            scores /= sampling.temperature
            if sampling.top_p < 1:
                ordered, order = scores.sort(descending=True)
                before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
                scores[order[before > sampling.top_p]] = -torch.inf
            # Gumbel's trick: the best of scores plus such noise is a draw from their softmax. The noise is
            # the reply's own, so that a seed gives the same text whatever else is in the batch.
            uniform = torch.rand(scores.shape, generator=self._generator).clamp_(1e-20, 1 - 1e-7)
            scores -= (-uniform.log()).log().to(scores.device)


def choose_tokens(writings: Sequence[Writing], scores: torch.Tensor) -> list[int]:
    """Choose each reply's next token from scores of shape (replies, vocabulary)."""
    if not all(writing.plain for writing in writings):
        scores = scores.float()
        for writing, row in zip(writings, scores, strict=True):
            writing.rework(row)
    return [int(token) for token in scores.argmax(-1)]


def _generator(job: Job) -> torch.Generator | None:
    """Return the source of a job's randomness, None for greedy; a seed gives each prompt its own stream."""
    import torch

    if job.sampling.temperature == 0:
        return None
    generator = torch.Generator()
    seed = seed_of(job)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
