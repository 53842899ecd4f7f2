"""What ``import toolkit`` costs: the median of five fresh interpreters, less that of bare ones.

Prints a table and, last, one JSON line. The bound of 0.2 s is the design's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOUND_S = 0.2
TIMES = 5
CASES = {
    "bare interpreter": "pass",
    "import toolkit": "import toolkit",
    "the same, Config and load_episodes used": "import toolkit as tk; tk.Config, tk.load_episodes",
}


def median_s(code: str) -> float:
    """Return the median seconds of fresh interpreters that run some code, after one that warms the disk."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds = []
    for _ in range(1 + TIMES):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def main() -> None:
    """Measure and print."""
    medians = {name: median_s(code) for name, code in CASES.items()}
    bare_s = medians["bare interpreter"]
    for name, seconds in medians.items():
        print(f"{name:42} {1000 * seconds:7.1f} ms  {1000 * (seconds - bare_s):+7.1f} ms")
    import_s = medians["import toolkit"] - bare_s
    print(
        json.dumps(
            {
                "benchmark": "import",
                "import_s": round(import_s, 4),
                "bound_s": BOUND_S,
                "within_bound": import_s <= BOUND_S,
                "medians_s": {name: round(seconds, 4) for name, seconds in medians.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
