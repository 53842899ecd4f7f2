"""Which of the waiting jobs a model takes up next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from toolkit.engines.jobs import Job


def fair_order(waiting: Sequence[Job], running: Iterable[Job]) -> list[Job]:
    """Return waiting jobs in the order in which they are to be taken up.

    Owners take turns: first comes a job of the owner that the model works for least, counting what is taken
    before; among equals the one that arrived first. No owner's many jobs keep another's few waiting.

    Parameters
    ----------
    waiting : sequence of Job
        In order of arrival.
    running : iterable of Job
        What the model works on.
    """
    taken = Counter(job.owner for job in running)
    turns = []
    for place, job in enumerate(waiting):
        turns.append((taken[job.owner], place))
        taken[job.owner] += 1
    return [waiting[place] for _, place in sorted(turns)]


def choose_joining(
    waiting: Sequence[Job],
    held_tokens: int,
    batch_tokens: int,
    room: Callable[[Job], int] = lambda job: job.most_tokens,
) -> list[Job]:
    """Choose the jobs that join those at work: as many as find room, and none past one that must wait.

    Parameters
    ----------
    waiting : sequence of Job
        In the order in which they are to be taken up.
    held_tokens : int
        What is kept for the jobs at work.
    batch_tokens : int
        Bound on what is kept; where nothing is at work the first may be larger.
    room : callable
        What is kept for a job, in tokens.
    """
    chosen: list[Job] = []
    for job in waiting:
        if held_tokens and held_tokens + room(job) > batch_tokens:
            break
        chosen.append(job)
        held_tokens += room(job)
    return chosen


def choose_batch(waiting: Sequence[Job], batch_tokens: int) -> list[Job]:
    """Choose the jobs of a batch that is padded to its longest and runs until all of it is done.

    The first is always taken, so that none waits for ever. It is joined by those nearest to it in length, as
    long as

        jobs x (longest prompt + largest cap) <= ``batch_tokens``.

    Parameters
    ----------
    waiting : sequence of Job
        In the order in which they are to be taken up; not empty.
    batch_tokens : int
        Bound on the padded batch; a single job may be larger.
    """
    first, *others = waiting
    batch = [first]
    prompt, cap = len(first.input_ids), first.max_new_tokens
    for job in sorted(others, key=lambda job: abs(len(job.input_ids) - len(first.input_ids))):
        longer, larger = max(prompt, len(job.input_ids)), max(cap, job.max_new_tokens)
        if (len(batch) + 1) * (longer + larger) > batch_tokens:
            break
        batch.append(job)
        prompt, cap = longer, larger
    return sorted(batch, key=lambda job: len(job.input_ids), reverse=True)
