"""Running a causal or encoder-decoder model with PyTorch, a padded batch at a time."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from toolkit.engines.queue import Generated, Job, OutOfMemory
from toolkit.engines.quiet import quiet_transformers
from toolkit.engines.unloaded import context_tokens_of, first_bound
from toolkit.engines.weights import Weights
from toolkit.errors import ConfigError, ModelUnavailable
from toolkit.records import Sampling, StopReason

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


TOKENIZER_COPIES = 4
"""More copies than cores read no faster; those of a large vocabulary take tens of MB each."""


def choose_device(name: str) -> str:
    """Return the device that ``auto`` stands for, else the one asked for.

    Raises
    ------
    ConfigError
        If PyTorch has no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # Reading it back tells "meta" from a device that computes.
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(f"device={name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return name


def choose_dtype(name: str, device: str) -> str:
    """Return the number format that ``auto`` stands for: bfloat16 where the processor computes in it.

    On a CPU without such instructions bfloat16 is emulated and slower than float32.
    """
    import torch

    if name != "auto":
        return name
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bfloat16"
    return "float32"


class TorchEngine:
    """A loaded model.

    Parameters
    ----------
    weights : Weights
        Where its files are.
    device, dtype : str
        As PyTorch names them, not ``auto``.
    trust_remote_code : bool
        Whether code that comes with the model may run.

    Attributes
    ----------
    encoder_decoder : bool
        Whether the prompt is read by an encoder (BART, T5, Pegasus, LED).
    context_tokens : int
        What prompt and reply may come to together; for an encoder-decoder what the encoder reads.
    reply_tokens : int or None
        What an encoder-decoder's reply may come to; None where it has no bound of its own.

    Raises
    ------
    ModelUnavailable
        If the files hold no model that writes text.
    """

    def __init__(self, weights: Weights, *, device: str, dtype: str, trust_remote_code: bool = False) -> None:
        import torch

        self.weights = weights
        self.device = device
        self.dtype = dtype
        self._trust_remote_code = trust_remote_code
        # The first tokenizer is never lent, so that it can be copied at any time.
        self._model, self._first_tokenizer = self._load(getattr(torch, dtype))
        self._copy_lock = threading.Lock()
        self._idle_tokenizers: list[PreTrainedTokenizerBase] = []
        self._tokenizer_places = threading.Semaphore(TOKENIZER_COPIES)
        config = self._model.config
        self.encoder_decoder = bool(config.is_encoder_decoder)
        self.model_type = str(config.model_type)
        self.context_tokens = context_tokens_of(config, self._first_tokenizer)
        self.reply_tokens = _reply_tokens(config) if self.encoder_decoder else None
        end = self._model.generation_config.eos_token_id or self._first_tokenizer.eos_token_id
        self._end_ids = set(end if isinstance(end, list) else [end])
        pad = self._first_tokenizer.pad_token_id
        self._pad_id: int = pad if pad is not None else min(self._end_ids)
        self._model.generation_config = self._plain_greedy()

    @contextmanager
    def tokenizer(self) -> Iterator[PreTrainedTokenizerBase]:
        """Lend a tokenizer to the calling thread alone: fast ones fail ('Already borrowed') when shared.

        There are as many copies as threads ever wanted one at once, up to ``TOKENIZER_COPIES``; a copy takes
        0.1 s to make and a prompt 1 ms to read, so that many short-lived threads share few copies.
        """
        with self._tokenizer_places:
            try:
                lent = self._idle_tokenizers.pop()
            except IndexError:
                with self._copy_lock:
                    lent = copy.deepcopy(self._first_tokenizer)
            try:
                yield lent
            finally:
                self._idle_tokenizers.append(lent)

    def _where(self) -> dict[str, Any]:
        where: dict[str, Any] = {
            "pretrained_model_name_or_path": str(self.weights.folder),
            "local_files_only": True,
            "trust_remote_code": self._trust_remote_code,
        }
        if self.weights.gguf_file:
            where["gguf_file"] = self.weights.gguf_file
        return where

    def _load(self, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        with quiet_transformers():
            try:
                config = AutoConfig.from_pretrained(**self._where())
                kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
                safe = {} if self.weights.gguf_file else {"use_safetensors": True}
                model: Any = kind.from_pretrained(**self._where(), dtype=dtype, **safe)
                tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**self._where())
            except (OSError, ValueError, KeyError, ImportError) as error:
                raise ModelUnavailable(
                    self.weights.name,
                    [f"{self.weights.folder}: {error}"],
                    "Take a causal model with a chat template or an encoder-decoder model, "
                    "with its weights in safetensors.",
                ) from error
        ready: PreTrainedModel = model.to(self.device).eval()
        return ready, tokenizer

    def run(self, jobs: Sequence[Job]) -> list[Generated]:
        """Answer the jobs together.

        Parameters
        ----------
        jobs : sequence of Job
            Padded on the left to the longest prompt (an encoder's on the right).

        Raises
        ------
        OutOfMemory
            If the batch did not fit.
        """
        with self.tokenizer() as tokenizer:
            return self._run(jobs, tokenizer)

    def _run(self, jobs: Sequence[Job], tokenizer: PreTrainedTokenizerBase) -> list[Generated]:
        import torch

        longest = max(len(job.input_ids) for job in jobs)
        if self.model_type == "led":
            # Whole windows; LED would pad by itself and say so on standard error for every length.
            window = self._model.config.attention_window
            window = window if isinstance(window, int) else max(window)
            longest = -(-longest // window) * window
        shape = (len(jobs), longest)
        ids = torch.full(shape, self._pad_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        for row, job in enumerate(jobs):
            count = len(job.input_ids)
            place = slice(0, count) if self.encoder_decoder else slice(longest - count, longest)
            ids[row, place] = torch.tensor(job.input_ids, dtype=torch.long)
            mask[row, place] = 1
        prompt_columns = 1 if self.encoder_decoder else longest
        extra: dict[str, Any] = {}
        if self.model_type == "led":
            # LED's first token attends to all others; without it the decoder sees windows only.
            extra["global_attention_mask"] = torch.zeros(shape, dtype=torch.long)
            extra["global_attention_mask"][:, 0] = 1
            extra["global_attention_mask"] = extra["global_attention_mask"].to(self.device)
        rows = _Rows(jobs, tokenizer, prompt_columns)
        generate: Any = self._model.generate
        shortage = None
        try:
            with torch.inference_mode():
                sequences = generate(
                    input_ids=ids.to(self.device),
                    attention_mask=mask.to(self.device),
                    max_new_tokens=max(job.max_new_tokens for job in jobs),
                    logits_processor=[rows.choose],
                    stopping_criteria=[rows.ended],
                    **extra,
                )
        except RuntimeError as error:
            # On the processor PyTorch has no class for it; its allocator's name is in the message.
            if not isinstance(error, torch.OutOfMemoryError) and "CPUAllocator" not in str(error):
                raise
            shortage = str(error)
        if shortage is not None:
            # Raised out here: the original's traceback would hold on to the very tensors that did not fit.
            raise OutOfMemory(shortage)
        replies = sequences[:, prompt_columns:].tolist()
        return [
            # What follows a row's end is padding, as long as its company goes on.
            self._generated(job, reply[:end], tokenizer)
            for job, reply, end in zip(jobs, replies, rows.ends, strict=True)
        ]

    def _plain_greedy(self) -> Any:
        """Return greedy search with the model's own special tokens and nothing else of its settings.

        It takes the place of the model's own, because generate() fills what a call leaves open from there: a
        least length, say, or a penalty on tokens of the prompt. The end token that BART and Pegasus force at
        the cap is left out: it stands at the batch's cap and would make a reply depend on its company.
        """
        import transformers

        make: Any = transformers.GenerationConfig
        own = self._model.generation_config
        return make(
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=self._pad_id,
            eos_token_id=sorted(self._end_ids),
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
            forced_bos_token_id=own.forced_bos_token_id,
        )

    def _generated(self, job: Job, reply: list[int], tokenizer: PreTrainedTokenizerBase) -> Generated:
        ended = next((place for place, token in enumerate(reply) if token in self._end_ids), None)
        written = reply if ended is None else reply[:ended]
        text = str(tokenizer.decode(written, skip_special_tokens=True))
        stops = [place for stop in job.stop if (place := text.find(stop)) >= 0]
        if stops:
            text, tokens, reason = text[: min(stops)], len(written), StopReason.STOP
        elif ended is not None:
            tokens, reason = ended + 1, StopReason.STOP
        else:
            tokens, reason = len(written), StopReason.LENGTH
        return Generated(text, tokens, reason)


class _Rows:
    """Chooses tokens and ends replies row by row, so that no row depends on its company in the batch."""

    def __init__(self, jobs: Sequence[Job], tokenizer: PreTrainedTokenizerBase, prompt_columns: int) -> None:
        self._jobs = jobs
        self._tokenizer = tokenizer
        self._prompt_columns = prompt_columns
        self._tail = 1 + max((len(stop) for job in jobs for stop in job.stop), default=0)
        self._followers: list[dict[tuple[int, ...], set[int]]] = [{} for _ in jobs]
        self._generators = [_generator(job) for job in jobs]
        self.ends: list[int | None] = [None] * len(jobs)
        """Length in tokens at which a reply was ended here; None where the model ended it itself."""

    def choose(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Rework the scores, of shape (rows, vocabulary), so that the best one is the token to take."""
        scores = scores.float()
        for row, (job, reply) in enumerate(zip(self._jobs, self._replies(ids), strict=True)):
            if self.ends[row] is None:
                self._rework(row, job.sampling, reply, scores[row])
        return scores

    def _rework(self, row: int, sampling: Sampling, reply: list[int], scores: torch.Tensor) -> None:
        import torch

        if sampling.repetition_penalty != 1 and reply:
            seen = torch.tensor(sorted(set(reply)), device=scores.device)
            picked = scores[seen]
            scores[seen] = torch.where(
                picked < 0, picked * sampling.repetition_penalty, picked / sampling.repetition_penalty
            )
        size = sampling.no_repeat_ngram
        if size and len(reply) >= size:
            *head, last = reply[-size:]
            self._followers[row].setdefault(tuple(head), set()).add(last)
            banned = self._followers[row].get(tuple(reply[-(size - 1) :] if size > 1 else ()))
            if banned:
                scores[sorted(banned)] = -torch.inf
        generator = self._generators[row]
        if generator is not None:
            scores /= sampling.temperature
            if sampling.top_p < 1:
                ordered, order = scores.sort(descending=True)
                before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
                scores[order[before > sampling.top_p]] = -torch.inf
            # Gumbel's trick: the best of scores plus such noise is a draw from their softmax. The noise is
            # the row's own, so that a seed gives the same text whatever else is in the batch.
            uniform = torch.rand(scores.shape, generator=generator).clamp_(1e-20, 1 - 1e-7)
            scores -= (-uniform.log()).log().to(scores.device)

    def ended(self, ids: torch.Tensor, scores: object, **options: object) -> torch.Tensor:
        """Say which rows are done: cancelled, at their own cap, or past one of their stop strings."""
        import torch

        for row, (job, reply) in enumerate(zip(self._jobs, self._replies(ids), strict=True)):
            if self.ends[row] is not None:
                continue
            done = job.cancelled.is_set() or len(reply) >= job.max_new_tokens
            if job.stop and not done:
                tail = str(self._tokenizer.decode(reply[-self._tail :]))
                done = any(stop in tail for stop in job.stop)
            if done:
                self.ends[row] = len(reply)
        return torch.tensor([end is not None for end in self.ends], device=ids.device)

    def _replies(self, ids: torch.Tensor) -> list[list[int]]:
        replies: list[list[int]] = ids[:, self._prompt_columns :].tolist()
        return replies


def _generator(job: Job) -> torch.Generator | None:
    """Return the source of a job's randomness, None for greedy; a seed gives each prompt its own stream."""
    import torch

    if job.sampling.temperature == 0:
        return None
    generator = torch.Generator()
    if job.sampling.seed is None:
        generator.seed()
    else:
        identity = f"{job.sampling.seed}:{job.input_ids}".encode()
        generator.manual_seed(int.from_bytes(hashlib.sha256(identity).digest()[:8]) >> 1)
    return generator


def _reply_tokens(config: Any) -> int | None:
    """Return how many positions a decoder has; T5's are relative and without end."""
    names = ("max_decoder_position_embeddings", "max_position_embeddings", "max_target_positions")
    return first_bound(config, names)
