"""A backend of the queue over OpenVINO GenAI's continuous batching."""

from __future__ import annotations

import atexit
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol
from weakref import WeakSet

from toolkit.engines.admission import choose_joining
from toolkit.engines.jobs import Job, OutOfMemory
from toolkit.engines.openvino.model import OpenVinoModel
from toolkit.engines.queue import Step
from toolkit.engines.replies import Decode, GrowingReply, seed_of

LOOK_S = 0.01
"""Between two looks for a token, at least: it takes 10 ms and more."""
STEP_S = 0.05
"""Between two looks, at most, and how long a step waits for news: jobs join between steps."""
STARTER_TOKENS = 256
"""Cap of the request that keeps the pipeline going until the first jobs have joined; it takes 2 or 3."""
EXIT_S = 30.0
"""How long the interpreter's end waits for the pipeline to notice that nobody wants its work any more."""
_made: WeakSet[OpenVinoBatches] = WeakSet()
MOST_PENALTY = 2.0
"""OpenVINO GenAI takes no more."""


class Pipeline(Protocol):
    """What is used of ``openvino_genai.ContinuousBatchingPipeline``."""

    def generate(self, prompts: list[Any], configs: list[Any], streamer: Any) -> Any:
        """Work until no request is left, also not of those that were added meanwhile."""
        ...

    def add_request(self, request_id: int, prompt: Any, config: Any) -> Any:
        """Add a request, from any thread; return its handle."""
        ...

    def has_non_finished_requests(self) -> bool:
        """Say whether a request is left."""
        ...

    def step(self) -> None:
        """Work for one step, with Python's lock held."""
        ...


class _Row(GrowingReply):
    """A reply at work."""

    handle: Any = None
    """The pipeline's, once the job has joined."""
    over = False
    """Whether the pipeline was done with it when it was last looked at."""


