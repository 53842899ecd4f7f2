"""Counting tokens without a tokenizer."""

from __future__ import annotations

import math

CHARACTERS_PER_TOKEN = 4.0
"""Usual for English prose with byte-pair vocabularies of 50,000 to 200,000 entries."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text from its length in UTF-8 bytes.

    Bytes and not characters, because byte-pair encodings fall back to bytes: a Chinese character costs
    one token or more, an ASCII letter about a quarter.
    """
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / CHARACTERS_PER_TOKEN)
