"""Causal models: sequences join and leave between two steps, and no padding goes through the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.engines.admission import choose_joining
from toolkit.engines.jobs import Job
from toolkit.engines.queue import Step
from toolkit.engines.torch.attention import Decoding, Packing, Segment, Unsupported, run_pass
from toolkit.engines.torch.room import Shape, make_room
from toolkit.engines.torch.same import check_same
from toolkit.engines.torch.shortage import watching_memory
from toolkit.engines.torch.slots import Pool, Slot, Slots, length_of
from toolkit.engines.torch.writing import Writing, choose_tokens

if TYPE_CHECKING:
    from toolkit.engines.torch.model import TorchModel

_STEP_TOKENS = {"cpu": 512}
_STEP_TOKENS_ELSEWHERE = 2048
SHARED_TOKENS = 16
"""Prompts that begin with so many equal tokens share their keys and values."""
DETERMINISTIC_ROWS = 8
"""Rows of a step in deterministic mode, always."""


def step_tokens_of(device: str) -> int:
    """Return the tokens of prompts in one step: enough for full speed, few enough for writers to go on."""
    return _STEP_TOKENS.get(device.split(":")[0], _STEP_TOKENS_ELSEWHERE)


class _Row:
    """A sequence at work."""

    def __init__(self, job: Job, slot: Slot, end_ids: set[int]) -> None:
        self.job = job
        self.slot = slot
        self.writing = Writing(job, end_ids)
        self.prompt = list(job.input_ids)
        self.read = 0
        """Tokens of the prompt whose keys and values are in the slot."""

    @property
    def begun(self) -> bool:
        return bool(self.writing.tokens)

    @property
    def ended(self) -> bool:
        """Whether its reply is done; one that is begun looks itself whether it is still wanted."""
        return self.writing.ended if self.begun else self.job.cancelled.is_set()

    @property
    def position(self) -> int:
        """Where the last token stands that was written and not yet read."""
        return len(self.prompt) + len(self.writing.tokens) - 1


class PackedBatches:
    """A backend of the queue: one step takes some tokens of prompts and one token of each reply.

    Parameters
    ----------
    model : TorchModel
    batch_tokens : int
        Bound on prompts and replies at work, in tokens; a single job may be larger.
    step_tokens : int
        Tokens of prompts that go through the model at a time.
    deterministic : bool
        Work so that no reply's numbers depend on its company: each prompt goes through the model by itself,
        in pieces at fixed places, and replies in steps of a fixed number of rows.

    Raises
    ------
    Unsupported
        If the model's attention is not the plain one.
    """

    name = "packed"

    def __init__(
        self, model: TorchModel, *, batch_tokens: int, step_tokens: int, deterministic: bool = False
    ) -> None:
        self._model = model
        self._network: Any = model.network
        self._batch_tokens = batch_tokens
        self._step_tokens = step_tokens
        self._deterministic = deterministic
        self._unread: dict[Job, None] = {}
        """Jobs whose turn to be read has not come; they take no memory yet."""
        self._rows: dict[Job, _Row] = {}
        shape, dtype, device = _shape(model.network.config), model.network.dtype, model.device
        self._slots = Slots(batch_tokens, lambda length, most: make_room(shape, length, most, dtype, device))
        check_same(self._network, self._slots)

    # What the queue asks for

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        """Choose the jobs that join now."""
        held = sum(_room(job) for jobs in (self._unread, self._rows) for job in jobs)
        return choose_joining(waiting, held, self._batch_tokens, room=_room)

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take up jobs."""
        self._unread.update(dict.fromkeys(jobs))

    def reset(self) -> None:
        """Forget all jobs, and give up the room for them."""
        self._unread.clear()
        self._rows.clear()
        self._slots.clear()

    def step(self) -> Step:
        """Let the model work on the jobs for a moment."""
        self._model.claim_threads()
        return watching_memory(self._step)

    def _step(self) -> Step:
        import torch

        with self._model.tokenizer() as tokenizer, torch.inference_mode():

            def decode(ids: Sequence[int]) -> str:
                return str(tokenizer.decode(list(ids), skip_special_tokens=True))

            first = []
            self._begin_rows()
            for rows in self._turns():
                for row, token in self._advance(rows):
                    if not row.begun:
                        first.append(row.job)
                    row.writing.add(token, decode)
            ended = [row for row in self._rows.values() if row.ended]
            for row in ended:
                del self._rows[row.job]
                self._slots.give_back(row.slot)
            done = [(row.job, row.writing) for row in ended]
            for job in [job for job in self._unread if job.cancelled.is_set()]:
                del self._unread[job]
                done.append((job, Writing(job, self._model.end_ids)))
            return Step(first, [(job, writing.generated(decode)) for job, writing in done])

    def _begin_rows(self) -> None:
        """Give slots to as many jobs as this step can read.

        Not before: while the last of many are read the first are done, and their slots are taken again.
        """
        left = sum(len(row.prompt) - row.read for row in self._rows.values() if not row.begun)
        while self._unread and left < self._step_tokens:
            job = next(iter(self._unread))
            row = self._rows[job] = _Row(job, self._slots.take(job.most_tokens), self._model.end_ids)
            del self._unread[job]
            self._share_prefix(row)
            left += len(row.prompt) - row.read

    # One pass through the model

    def _turns(self) -> list[list[_Row]]:
        """Return the rows of each pass of this step: all in one, or in those of deterministic mode."""
        rows = list(self._rows.values())
        if not self._deterministic:
            return [rows]
        reading = [[row] for row in rows if not row.begun][:1]
        writing = [row for row in rows if row.begun]
        size = DETERMINISTIC_ROWS
        return reading + [writing[first : first + size] for first in range(0, len(writing), size)]

    def _advance(self, rows: Sequence[_Row]) -> list[tuple[_Row, int]]:
        """Pass some rows through the model; return the tokens that they wrote."""
        ids: list[int] = []
        positions: list[int] = []
        writers: list[tuple[_Row, int]] = []
        packing = Packing()
        room, read = self._step_tokens, []
        for row in rows:
            if row.begun or not room:
                continue
            count = min(len(row.prompt) - row.read, room)
            packing.segments.append(Segment(row.slot, len(ids), count, row.read))
            ids += row.prompt[row.read : row.read + count]
            positions += range(row.read, row.read + count)
            room -= count
            read.append((row, count))
            if row.read + count == len(row.prompt):
                writers.append((row, len(ids) - 1))
        by_pool: dict[Pool, list[_Row]] = {}
        for row in rows:
            if row.begun:
                by_pool.setdefault(row.slot.pool, []).append(row)
        for members in by_pool.values():
            members.sort(key=lambda row: row.slot.row)
        for pool, members in by_pool.items():
            slots, places = [row.slot.row for row in members], [row.position for row in members]
            packing.decoding.append(Decoding.of(pool, len(ids), slots, places))
            for row in members:
                writers.append((row, len(ids)))
                ids.append(row.writing.tokens[-1])
                positions.append(row.position)
        if self._deterministic and by_pool:
            # Rows of nothing, so that the products are of one shape whoever is at work.
            fill = DETERMINISTIC_ROWS - len(ids)
            ids += [0] * fill
            positions += [0] * fill
        logits = run_pass(self._network, ids, positions, packing, [place for _, place in writers])
        for row, count in read:
            row.slot.ids += row.prompt[row.read : row.read + count]
            row.read += count
        for members in by_pool.values():
            for row in members:
                row.slot.ids.append(row.writing.tokens[-1])
        if not writers:
            return []
        tokens = choose_tokens([row.writing for row, _ in writers], logits)
        return [(row, token) for (row, _), token in zip(writers, tokens, strict=True)]

    def _share_prefix(self, row: _Row) -> None:
        """Take over keys and values of a prompt that begins alike, from whichever slot has most of them."""
        best, shared = None, SHARED_TOKENS - 1
        if not self._deterministic:
            for slot in self._slots.holding():
                same = _same_start(slot.ids, row.prompt, len(row.prompt) - 1)
                if same > shared:
                    best, shared = slot, same
        if best is None:
            row.slot.ids.clear()
            return
        row.read = shared
        if best is not row.slot:
            for layer in range(len(row.slot.pool.keys)):
                for mine, other in (
                    (row.slot.pool.keys, best.pool.keys),
                    (row.slot.pool.values, best.pool.values),
                ):
                    mine[layer][row.slot.row, :, :shared] = other[layer][best.row, :, :shared]
        row.slot.ids[:] = row.prompt[:shared]


def _room(job: Job) -> int:
    """Return what is kept for a job, in tokens."""
    return length_of(job.most_tokens)


def _same_start(held: Sequence[int], prompt: Sequence[int], most: int) -> int:
    count = 0
    for ours, theirs in zip(held, prompt, strict=False):
        if ours != theirs or count == most:
            break
        count += 1
    return count


def _shape(config: Any) -> Shape:
    """Return what attention keeps of a token.

    Raises
    ------
    Unsupported
        If the config does not say it.
    """
    config = config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    width = getattr(config, "head_dim", None) or (heads and config.hidden_size // heads)
    layers = getattr(config, "num_hidden_layers", None)
    if not (heads and width and layers):
        raise Unsupported("its config does not tell its layers and heads")
    return Shape(layers, getattr(config, "num_key_value_heads", None) or heads, width)
