"""Local models with transformers and PyTorch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from toolkit.config import Config
from toolkit.engines.choice import EngineSpec
from toolkit.engines.engine import Engine, Model
from toolkit.engines.jobs import Job
from toolkit.engines.loaded import acquire_engine, release_engine
from toolkit.engines.memory import free_bytes
from toolkit.engines.unloaded import ModelSize, UnloadedModel, read_model
from toolkit.errors import ConfigError, ContextTooLong
from toolkit.machine import cores_here
from toolkit.mapreduce import Prompt, SummarySettings
from toolkit.protocols import SummarizeParams
from toolkit.providers.base import SummarizationProvider, code_digest
from toolkit.records import Reply, Request, StopReason, Summary, Usage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Small chat models copy or answer the transcript unless the reply is begun for them, and they say what they
# have to say in their first paragraph: hence a prefill and the empty line as the end.
_QUESTION = "What do the speakers say? Write a short summary in two sentences."
CHAT_PROMPTS = (
    Prompt(
        'Here is the transcript of a podcast:\n\n"""\n{text}\n"""\n\n' + _QUESTION,
        160,
        prefill="In this episode, the speakers discuss",
        stop=("\n\n",),
    ),
    Prompt(
        'Here is a part of a podcast:\n\n"""\n{text}\n"""\n\n' + _QUESTION,
        80,
        prefill="The speakers discuss",
        stop=("\n\n",),
    ),
    Prompt(
        "Here are notes on the parts of one podcast episode, in order:\n\n{text}\n\n"
        "What is the episode about? Write one short summary of the whole episode.",
        160,
        prefill="In this episode, the speakers discuss",
        stop=("\n\n",),
    ),
)
SUMMARIZER_PROMPTS = (Prompt("{text}", 160), Prompt("{text}", 96), Prompt("{text}", 160))
"""Encoder-decoder models are trained to summarize what they are given, without being asked."""


class TransformersSummarizationProvider(SummarizationProvider):
    """Summarizes with a model in this process.

    Causal models with a chat template and encoder-decoder models (BART, T5, Pegasus, LED), from a local
    folder, the hub or its cache; the default is a small one that needs no hub. All instances of one
    model share its weights, and their requests are merged into batches.

    Parameters
    ----------
    config : Config, optional
        ``model``, ``model_revision``, ``device``, ``dtype``, ``engine`` and its settings, ``deterministic``
        and ``trust_remote_code`` choose the model; it loads at the first use or at ``prepare()``.

    Raises
    ------
    ModelUnavailable
        At the first use, if no usable weights are found.
    """

    name: ClassVar[str] = "transformers"
    default_model: ClassVar[str | None] = "smollm2-135m"
    default_prompts: ClassVar[tuple[Prompt, Prompt, Prompt]] = CHAT_PROMPTS
    default_chunk_tokens: ClassVar[int | None] = 1024
    # The cap is how a small model's reply usually ends; the unfinished sentence is dropped.
    cut_is_partial: ClassVar[bool] = False
    runs_here: ClassVar[bool] = True

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self._spec = EngineSpec(
            model=self.model,
            revision=self.config.model_revision,
            device=self.config.device,
            dtype=self.config.dtype,
            trust_remote_code=self.config.trust_remote_code,
            engine=self.config.engine,
            batch_tokens=self.config.engine_batch_tokens,
            memory_gb=self.config.engine_memory_gb,
            deterministic=self.config.deterministic,
            threads=_share_of_cores(self.config),
        )
        self._held: Engine | None = None
        self._instances: dict[EngineSpec, Engine] = {}
        self._idle: list[EngineSpec] = []
        self._own: dict[str, Engine] = {}
        self._held_lock = threading.Lock()
        self._unloaded: UnloadedModel | None = None

    @classmethod
    def for_planning(cls, config: Config) -> Self:
        """Return an instance that reads the model's config and vocabulary, and not its weights."""
        provider = cls(config)
        provider._unloaded = read_model(
            provider.model, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
        return provider

    @property
    def model_size(self) -> ModelSize | None:
        """How large the model is; known of one made for planning whose files are on this disk."""
        return None if self._unloaded is None else self._unloaded.size

    @property
    def joins(self) -> bool:
        """Whether requests join between two tokens: causal models do, encoder-decoders run whole batches."""
        return not self._known.encoder_decoder

    def share_machine(self, processes: int) -> None:
        """Bound the model's cores and, unless the config does, its memory: a share is left to all else."""
        cores = self._spec.threads or cores_here()
        memory_gb = self._spec.memory_gb
        if memory_gb is None and processes > 1:
            memory_gb = free_bytes("cpu") / 1e9 / (processes + 1)
        self._spec = replace(self._spec, threads=max(1, cores // processes), memory_gb=memory_gb)

    def prepare(self) -> None:
        """Load the model now, and see whether it can be told what to do."""
        self.settings()

    @property
    def engine(self) -> Engine:
        """What runs the model, loaded now if it is not yet; ``name`` and ``reason`` say which and why."""
        held = self._held
        if held is None:
            with self._held_lock:
                held = self._held = self._held or acquire_engine(self._spec)
        return held

    def summarize(self, text: str, params: Mapping[str, Any] | SummarizeParams | None = None) -> Summary:
        """Summarize a text; see the base. With ``engine_instances="per_episode"`` on a model of its own."""
        told = SummarizeParams.of(params)
        if self.config.engine_instances == "shared":
            return super().summarize(text, told)
        with self._own_instance(told.episode_id):
            return super().summarize(text, told)

    @contextmanager
    def _own_instance(self, episode_id: str) -> Iterator[None]:
        """Have an episode's requests answered by a model that no other episode uses meanwhile."""
        with self._held_lock:
            if self._idle:
                spec = self._idle.pop()
            else:
                spec = replace(self._spec, instance=len(self._instances))
                self._instances[spec] = acquire_engine(spec)
            self._own[episode_id] = self._instances[spec]
        try:
            yield
        finally:
            with self._held_lock:
                del self._own[episode_id]
                self._idle.append(spec)

    @property
    def _known(self) -> Model | UnloadedModel:
        """What knows the model's config and vocabulary."""
        return self._unloaded or self.engine.model

    def close(self) -> None:
        """Give the model back; it stays loaded for the next provider that wants it."""
        with self._held_lock:
            if self._held is not None:
                self._held = None
                release_engine(self._spec)
            for spec in self._instances:
                release_engine(spec)
            self._instances.clear()
            self._idle.clear()

    @property
    def context_tokens(self) -> int:
        """The model's own bound on positions; an encoder-decoder's reply does not count against it."""
        engine = self._known
        if engine.encoder_decoder:
            caps = (
                self.config.summary_max_tokens or prompt.max_output_tokens for prompt in SUMMARIZER_PROMPTS
            )
            # The smallest, because a stage's own cap is subtracted again: none may get more than is read.
            return engine.context_tokens + min(caps)
        return engine.context_tokens

    def count_tokens(self, text: str) -> int:
        """Count in the model's own tokens."""
        # Not verbose: it would warn of texts longer than the context, which is why they are counted.
        with self._known.tokenizer() as tokenizer:
            return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def input_estimate(self, request: Request) -> int:
        """Count a prompt as the model is given it, with its chat template."""
        return len(self._input_ids(request.system, request.prompt, request.prefill))

    def settings(self) -> SummarySettings:
        """Return the base's settings, with the instructions that the kind of model needs."""
        settings = super().settings()
        config = self.config
        if self._known.encoder_decoder:
            task = "summarize: " if self._known.model_type == "t5" else ""
            chosen = (config.direct_prompt, config.map_prompt, config.reduce_prompt)
            direct, map_, reduce = (
                self._prompt(replace(default, template=task + default.template), template)
                for default, template in zip(SUMMARIZER_PROMPTS, chosen, strict=True)
            )
            settings = replace(settings, direct=direct, map=map_, reduce=reduce, system="")
        return replace(
            settings,
            overhead_tokens=self._template_tokens(settings.system),
            sampling=config.sampling(repetition_penalty=1.1, no_repeat_ngram=4),
        )

    def _template_tokens(self, system: str) -> int:
        """Count what the chat template adds; four more for tokens that merge differently at the seams."""
        return len(self._input_ids(system, "", "")) - self.count_tokens(system) + 4

    def _input_ids(self, system: str, prompt: str, prefill: str) -> list[int]:
        engine = self._known
        with engine.tokenizer() as tokenizer:
            system, prompt = (_plain(tokenizer, text) for text in (system, prompt))
            if engine.encoder_decoder:
                return list(tokenizer(prompt, verbose=False)["input_ids"])
            if not tokenizer.chat_template:
                raise ConfigError(
                    f"model={self.model!r} has no chat template, so it cannot be told what to do; "
                    "take an instruction-tuned one"
                )
            text = _chat(tokenizer, system, prompt) + prefill
            return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def identity(self) -> Mapping[str, Any] | None:
        """Return model, weights, engine and dtype: with any other the text may be another.

        None of one made for planning: nobody has read its weights.
        """
        if self._unloaded is not None:
            return None
        engine = self.engine
        return {
            "provider": self.name,
            "code": code_digest(type(self)),
            "model": self.model,
            "weights": engine.model.weights.fingerprint,
            "engine": engine.name,
            "batches": engine.batches,
            "dtype": engine.model.dtype,
            "deterministic": self.config.deterministic,
        }

    def generate(self, request: Request) -> Reply:
        """Answer one request, in a batch with those of other threads."""
        engine = self._own.get(request.episode_id) or self.engine
        with engine.arriving():
            ids = self._admissible_ids(request, engine.model)
            job = Job(
                ids,
                request.max_output_tokens,
                request.sampling,
                request.stop,
                request.cancelled or threading.Event(),
                owner=request.episode_id,
                name=request.call_id,
            )
            future = engine.submit(job)
        served = future.result()
        written = bool(served.generated.text.strip())  # A prefill alone is no reply.
        return Reply(
            text=(request.prefill + served.generated.text).strip() if written else "",
            usage=Usage(len(ids), served.generated.tokens, counter="tokenizer"),
            stop_reason=served.generated.stop_reason if written else StopReason.EMPTY,
            service_started=served.started,
            service_ended=served.ended,
            first_token=served.first_token,
            batch_size=served.batch_size,
        )

    def _admissible_ids(self, request: Request, model: Model) -> list[int]:
        """Return the prompt in tokens; refuse what the model could not hold."""
        ids = self._input_ids(request.system, request.prompt, request.prefill)
        reply_tokens = 0 if model.encoder_decoder else request.max_output_tokens
        if len(ids) + reply_tokens > model.context_tokens:
            raise ContextTooLong(
                f"a prompt of {len(ids)} tokens and a reply of up to {request.max_output_tokens} do not fit "
                f"the context of {model.context_tokens} tokens; lower chunk_tokens"
            )
        bound = model.reply_tokens
        if bound is not None and request.max_output_tokens > bound:
            raise ContextTooLong(
                f"a reply of up to {request.max_output_tokens} tokens does not fit the decoder's {bound} "
                "positions; lower summary_max_tokens"
            )
        return ids


def _share_of_cores(config: Config) -> int | None:
    """Return the threads of each model where each episode has its own; None where all share one."""
    if config.engine_instances == "shared":
        return None
    return max(1, (os.cpu_count() or 1) // config.summary_batch_size)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Break up what a model would read as its own control tokens: a transcript must not end its turn."""
    for token in tokenizer.all_special_tokens:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _chat(tokenizer: PreTrainedTokenizerBase, system: str, prompt: str) -> str:
    """Apply the model's chat template; one that knows no system role gets both in the user's message."""
    from jinja2 import TemplateError

    user = {"role": "user", "content": prompt}
    messages = [{"role": "system", "content": system}, user] if system else [user]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except TemplateError:
        if not system:
            raise
        return _chat(tokenizer, "", f"{system}\n\n{prompt}")
