"""What is known of hosted models by their names, as of November 2026.

Sources: the vendors' pages on their models (developers.openai.com/api/docs/models,
platform.claude.com/docs/en/about-claude/models). ``context_tokens`` in the config goes before this table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from toolkit.prices import undated

CAUTIOUS_CONTEXT_TOKENS = 4096
"""Of a model that nobody knows on a server of one's own: what Ollama and LM Studio load a model with unless
they are told otherwise. Ollama cuts longer prompts without a word."""
HOSTED_CONTEXT_TOKENS = 16_384
"""Of a model that nobody knows at a vendor: all that are served today have more."""

REASONING_ROOM = {
    "none": 0,
    "minimal": 256,
    "low": 1024,
    "medium": 4096,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 65_536,
}
"""Tokens that are added to the default caps for thinking: it counts toward the cap, and a cap that it uses up
is paid for and brings no word."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models that behave alike.

    Attributes
    ----------
    name : str
        How their names begin.
    context_tokens : int or None
        What prompt and reply may come to together; where prompts have a bound of their own, that.
    reasoning : bool
        Thinks before it answers, unless told not to.
    least_effort : str or None
        The least thinking that it can be asked for.
    sampling : str
        When it takes a temperature: ``always``, only with effort ``none``, or ``never``.
    encoding : str or None
        Its vocabulary, where that is published.
    """

    name: str
    context_tokens: int | None = None
    reasoning: bool = False
    least_effort: str | None = None
    sampling: Literal["always", "without_reasoning", "never"] = "always"
    encoding: str | None = None


_O200K = Family("", encoding="o200k_base")
_THINKING = replace(_O200K, reasoning=True, least_effort="low", sampling="never")
_QUIET = replace(_THINKING, least_effort="none", sampling="without_reasoning")
_CLAUDE = Family("", context_tokens=200_000)
_CLAUDE_5 = Family("", 1_000_000, reasoning=True, least_effort="low", sampling="never")

_ROWS: tuple[tuple[str, Family, int], ...] = (
    # 922,000 in and 128,000 out.
    ("gpt-6", _THINKING, 922_000),
    ("gpt-6-sol", _QUIET, 922_000),
    ("gpt-6-luna", _QUIET, 922_000),
    ("gpt-6.1", _THINKING, 922_000),
    ("gpt-6.2", _THINKING, 922_000),
    ("gpt-5.6", _QUIET, 922_000),
    # 272,000 in and 128,000 out; of the later ones no more is known for sure.
    ("gpt-5.5", _QUIET, 272_000),
    ("gpt-5.4", _QUIET, 272_000),
    ("gpt-5.2", _QUIET, 272_000),
    ("gpt-5.2-pro", _THINKING, 272_000),
    ("gpt-5.1", _QUIET, 272_000),
    ("gpt-5", replace(_THINKING, least_effort="minimal"), 272_000),
    ("gpt-5-chat", _O200K, 128_000),
    ("gpt-4.1", _O200K, 1_047_576),
    ("gpt-4o", _O200K, 128_000),
    ("chatgpt-4o", _O200K, 128_000),
    ("gpt-4-turbo", replace(_O200K, encoding="cl100k_base"), 128_000),
    ("gpt-4", replace(_O200K, encoding="cl100k_base"), 8192),
    ("gpt-3.5-turbo", replace(_O200K, encoding="cl100k_base"), 16_385),
    ("o1", _THINKING, 200_000),
    ("o3", _THINKING, 200_000),
    ("o4-mini", _THINKING, 200_000),
    ("claude", _CLAUDE, 200_000),
    ("claude-opus-4-6", _CLAUDE, 1_000_000),
    ("claude-opus-4-7", replace(_CLAUDE, sampling="never"), 200_000),
    ("claude-opus-4-8", replace(_CLAUDE, sampling="never"), 200_000),
    ("claude-opus-5", _CLAUDE_5, 1_000_000),
    ("claude-sonnet-5", _CLAUDE_5, 1_000_000),
    ("claude-haiku-5", _CLAUDE_5, 1_000_000),
    ("claude-fable-5", _CLAUDE_5, 1_000_000),
    ("claude-mythos-5", _CLAUDE_5, 1_000_000),
)
FAMILIES = tuple(replace(family, name=name, context_tokens=context) for name, family, context in _ROWS)

_UNKNOWN = Family("")


def find_family(model: str) -> Family:
    """Return what is known of a model: the row with the longest name that begins it, or an empty one.

    Routers put the vendor before the name (``openai/gpt-4o``), fine-tuned models begin with ``ft:``.
    """
    name = model.rpartition("/")[2]
    if name.startswith("ft:"):
        name = name.split(":")[1]
    name = undated(name)
    fitting = [family for family in FAMILIES if name == family.name or name.startswith(family.name + "-")]
    return max(fitting, key=lambda family: len(family.name), default=_UNKNOWN)
