"""Tokenizers that many threads use at once, each with a copy of its own."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_COPIES = 4
"""More copies than cores read no faster; those of a large vocabulary take tens of MB each."""


class TokenizerLender:
    """Lends copies of a tokenizer: fast ones fail ('Already borrowed') when threads share them.

    There are as many copies as threads ever wanted one at once, up to ``copies``; a copy takes 0.1 s to make
    and a prompt 1 ms to read, so that many short-lived threads share few copies.

    Parameters
    ----------
    first : PreTrainedTokenizerBase
        Never lent, so that it can be copied at any time.
    copies : int
    """

    def __init__(self, first: PreTrainedTokenizerBase, copies: int = TOKENIZER_COPIES) -> None:
        self._first = first
        self._copy_lock = threading.Lock()
        self._idle: list[PreTrainedTokenizerBase] = []
        self._places = threading.Semaphore(copies)

    @contextmanager
    def lend(self) -> Iterator[PreTrainedTokenizerBase]:
        """Lend a tokenizer to the calling thread alone."""
        with self._places:
            try:
                lent = self._idle.pop()
            except IndexError:
                with self._copy_lock:
                    lent = copy.deepcopy(self._first)
            try:
                yield lent
            finally:
                self._idle.append(lent)