class OpenVinoBatches:
    """A backend of the queue: jobs join between two tokens, and leave when their reply ends.

    The pipeline's ``generate()`` releases Python's lock for as long as it works, its ``step()`` does not: it
    would stop the whole process, 0.2 s for each step of a long prompt. So a thread of its own runs
    ``generate()`` with one request that means nothing, the starter. When its first token comes, the thread
    is past the part where it minds others, and jobs are added; ``generate()`` goes on for them and for all
    that join later. A job that is added just when it ends is worked on by ``step()``.

    What differs from PyTorch: see ``generation_config``.

    Parameters
    ----------
    model : OpenVinoModel
    make_pipeline : callable
        Makes the pipeline, now and after it failed.
    batch_tokens : int
        Bound on prompts and replies at work, in tokens.
    capacity_tokens : int
        What there is room for in the pipeline's cache; a job of more is refused.
    deterministic : bool
        Work on one job at a time, and by ``step()`` alone.
    """

    name = "continuous"

    def __init__(
        self,
        model: OpenVinoModel,
        make_pipeline: Callable[[], Pipeline],
        *,
        batch_tokens: int,
        capacity_tokens: int,
        deterministic: bool = False,
    ) -> None:
        import openvino_genai

        self._states = openvino_genai.GenerationStatus
        self._model = model
        self._make_pipeline = make_pipeline
        self._pipeline = make_pipeline()
        self._batch_tokens = batch_tokens
        self._capacity_tokens = capacity_tokens
        self._deterministic = deterministic
        self._rows: dict[Job, _Row] = {}
        self._numbers = itertools.count(1)  # 0 is the starter's.
        self._joining_lock = threading.Lock()
        """Protects what follows; no job is added between the pump's last look for one and its end."""
        self._to_join: list[_Row] = []
        self._pump: threading.Thread | None = None
        self._takes_jobs = False
        self._error: BaseException | None = None
        self._watched: _Row | None = None
        self._news_at = 0.0
        self._pause_s = LOOK_S
        self._is_over = False
        _made.add(self)

    # What the queue asks for

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        """Choose the jobs that join now."""
        if self._deterministic:
            return [] if self._rows else list(waiting[:1])
        held = sum(job.most_tokens for job in self._rows)
        return choose_joining(waiting, held, self._batch_tokens)

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take up jobs.

        Raises
        ------
        OutOfMemory
            If one of them does not fit into the cache.
        """
        largest = max(job.most_tokens for job in jobs)
        if largest > self._capacity_tokens:
            raise OutOfMemory(
                f"a prompt and a reply of {largest} tokens do not fit into a cache of "
                f"{self._capacity_tokens}; raise engine_batch_tokens"
            )
        if not self._rows:
            self._news_at, self._pause_s = time.monotonic(), LOOK_S
        rows = [_Row(job, self._model.end_ids) for job in jobs]
        self._rows.update(zip(jobs, rows, strict=True))
        with self._joining_lock:
            if self._is_over:
                raise RuntimeError("the interpreter ends")
            self._to_join += rows
            if self._pump is None:
                self._pump = threading.Thread(target=self._run, name="openvino", daemon=True)
                self._pump.start()
            elif self._takes_jobs:
                self._join()

    def step(self) -> Step:
        """Wait until a reply has begun or ended, or for a moment.

        Raises
        ------
        OutOfMemory
            If the pipeline gave a job up for want of room.
        """
        until = time.monotonic() + STEP_S
        while True:
            if self._has_news():
                news = self._look()
                if news.first or news.ended:
                    return news
            if time.monotonic() >= until:
                return Step((), ())
            time.sleep(self._pause_s)

    def reset(self) -> None:
        """Forget all jobs; after an error of the pipeline's make it anew."""
        with self._joining_lock:
            self._to_join.clear()
            pump = self._pump
            for row in self._rows.values():
                if row.handle is not None:
                    row.handle.cancel()
        self._rows.clear()
        self._watched = None
        if pump is not None:
            pump.join()  # At the end of the step that it is in.
        if self._error is not None:
            # What it had taken up is gone or not, which it does not tell; made anew it is empty.
            self._error = None
            del self._pipeline
            self._pipeline = self._make_pipeline()

    def end(self) -> None:
        """At the interpreter's end: give up all work, and wait until the pipeline has left it.

        Its thread would else come back to an interpreter that is gone, and the process would be aborted.
        """
        with self._joining_lock:
            self._is_over = True
            self._to_join.clear()
            pump = self._pump
            for row in list(self._rows.values()):
                if row.handle is not None:
                    row.handle.cancel()
        if pump is not None:
            pump.join(EXIT_S)

    # Replies

    def _has_news(self) -> bool:
        """Say whether a look at all replies is worth its time.

        The pipeline's threads need all cores and leave nothing of Python in the caches: a look at 12 replies
        takes 0.3 ms, and all those threads wait for the one that had to make room for it. So one reply is
        asked for all, the one that gets the next token, and about twice in the time that a token takes.
        """
        row = self._watched
        if row is None or self._error is not None or any(job.cancelled.is_set() for job in self._rows):
            return True
        return bool(row.handle.can_read() or row.handle.get_status() != self._states.RUNNING)

    def _look(self) -> Step:
        """Take the tokens that have come, and tell whose reply has begun or ended."""
        if self._error is not None:
            raise self._error
        first, ended = [], []
        with ExitStack() as borrowed:
            decode: Decode | None = None
            for job, row in list(self._rows.items()):
                handle = row.handle
                cancelled = job.cancelled.is_set()
                if handle is None and not cancelled:
                    continue
                over = handle is not None and self._over(handle)
                if not (over or cancelled or handle.can_read()):
                    continue
                if decode is None:
                    decode = self._decoder(borrowed)
                begun = bool(row.tokens)
                while handle is not None and not row.ended and handle.can_read():
                    for output in handle.read().values():
                        for token in output.generated_ids:
                            if not row.ended:
                                row.add(token, decode)
                if row.tokens and not begun:
                    first.append(job)
                # Over before its own end: what it told last was looked at twice, as it tells that it is over
                # before it gives its last token.
                if row.ended or cancelled or (over and row.over):
                    self._leave(row)
                    ended.append((job, row.generated(decode)))
                row.over = over
        # One that has begun gets a token in each of the pipeline's steps; the oldest prompt is read first.
        joined = [row for row in self._rows.values() if row.handle is not None]
        self._watched = next((row for row in joined if row.tokens), joined[0] if joined else None)
        now = time.monotonic()
        self._pause_s = min(max((now - self._news_at) / 2, LOOK_S), STEP_S)
        self._news_at = now
        return Step(first, ended)

    def _over(self, handle: Any) -> bool:
        status = handle.get_status()
        if status == self._states.IGNORED:
            raise OutOfMemory("the pipeline's cache is full")
        return bool(status == self._states.FINISHED)

    def _decoder(self, borrowed: ExitStack) -> Decode:
        tokenizer = borrowed.enter_context(self._model.tokenizer())
        return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))

    def _leave(self, row: _Row) -> None:
        del self._rows[row.job]
        with self._joining_lock:
            if row in self._to_join:
                self._to_join.remove(row)
            elif row.handle is not None:
                row.handle.cancel()

    # The pump's thread

    def _run(self) -> None:
        try:
            if not self._deterministic:
                self._start()
            self._work_off()
        except BaseException as error:  # Whatever it is, the queue's thread must hear of it.
            with self._joining_lock:
                self._error = error
                self._pump, self._takes_jobs = None, False

    def _start(self) -> None:
        """Run ``generate()`` until no job is left."""
        import numpy as np
        import openvino
        import openvino_genai

        batches = self

        class Starter(openvino_genai.StreamerBase):  # type: ignore[misc, name-defined, unused-ignore]
            def write(self, token: int | Sequence[int]) -> Any:
                batches._open()
                return openvino_genai.StreamingStatus.CANCEL

            def end(self) -> None:
                pass

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = STARTER_TOKENS
        config.ignore_eos, config.eos_token_id, config.stop_token_ids = True, 0, {0}
        prompt = openvino.Tensor(np.zeros((1, 1), dtype=np.int64))
        self._pipeline.generate([prompt], [config], Starter())

    def _open(self) -> None:
        """Let jobs join: those that wait for it, and from now on all."""
        with self._joining_lock:
            try:
                self._join()
            except BaseException as error:  # It must not get into the pipeline's own thread.
                self._error = error
            self._takes_jobs = True

    def _work_off(self) -> None:
        """Work on jobs that came too late for ``generate()``, and end when there are none."""
        while True:
            with self._joining_lock:
                self._takes_jobs = True
                self._join()
                if not self._pipeline.has_non_finished_requests():
                    self._pump, self._takes_jobs = None, False
                    break
            self._pipeline.step()

    def _join(self) -> None:
        """Add the jobs that wait for it to the pipeline; the lock is held."""
        import numpy as np
        import openvino

        while self._to_join:
            row = self._to_join.pop(0)
            prompt = openvino.Tensor(np.array([row.job.input_ids], dtype=np.int64))
            config = generation_config(row.job, self._model.end_ids)
            row.handle = self._pipeline.add_request(next(self._numbers), prompt, config)


