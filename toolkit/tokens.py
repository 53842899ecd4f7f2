"""Counting tokens: exactly where the vocabulary is at hand, else by a ratio of bytes.

Nothing here uses the network. ``bpe-openai`` carries its vocabularies; ``tiktoken`` fetches them at their
first use, and is asked only for one that lies in its cache already.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

CHARACTERS_PER_TOKEN = 4.0
"""Usual for English prose with byte-pair vocabularies of 50,000 to 200,000 entries."""
CAUTIOUS_BYTES_PER_TOKEN = 3.0
"""For a vocabulary that nobody knows: names, numbers and other languages take more tokens than prose."""
MESSAGE_OVERHEAD_TOKENS = 3
"""What a chat costs for each message, and once more for the reply (OpenAI's documented figures)."""

# From tiktoken's own table: the address names the file in its cache, the hash tells whether it is whole.
_TIKTOKEN_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_TIKTOKEN_SHA256 = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
# bpe-openai refuses texts of a million characters.
_PIECE_CHARACTERS = 500_000


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text from its length in UTF-8 bytes.

    Bytes and not characters, because byte-pair encodings fall back to bytes: a Chinese character costs
    one token or more, an ASCII letter about a quarter.
    """
    return math.ceil(text_bytes(text) / CHARACTERS_PER_TOKEN)


def text_bytes(text: str) -> int:
    """Return the length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def chat_overhead(messages: int) -> int:
    """Return the tokens that a chat of so many messages costs beside their texts."""
    return MESSAGE_OVERHEAD_TOKENS * (messages + 1)


class TokenCounter(Protocol):
    """Counts tokens, always the same for the same text, from many threads."""

    name: str

    def count(self, text: str) -> int:
        """Return the tokens of a text; 0 for an empty one."""
        ...

    def estimate(self, texts: Sequence[str]) -> int:
        """Return the best guess at the tokens of some texts together; it may improve with time."""
        ...

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Take note of what a server counted for some texts together."""
        ...


class EncodingCounter:
    """Counts with a vocabulary.

    Parameters
    ----------
    name : str
        Library and encoding, such as ``bpe-openai:o200k_base``.
    encode : callable
        From a text to its tokens, special tokens taken as plain text.
    """

    def __init__(self, name: str, encode: Callable[[str], Sequence[int]]) -> None:
        self.name = name
        self._encode = encode

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return sum(len(self._encode(piece)) for piece in _pieces(text))

    def estimate(self, texts: Sequence[str]) -> int:
        """Return the tokens of all texts."""
        return sum(map(self.count, texts))

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Do nothing: there is nothing to improve."""


class LearnedBytes:
    r"""Estimates from bytes, with a ratio that it learns from what a server counts.

    With :math:`r_i` the bytes per token of the last ``window`` prompts, the ratio is their quantile
    ``quantile``; while there are fewer than eight of them it is at most the cautious prior. It is kept
    within 1 and 8.

    ``count`` stays with the prior for good: chunks are cut by it, and where a text is cut must not depend
    on what was summarized before it.
    """

    name = "learned-bytes"

    def __init__(self, window: int = 64, quantile: float = 0.1) -> None:
        self._ratios: deque[float] = deque(maxlen=window)
        self._quantile = quantile
        self._ratio = CAUTIOUS_BYTES_PER_TOKEN
        self._ratios_lock = threading.Lock()

    @property
    def bytes_per_token(self) -> float:
        """The ratio that ``estimate`` goes by."""
        return self._ratio

    def count(self, text: str) -> int:
        """Return a cautious number of tokens, the same for ever."""
        return math.ceil(text_bytes(text) / CAUTIOUS_BYTES_PER_TOKEN)

    def estimate(self, texts: Sequence[str]) -> int:
        """Return the tokens of all texts, rather too many than too few."""
        return math.ceil(sum(map(text_bytes, texts)) / self._ratio)

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Take a server's count in; short texts tell more of its overhead than of its vocabulary."""
        size = sum(map(text_bytes, texts))
        if size < 200 or tokens < 1:
            return
        with self._ratios_lock:
            self._ratios.append(min(8.0, max(1.0, size / tokens)))
            ordered = sorted(self._ratios)
            low = ordered[int(self._quantile * (len(ordered) - 1))]
            self._ratio = low if len(ordered) >= 8 else min(low, CAUTIOUS_BYTES_PER_TOKEN)


def make_counter(encoding: str | None) -> TokenCounter:
    """Return the best counter for an encoding (None: unknown) that needs no network."""
    return (encoding and find_encoding(encoding)) or LearnedBytes()


@lru_cache(maxsize=8)
def find_encoding(encoding: str) -> EncodingCounter | None:
    """Return a counter with the vocabulary of an encoding, or None if it is not on this machine."""
    return _from_bpe_openai(encoding) or _from_tiktoken(encoding)


def _from_bpe_openai(encoding: str) -> EncodingCounter | None:
    try:
        with warnings.catch_warnings():
            # It opens its files in a way that Python 3.11 frowns upon; where warnings are errors, that
            # would look as if it were not installed.
            warnings.simplefilter("ignore")
            from bpe_openai import get_encoding

            encode = get_encoding(encoding).encode_ordinary
            # A build that does not fit this machine fails at its first use.
            encode("hello world")
    except Exception:
        return None
    return EncodingCounter(f"bpe-openai:{encoding}", encode)


def _from_tiktoken(encoding: str) -> EncodingCounter | None:
    path = tiktoken_file(encoding)
    if path is None:
        return None
    try:
        # A file that is not whole would be thrown away by tiktoken, and fetched.
        if hashlib.sha256(path.read_bytes()).hexdigest() != _TIKTOKEN_SHA256[encoding]:
            return None
        from tiktoken import get_encoding

        encode = get_encoding(encoding).encode_ordinary
    except Exception:
        return None
    return EncodingCounter(f"tiktoken:{encoding}", encode)


def tiktoken_file(encoding: str) -> Path | None:
    """Return the file in which tiktoken keeps an encoding, by its own rules; None if it keeps none."""
    if encoding not in _TIKTOKEN_SHA256:
        return None
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    if not folder:  # set and empty: it keeps nothing
        return None
    return Path(folder, hashlib.sha1(_TIKTOKEN_URL.format(encoding).encode()).hexdigest())


def _pieces(text: str) -> list[str]:
    """Cut a very long text at line ends or blanks."""
    pieces = []
    while len(text) > _PIECE_CHARACTERS:
        cut = max(text.rfind(mark, 1, _PIECE_CHARACTERS) for mark in "\n ")
        cut = cut if cut > 0 else _PIECE_CHARACTERS
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text] if text else pieces
