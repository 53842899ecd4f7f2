"""Cutting a transcript into chunks that fit a model: at turns, else sentences, else words.

Lines of the text are the turns. Every word of the text is in some chunk, in its order; with an overlap
the end of a chunk stands again at the start of the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

CountTokens = Callable[[str], int]

# A sentence ends after . ? ! or their full-width forms, with closing quotes or brackets, before a space.
_SENTENCE_END = re.compile(r"(?<=[.?!…。！？])[\"'”’)\]]*\s+")

# A sentence longer than a chunk is counted by runs of words, so many of which make a chunk. Word by word it
# would be more even by a hundredth, and a tokenizer takes longer to be called than to read a few words.
_RUNS_PER_CHUNK = 64


class _Piece(NamedTuple):
    """A part of the text that is not cut further, with what stands between it and the one before."""

    text: str
    separator: str
    tokens: int


def chunk_text(
    text: str, count_tokens: CountTokens, *, chunk_tokens: int, overlap_tokens: int = 0
) -> list[str]:
    """Cut ``text`` into chunks.

    Parameters
    ----------
    text : str
        A line for each turn.
    count_tokens : callable
        Tokens of a string, as the model counts them.
    chunk_tokens : int
        Bound on the tokens of a chunk, by ``count_tokens`` on the finished chunk.
    overlap_tokens : int
        About how many tokens of a chunk's end are repeated at the start of the next; whole pieces only,
        never more than this.

    Returns
    -------
    list of str
        Empty for a text without words. No chunk is longer than ``chunk_tokens``, unless a single
        character is.
    """
    return chunk_turns(
        turns_of(text, count_tokens), count_tokens, chunk_tokens=chunk_tokens, overlap_tokens=overlap_tokens
    )


def turns_of(text: str, count_tokens: CountTokens) -> list[tuple[str, int]]:
    """Return the turns of a text that have words, each with its tokens, the line break before it included."""
    turns = (" ".join(line.split()) for line in text.splitlines())
    return [(turn, count_tokens("\n" + turn)) for turn in turns if turn]


def chunk_turns(
    turns: Sequence[tuple[str, int]],
    count_tokens: CountTokens,
    *,
    chunk_tokens: int,
    overlap_tokens: int = 0,
) -> list[str]:
    """Cut a text whose turns are counted already (`turns_of`), as `chunk_text` does."""
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens={chunk_tokens} must be at least 1")
    if not 0 <= overlap_tokens < chunk_tokens:
        raise ValueError(
            f"overlap_tokens={overlap_tokens} must be from 0 to below chunk_tokens={chunk_tokens}"
        )
    pieces: list[_Piece] = []
    for turn, tokens in turns:
        if 2 * tokens <= chunk_tokens:  # Most are short, and there may be a million of them.
            pieces.append(_Piece(turn, "\n", tokens))
        else:
            pieces += _split(turn, "\n", tokens, count_tokens, chunk_tokens)
    *before, total = accumulate((piece.tokens for piece in pieces), initial=0)
    chunks: list[str] = []
    start = end = 0
    while start < len(pieces):
        end = _fill(pieces, start, end + 1, total - before[start], count_tokens, chunk_tokens)
        chunks.append(_join(pieces[start:end]))
        if end == len(pieces):
            break
        start = _back(pieces, start, end, count_tokens, chunk_tokens, overlap_tokens)
    return chunks


def _fill(
    pieces: list[_Piece], start: int, least: int, left: int, count_tokens: CountTokens, bound: int
) -> int:
    """Return the end of a run from ``start`` that fits: at least ``least``, which brings a new piece.

    The ``left`` tokens are shared evenly among as few chunks as hold them: a small rest at the end would say
    little on its own, and a batch is padded to its longest.
    """
    share = left / math.ceil(left / bound) if left > bound else bound
    end, tokens = start + 1, pieces[start].tokens
    while end < len(pieces) and tokens + pieces[end].tokens <= bound:
        if end >= least and tokens + pieces[end].tokens / 2 > share:
            break
        tokens += pieces[end].tokens
        end += 1
    # The sum of the parts is close to the count of the whole but no bound on it: tokens may merge or
    # split where the parts meet. The finished chunk decides.
    while end > start + 1 and count_tokens(_join(pieces[start:end])) > bound:
        end -= 1
    return end


def _back(
    pieces: list[_Piece], start: int, end: int, count_tokens: CountTokens, bound: int, overlap: int
) -> int:
    """Return where the next chunk starts: before ``end`` by at most ``overlap`` tokens, after ``start``."""
    begin, room = end, min(overlap, bound - pieces[end].tokens)
    while begin - 1 > start and pieces[begin - 1].tokens <= room:
        room -= pieces[begin - 1].tokens
        begin -= 1
    # Again the whole decides, and the next chunk must reach beyond this one, or the cutting would never end.
    while begin < end and (
        count_tokens(_join(pieces[begin:end])) > overlap
        or count_tokens(_join(pieces[begin : end + 1])) > bound
    ):
        begin += 1
    return begin


def _join(pieces: list[_Piece]) -> str:
    head, *rest = pieces
    return head.text + "".join(piece.separator + piece.text for piece in rest)


def _split(text: str, separator: str, tokens: int, count_tokens: CountTokens, bound: int) -> Iterator[_Piece]:
    """Yield a turn if it fits, else its sentences, else its words, else runs of characters."""
    if tokens <= bound < 2 * tokens:
        # Where it begins a chunk it stands without its separator, which may cost more than with it: many
        # vocabularies hold a word with the space before it only. That matters where there is little room.
        tokens = max(tokens, count_tokens(text))
    if tokens <= bound or len(text) == 1:
        yield _Piece(text, separator, tokens)
        return
    parts, between = _parts(text, bound / tokens)
    for part in parts:
        yield from _split(part, separator, count_tokens(separator + part), count_tokens, bound)
        separator = between


def _parts(text: str, share: float) -> tuple[list[str], str]:
    """Cut a text of which a ``share`` fits a chunk; return its parts and what stands between them."""
    sentences = _sentences(text)
    if len(sentences) > 1:
        return sentences, " "
    words = text.split(" ")
    if len(words) > 1:
        run = max(1, int(len(words) * share / _RUNS_PER_CHUNK))
        return [" ".join(words[left : left + run]) for left in range(0, len(words), run)], " "
    # One word longer than a chunk: halved until its parts fit.
    middle = len(text) // 2
    return [text[:middle], text[middle:]], ""


def _sentences(turn: str) -> list[str]:
    ends = [match.end() for match in _SENTENCE_END.finditer(turn)]
    edges = zip([0, *ends], [*ends, len(turn)], strict=True)
    return [turn[left:right].rstrip() for left, right in edges if turn[left:right].strip()]


def whole_sentences(text: str) -> str:
    """Return ``text`` without an unfinished last sentence; a text without any sentence end is kept."""
    stripped = text.strip()
    if not stripped or re.search(r"[.?!…。！？][\"'”’)\]]*$", stripped):
        return stripped
    ends = [match.start() for match in _SENTENCE_END.finditer(stripped)]
    if not ends:
        return stripped
    *_, last = ends
    closing = re.match(r"[\"'”’)\]]*", stripped[last:])
    return stripped[: last + (closing.end() if closing else 0)]
