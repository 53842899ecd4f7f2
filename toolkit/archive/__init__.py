"""Everything measured so far, read back from a store.

``archive`` is what users hold. ``history`` finds runs and makes their records again, ``queries`` brings the
frames of many runs at once, ``overview`` sets runs side by side, and ``erasing`` deletes them.
"""

from toolkit.archive.archive import Archive, open_store
from toolkit.archive.overview import FIGURES, RUNS

__all__ = ["FIGURES", "RUNS", "Archive", "open_store"]
