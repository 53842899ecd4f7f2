"""Widgets for a notebook.

``explorer`` is `SweepExplorer`; ``choice`` says what can be chosen in one, and writes it as lines of code.
"""

from toolkit.widgets.explorer import SweepExplorer

__all__ = ["SweepExplorer"]
