"""Counting tokens: known vectors, an estimate that learns, and never a word to the network."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from toolkit import tokens
from toolkit.tokens import LearnedBytes, chat_overhead, estimate_tokens, find_encoding, make_counter

PROSE = "The mill by the sea ground seven sacks of rye while the tide went out. " * 40


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every connection fail loudly, and forget which encodings were found."""

    def connect(*arguments: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", connect)
    find_encoding.cache_clear()
    yield
    find_encoding.cache_clear()


@pytest.mark.parametrize(
    ("encoding", "vector"), [("o200k_base", [24912, 2375]), ("cl100k_base", [15339, 1917])]
)
def test_bpe_openai_gives_the_published_vectors(encoding: str, vector: list[int]) -> None:
    """The vocabulary in the wheel is OpenAI's."""
    counter = find_encoding(encoding)
    assert counter is not None
    assert counter.name == f"bpe-openai:{encoding}"
    assert counter._encode("hello world") == vector
    assert counter.count("hello world") == 2
    assert counter.count("") == 0


def test_special_tokens_are_plain_text() -> None:
    """A transcript that holds one is counted and neither refused nor cut."""
    assert make_counter("o200k_base").count("<|endoftext|>") > 1


def test_very_long_texts_are_counted_in_pieces() -> None:
    """The library refuses a million characters; the pieces come to the same, but for the seams."""
    counter = make_counter("o200k_base")
    text = PROSE * 400
    assert len(text) > 1_000_000
    each = (counter.count(PROSE * 20) - counter.count(PROSE * 10)) / 10
    assert abs(counter.count(text) - 400 * each) < 10
    assert counter.count("x" * 1_200_000) > 0


def test_without_a_vocabulary_bytes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown encoding, or none of the libraries at hand."""
    assert make_counter(None).name == "learned-bytes"
    assert make_counter("nonsense_base").name == "learned-bytes"
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert make_counter("o200k_base").name == "learned-bytes"


def test_tiktoken_is_asked_only_for_what_lies_in_its_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would fetch what is missing, and throw away and fetch what is not whole."""
    asked = []

    def get_encoding(name: str) -> Any:
        asked.append(name)
        return type("Encoding", (), {"encode_ordinary": staticmethod(lambda text: text.split())})

    library = ModuleType("tiktoken")
    library.get_encoding = get_encoding  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    monkeypatch.setitem(sys.modules, "tiktoken", library)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    assert make_counter("o200k_base").name == "learned-bytes"
    path = tokens.tiktoken_file("o200k_base")
    assert path is not None
    assert path.parent == tmp_path
    # The name that tiktoken gives it, computed once by hand.
    assert path.name == "fb374d419588a4632f3f557e76b4b70aebbca790"
    path.write_bytes(b"half of it")
    find_encoding.cache_clear()
    assert make_counter("o200k_base").name == "learned-bytes"
    assert asked == []

    whole = hashlib.sha256(b"half of it").hexdigest()
    monkeypatch.setitem(tokens._TIKTOKEN_SHA256, "o200k_base", whole)
    find_encoding.cache_clear()
    counter = make_counter("o200k_base")
    assert (counter.name, counter.count("a b c"), asked) == ("tiktoken:o200k_base", 3, ["o200k_base"])


def test_folder_of_tiktokens_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own rules: one variable before the other, and an empty one turns the cache off."""
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path / "gym"))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    assert tokens.tiktoken_file("o200k_base").parent == tmp_path / "gym"  # type: ignore[union-attr]
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tik"))
    assert tokens.tiktoken_file("o200k_base").parent == tmp_path / "tik"  # type: ignore[union-attr]
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert tokens.tiktoken_file("o200k_base") is None
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.delenv("DATA_GYM_CACHE_DIR")
    assert tokens.tiktoken_file("o200k_base").parent.name == "data-gym-cache"  # type: ignore[union-attr]


def test_estimate_learns_the_servers_ratio() -> None:
    """After some prompts it is near what the server counts, and errs to the side of too many."""
    counter = LearnedBytes()
    cautious = counter.estimate([PROSE])
    true = [4.0, 4.2, 4.4, 4.6, 4.1, 4.3, 4.5, 4.2, 4.4, 4.3]
    for ratio in true:
        counter.learn([PROSE], round(len(PROSE) / ratio))
    learned = counter.estimate([PROSE])
    assert len(PROSE) / 4.3 < learned <= len(PROSE) / 3.95
    assert learned < cautious


def test_estimate_is_cautious_at_first() -> None:
    """One prompt that was cheap does not make all of them so; one that was dear does at once."""
    counter = LearnedBytes()
    prior = counter.bytes_per_token
    counter.learn([PROSE], len(PROSE) // 6)
    assert counter.bytes_per_token == prior
    counter.learn([PROSE], len(PROSE) // 2)
    assert counter.bytes_per_token == pytest.approx(2, rel=0.01)


def test_nonsense_is_not_learned() -> None:
    """A server that counts nothing, or a token for a megabyte, does not make the estimate useless."""
    counter = LearnedBytes()
    for _ in range(20):
        counter.learn([PROSE], 0)
        counter.learn(["short"], 1)
        counter.learn([PROSE], 1)
    assert 1 <= counter.bytes_per_token <= 8
    assert counter.estimate([PROSE]) >= len(PROSE) / 8


def test_count_does_not_change_with_what_is_learned() -> None:
    """Where a text is cut must not depend on what was summarized before it."""
    counter = LearnedBytes()
    before = counter.count(PROSE)
    for _ in range(10):
        counter.learn([PROSE], len(PROSE) // 2)
    assert counter.count(PROSE) == before
    assert counter.estimate([PROSE]) != before


def test_many_threads_learn_at_once() -> None:
    """Nothing is lost or broken, and the ratio is one that was learned."""
    counter = LearnedBytes()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: counter.learn([PROSE], len(PROSE) // (2 + n % 3)), range(400)))
    assert 2 <= counter.bytes_per_token <= 4.01


def test_chat_overhead() -> None:
    """Three a message and three for the reply."""
    assert [chat_overhead(n) for n in (1, 2)] == [6, 9]


@pytest.mark.parametrize("text", ["", "a", "日本語", "\ud800", PROSE])
def test_estimates_are_of_bytes(text: str) -> None:
    """Also of texts that cannot be written in UTF-8."""
    size = len(text.encode("utf-8", "surrogatepass"))
    assert estimate_tokens(text) == -(-size // 4)
    assert LearnedBytes().count(text) == -(-size // 3)
