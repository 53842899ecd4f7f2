"""How things look: readable in colour, with any colour vision, and in grey.

Every phase and every series is told apart twice: by a colour, whose lightness differs from its neighbours',
and by a hatch, a marker or a kind of line.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from toolkit.metrics import PHASES as LABELS


class Phase(NamedTuple):
    """A phase of a call: column of the frame ``calls``, and how its bars look."""

    column: str
    colour: str
    hatch: str
    hatch_colour: str = "#3c3c3c"

    @property
    def label(self) -> str:
        """What it is called."""
        return LABELS[self.column]

    @property
    def bar(self) -> dict[str, Any]:
        """What ``barh`` and ``fill_between`` take."""
        return {"facecolor": self.colour, "hatch": self.hatch, "edgecolor": self.hatch_colour}


WAITS = (
    Phase("queue_s", "#f2f2f2", "...."),
    Phase("wait_slots_s", "#fde9a9", "----"),
    Phase("wait_requests_s", "#f2b53d", "////"),
    Phase("wait_tokens_s", "#8fd0f0", "\\\\\\\\"),
    Phase("wait_cooldown_s", "#d99ac0", "++++"),
    Phase("retry_wait_s", "#bf6a3a", "ooo"),
)
PHASES = (
    *WAITS,
    Phase("failed_attempts_s", "#7a1f1f", "xxxx", "#ffffff"),
    Phase("service_s", "#1f5a96", ""),
    Phase("overhead_s", "#bdbdbd", ""),
)
"""In the order in which they are drawn, which is the order in which a call that never fails has them."""

EDGE = "#3c3c3c"
"""Of bars and hatches."""
HATCH_WIDTH = 0.5
FAILED_HATCH = "xxx"
"""Of cells without a result."""
LIMIT: dict[str, Any] = {"color": "#7a1f1f", "linestyle": (0, (6, 3)), "linewidth": 1.4}
"""Lines of limits."""


class Series(NamedTuple):
    """One of several series: colour, kind of line, marker."""

    colour: str
    line: str | tuple[int, tuple[int, ...]]
    marker: str


_COLOURS = ("#1f5a96", "#d55e00", "#009e73", "#b05a94", "#5c4a00", "#4aa8d8")
_LINES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = "os^DvPX<>p"


def series(number: int) -> Series:
    """Return the look of the series with a number from 0; only after 30 does one come again."""
    return Series(
        _COLOURS[number % len(_COLOURS)], _LINES[number % len(_LINES)], _MARKERS[number % len(_MARKERS)]
    )
