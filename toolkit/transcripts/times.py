"""Clock times as transcripts write them, and their seconds."""

from __future__ import annotations

import math
import re

CLOCK = r"\d{1,3}:\d{1,2}(?::\d{1,2})?(?:[.,]\d{1,9})?"
"""``0:09``, ``00:18``, ``1:02:03``, ``00:03:18.16``, ``01:02:03,456``; as a pattern to build others from."""

SECONDS = r"\d{1,9}(?:[.,]\d{1,9})?"
"""``3.480``: a time without colons, which some tools write where the standard asks for a clock."""

_TIME = re.compile(rf"\s*({CLOCK}|{SECONDS})\s*", re.ASCII)


def seconds(value: object) -> float | None:
    """Return a time as seconds, or None where there is none.

    Parameters
    ----------
    value : object
        A number of seconds, or a text such as ``"01:02:03,456"``, ``"0:09"`` or ``"3.48"``.

    Returns
    -------
    float or None
        None for everything else: a missing time is no reason to lose the words.
    """
    if isinstance(value, str):
        if not (match := _TIME.fullmatch(value)):
            return None
        total = 0.0
        for part in match[1].replace(",", ".").split(":"):
            total = total * 60 + float(part)
        # Rounded because 60 * 60.1 and its like are off in the last digit.
        return round(total, 6)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
