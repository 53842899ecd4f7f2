"""The model that the server pretends to have: it counts tokens and writes summaries, always the same ones."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from toolkit.records import StopReason

REASONING_SHARE = {"none": 0.0, "minimal": 0.0, "low": 0.25, "medium": 1.0, "high": 4.0, "xhigh": 8.0}
"""What a reply's effort multiplies the server's ``reasoning_tokens`` with."""

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n(?=[ \t]*\n)")
_LABEL = re.compile(r"^[^\n:]{1,40}:\s+")
_INSTRUCTION = re.compile(r"\b(?:summar|transcript\b|you are\b|write\b|reply\b|answer\b)", re.IGNORECASE)
_LEADING_SENTENCES = 40
_LEADING_CHARACTERS = 10_000


def count_tokens(text: str) -> int:
    """Return the server's own token count: the larger of words x 4/3 and UTF-8 bytes / 5, rounded up.

    It is meant to be quick, repeatable and about right for English, and to agree with no tokenizer, so
    that a client has to live with an estimate that is a little wrong.
    """
    words = len(text.split())
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max(-(-4 * words // 3), -(-size // 5))


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        yield text[start : match.end()].strip()
        start = match.end()
    yield text[start:].strip()


def _first_words(text: str, enough: int, *, skip_instructions: bool) -> list[str]:
    """Return the words of as many sentences as bring ``enough`` of them."""
    words: list[str] = []
    for sentence in islice(_sentences(text[:_LEADING_CHARACTERS]), _LEADING_SENTENCES):
        if skip_instructions and _INSTRUCTION.search(sentence):
            continue
        words.extend(_LABEL.sub("", sentence).split())
        if len(words) >= enough:
            break
    return words


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply.

    ``output_tokens`` counts the text and the reasoning; ``stop_sequence`` is the one that ended it.
    """

    text: str
    output_tokens: int
    reasoning_tokens: int = 0
    stop_reason: StopReason = StopReason.STOP
    stop_sequence: str | None = None


def summarize(text: str, words: int) -> str:
    """Return a summary made of the text's own words: its first sentences, without instructions and labels.

    Parameters
    ----------
    text : str
        The user's message.
    words : int
        About how long the summary may be.
    """
    summary = _first_words(text, words, skip_instructions=True) or _first_words(
        text, words, skip_instructions=False
    )
    if len(summary) > words:
        summary = summary[:words]
        summary[-1] = summary[-1].rstrip(",;:.!?…") + "."
    return " ".join(summary) or "There is nothing to summarize."


def write(
    text: str, *, words: int, cap: int | None, reasoning_tokens: int = 0, stop: tuple[str, ...] = ()
) -> Answer:
    """Answer a message.

    Parameters
    ----------
    text : str
        The user's message.
    words : int
        Length that the summary has where the cap leaves room.
    cap : int or None
        Most tokens, reasoning included.
    reasoning_tokens : int
        Tokens that are spent before the first word; they may use up the whole cap.
    stop : tuple of str
        The reply ends before the first of these.
    """
    if cap is not None and reasoning_tokens >= cap:
        return Answer("", cap, cap, StopReason.LENGTH)
    room = math.inf if cap is None else cap - reasoning_tokens
    # Each word is a token at least: what is sure to be cut off need not be found first.
    reply = summarize(text, int(min(words, room + 1)))
    ends = [(reply.find(mark), mark) for mark in stop if mark and mark in reply]
    stopped_by = None
    if ends:
        end, stopped_by = min(ends)
        reply = reply[:end].rstrip()
    used = count_tokens(reply)
    if used <= room:
        return Answer(reply, used + reasoning_tokens, reasoning_tokens, stop_sequence=stopped_by)
    cut = _longest_prefix(reply, int(room))
    # The cap is spent to its end: a real model would have written on into the next word.
    return Answer(cut, int(room) + reasoning_tokens, reasoning_tokens, StopReason.LENGTH)


def _longest_prefix(text: str, room: int) -> str:
    pieces = text.split()
    low, high = 0, len(pieces)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(" ".join(pieces[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    return " ".join(pieces[:low])
