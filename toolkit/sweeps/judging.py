"""What judges the summaries of a cell: ROUGE, or a function of one's own."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from toolkit.errors import ConfigError
from toolkit.frames import CELLS
from toolkit.providers.base import code_digest
from toolkit.sweeps.figures import ROUGE, Score, rouge_of


def read_score(score: bool | Score) -> tuple[Score | None, str]:
    """Return what judges the summaries, and its name, by which a later start knows that it was the same."""
    if score is True:
        return rouge_of, "rouge"
    if score is False:
        return None, ""
    if not callable(score):
        raise ConfigError(f"score={score!r} must be True, False, or a function of a run and its episodes")
    return score, name_of_score(score)


def checked_scores(given: Mapping[str, Any], knobs: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what a score brought as Python's own numbers, with None for what is missing.

    Raises
    ------
    ValueError
        If a name is that of another column, whose values would be lost.
    TypeError
        If a value is no number.
    """
    import pandas as pd

    taken = ({column.name for column in CELLS} - set(ROUGE)) | set(knobs)
    for name in given:
        if name in taken:
            raise ValueError(f"{name!r} is a column already; give it another name")
    return {
        str(name): None if value is None or pd.isna(value) else float(value) for name, value in given.items()
    }


def name_of_score(score: Callable[..., Any]) -> str:
    """Return a name that changes with the code of a function and with what it closes over.

    What it takes from its module is not in it. An object of which nothing is known but where it lies in
    memory has another name in each process.
    """
    found = hashlib.sha256()
    seen: list[object] = []
    left: list[Any] = [score]
    while left:
        one = left.pop()
        if isinstance(one, FunctionType):
            if any(one is other for other in seen):
                continue
            seen.append(one)
            # As a class of nobody's: the code of the toolkit's own has no digest.
            holder = type(one.__qualname__, (), {"__module__": "", "function": staticmethod(one)})
            found.update(f"{one.__module__} {one.__qualname__} {code_digest(holder)}".encode())
            left += inspect.getclosurevars(one).nonlocals.values()
        elif isinstance(one, MethodType):
            left += [one.__func__, one.__self__]
        elif isinstance(one, partial):
            left += [one.func, *one.args, *one.keywords.items()]
        else:
            kind = one if isinstance(one, type) else type(one)
            found.update(f"{kind.__qualname__} {code_digest(kind)} {one!r}".encode())
    shown = getattr(score, "__qualname__", type(score).__qualname__)
    return f"{getattr(score, '__module__', None)}.{shown} {found.hexdigest()[:16]}"
