"""Equal keys, equal questions: what changes an answer changes its key, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.mapreduce import Prompt, SummarySettings
from toolkit.records import Request, Sampling, Stage
from toolkit.store.keys import call_key, digest, scope_key, text_key
from toolkit.store.known import KnownKeys

REQUEST = Request("c", "e", Stage.MAP, "prompt", "system", "prefill", ("stop",), 256, 10, 0, Sampling())
SAMPLING = {"temperature": 0.5, "top_p": 0.5, "seed": 0, "repetition_penalty": 1.5, "no_repeat_ngram": 3}
CHANGES: dict[str, Any] = {
    "stage": Stage.REDUCE,
    "prompt": "prompt ",
    "system": "System",
    "prefill": "",
    "stop": (),
    "max_output_tokens": 255,
}
SAME: dict[str, Any] = {
    "call_id": "other",
    "episode_id": "other",
    "input_tokens": None,
    "chunk_index": 4,
    "cancelled": threading.Event(),
}
"""Which episode asks, and what is counted of a question, change nothing about it."""
PROMPT = Prompt(*("{text}" if field.type in ("str", str) else 9 for field in fields(Prompt)))
SETTINGS = SummarySettings(PROMPT, PROMPT, PROMPT, 4096)

texts = st.text(st.characters(exclude_categories=()), max_size=12)


def test_every_field_is_a_part_of_the_key_or_none() -> None:
    """A new field of a request or of sampling is put into the key, or said here to change no answer."""
    assert {field.name for field in fields(Request)} == {"sampling"} | CHANGES.keys() | SAME.keys()
    assert {field.name for field in fields(Sampling)} == SAMPLING.keys()


def test_what_changes_an_answer_changes_its_key() -> None:
    """Who is asked, how often, and each part of the question lead to a key of their own."""
    others = [replace(REQUEST, **{name: value}) for name, value in CHANGES.items()]
    others += [
        replace(REQUEST, sampling=replace(Sampling(), **{name: value}))  # type: ignore[arg-type]
        for name, value in SAMPLING.items()
    ]
    keys = [call_key("who", request, 1) for request in [REQUEST, *others]]
    keys += [
        call_key("other", REQUEST, 1),
        call_key("who", REQUEST, 2),
        text_key("who", "prompt", SETTINGS, "c", 1),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize("name", SAME)
def test_what_changes_no_answer_changes_no_key(name: str) -> None:
    """A question is the same whichever call asks it."""
    assert call_key("who", replace(REQUEST, **{name: SAME[name]}), 1) == call_key("who", REQUEST, 1)


@given(
    st.lists(st.tuples(texts, texts, texts, st.lists(texts, max_size=2).map(tuple)), min_size=2, max_size=6)
)
def test_parts_do_not_run_together(parts: list[Any]) -> None:
    """Where one text ends and the next begins is a part of the question."""
    keys = {
        call_key("who", replace(REQUEST, system=system, prefill=prefill, prompt=prompt, stop=stop), 1)
        for system, prefill, prompt, stop in parts
    }
    assert len(keys) == len(set(parts))


@given(texts, texts)
def test_a_border_may_not_be_moved(one: str, other: str) -> None:
    """Texts that are the same when they are put together differ where they were put together."""
    whole = digest(one + other, "")
    assert (digest(one, other) == whole) == (other == "")
    assert digest([one, other]) != digest(one, other) != digest([one], other)
    assert (scope_key("w", {}, [one, other], 1) == scope_key("w", {}, [other, one], 1)) == (one == other)
    assert scope_key("w", {}, [one + other], 1) != scope_key("w", {}, [one, other], 1)


@pytest.mark.parametrize(
    "change",
    [
        {"direct": replace(PROMPT, **{fields(Prompt)[0].name: "Say: {text}"})},
        {"map": replace(PROMPT, **{fields(Prompt)[0].name: "Say: {text}"})},
        {"reduce": replace(PROMPT, **{fields(Prompt)[0].name: "Say: {text}"})},
        {"context_tokens": 4095},
        {"system": "s"},
        {"overhead_tokens": 31},
        {"chunk_tokens": 100},
        {"overlap_tokens": 1},
        {"sampling": Sampling(seed=1)},
        {"cut_is_partial": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_of_a_summary_are_in_its_key(change: dict[str, Any]) -> None:
    """How a text is cut and asked about is a part of the key of its summary."""
    changed = replace(SETTINGS, **change)
    assert text_key("w", "t", changed, "c", 1) != text_key("w", "t", SETTINGS, "c", 1)


def test_words_for_messages_are_in_no_key() -> None:
    """What the context is called in messages changes no summary; the text, the repeat and the counter do."""
    key = text_key("w", "t", SETTINGS, "c", 1)
    assert text_key("w", "t", replace(SETTINGS, bound="what you set"), "c", 1) == key
    others = {
        text_key("w", "u", SETTINGS, "c", 1),
        text_key("w", "t", SETTINGS, "c", 2),
        text_key("w", "t", SETTINGS, "d", 1),
        text_key("x", "t", SETTINGS, "c", 1),
    }
    assert len(others | {key}) == 5


def test_settings_of_a_run_are_in_its_scope() -> None:
    """A run is another one under other settings, in whatever order they are given."""
    one = scope_key("w", {"a": 1, "b": {"x": 2, "y": None}}, ["t"], 1)
    assert scope_key("w", {"b": {"y": None, "x": 2}, "a": 1}, ["t"], 1) == one
    assert scope_key("w", {"a": 1, "b": {"x": 2}}, ["t"], 1) != one
    assert scope_key("w", {"a": "1", "b": {"x": 2, "y": None}}, ["t"], 1) != one


def test_keys_are_the_same_in_every_process() -> None:
    """A key does not depend on the process's own hashes."""
    script = (
        "from toolkit.store.keys import digest; print(digest({'a': 1, 'b': {3, 1, 2}}, ('é', None, 1.5)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest({"b": {2, 3, 1}, "a": 1}, ("é", None, 1.5))


def test_known_keys_are_always_known_and_others_hardly_ever() -> None:
    """Of 50,000 none is forgotten, and of as many others next to none is looked for in vain."""
    known = KnownKeys()
    keys = [digest("call", number) for number in range(100_000)]
    for key in keys[:50_000]:
        known.add(key)
    assert all(map(known.may_have, keys[:50_000]))
    assert sum(map(known.may_have, keys[50_000:])) <= 5
