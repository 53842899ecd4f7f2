"""Knowing before spending: what a run will ask, what binds it, how long it takes at least, what it costs.

``need`` what a budget must hold, ``work`` the calls of episodes before they are made, ``machine`` what a
local model needs and has, ``bounds`` the least possible time, ``case`` one config over one work and what is
really in flight, ``conflicts`` and ``suggestions`` in words, ``advice`` the finished `Plan`, ``planner`` the
way through all of them.
"""

from __future__ import annotations

from toolkit.planning.advice import Plan
from toolkit.planning.machine import Machine
from toolkit.planning.need import Need, need_of
from toolkit.planning.planner import compare_plans, plan

__all__ = ["Machine", "Need", "Plan", "compare_plans", "need_of", "plan"]
