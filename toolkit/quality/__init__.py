"""How good summaries are: scores against references and without any, means, and reading side by side.

>>> import toolkit as tk
>>> episodes = tk.load_episodes("data/episodes")
>>> run = tk.run(episodes, tk.Config(provider="lead"))
>>> table = tk.quality.scores(run, episodes, kind="abstract")
>>> tk.quality.means(table, ["rouge1", "coverage"])

No figure replaces reading: a summary may score well and be wrong. The providers ``lead`` and ``extractive``
are baselines for every table; what does not beat them needs no model.
"""

from __future__ import annotations

from toolkit.quality.averages import MEANS, means
from toolkit.quality.reading import SideBySide, side_by_side
from toolkit.quality.scoring import SCORES, scores

__all__ = ["MEANS", "SCORES", "SideBySide", "means", "scores", "side_by_side"]
