"""Digests of all that an answer depends on: equal keys, equal questions.

Endpoint, provider, model with its weights, engine and dtype come from the provider's ``identity``; the rest
is the request itself, its stage and the repeat. Limits, time-outs and numbers of workers are left out: they
change when an answer comes, not what it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from toolkit.mapreduce import SummarySettings
from toolkit.records import Request

_LENGTH = 32
"""Hexadecimal digits: 128 bits, at which no two of a billion billion questions meet by chance."""


def _plain(value: object) -> object:
    if isinstance(value, tuple | set | frozenset):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    return str(value)


_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)


def digest(*parts: object) -> str:
    """Return a digest of values that JSON can hold; the same in every process."""
    return hashlib.sha256(_JSON.encode(parts).encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]


def call_key(who: str, request: Request, repeat: int) -> str:
    """Return the key of a request to whom ``who`` is the digest of."""
    sampling = request.sampling
    return digest(
        "call",
        who,
        repeat,
        request.stage.value,
        request.max_output_tokens,
        request.stop,
        (
            sampling.temperature,
            sampling.top_p,
            sampling.seed,
            sampling.repetition_penalty,
            sampling.no_repeat_ngram,
        ),
        request.system,
        request.prefill,
        request.prompt,
    )


def text_key(who: str, text: str, settings: SummarySettings, counter: str, repeat: int) -> str:
    """Return the key of a text that is summarized under some settings, in however many calls."""
    return digest("text", who, repeat, _settings_digest(settings), counter, text)


@lru_cache(maxsize=64)
def _settings_digest(settings: SummarySettings) -> str:
    # What ``bound`` says is for messages.
    return digest(asdict(replace(settings, bound="")))


def scope_key(who: str, settings: Mapping[str, Any], texts: list[str], repeat: int) -> str:
    """Return the key of a run: these texts under just these settings, also those that change no answer."""
    return digest(
        "run",
        who,
        repeat,
        settings,
        [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts],
    )