def generation_config(job: Job, end_ids: set[int]) -> Any:
    """Return a job's settings in the words of OpenVINO GenAI, as near as they come.

    Its ``repetition_penalty`` would also keep a summary from the words of its transcript, and its
    ``no_repeat_ngram_size`` is for beam search only. So both become a ``frequency_penalty``, which takes
    something off a token's score each time that the reply has used it::

        6 x (repetition_penalty - 1), at least 0.6 where no_repeat_ngram is asked for

    Runs of tokens can stand twice, but not go round and round. SmolLM2-135M, 10 chunks of ``data/episodes``:
    without it 5 of 10 replies repeated runs of 4 tokens, 62 in all, one in a loop; with 0.3 it was 16 in all,
    with 0.6 (for the provider's 1.1 and 4) a single one. None copied 8 tokens of its prompt.

    Seeds, too, give other texts than with PyTorch.
    """
    import openvino_genai

    sampling = job.sampling
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = job.max_new_tokens
    if end_ids:
        config.eos_token_id, config.stop_token_ids = min(end_ids), end_ids
    else:
        config.ignore_eos, config.eos_token_id, config.stop_token_ids = True, 0, {0}
    penalty = 6 * (sampling.repetition_penalty - 1)
    if sampling.no_repeat_ngram:
        penalty = max(penalty, 0.6)
    config.frequency_penalty = min(penalty, MOST_PENALTY)
    config.do_sample = sampling.temperature > 0
    if config.do_sample:
        seed = seed_of(job)
        config.temperature, config.top_p = sampling.temperature, sampling.top_p
        config.rng_seed = random.getrandbits(32) if seed is None else seed >> 31
    return config


@atexit.register
def _end_all() -> None:
    for batches in list(_made):
        batches.end()
