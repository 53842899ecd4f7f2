"""Everything measured so far, read back from a store.

``archive`` is what users hold. ``history`` finds runs and makes their records again, ``queries`` brings the
frames of many runs at once, ``overview`` sets runs side by side, ``studies`` lists sweeps, and ``erasing``
deletes runs.
"""

from toolkit.archive.archive import Archive, open_store
from toolkit.archive.overview import FIGURES, RUNS
from toolkit.archive.studies import SWEEPS

__all__ = ["FIGURES", "RUNS", "SWEEPS", "Archive", "open_store"]
