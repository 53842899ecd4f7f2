"""Summarize podcast transcripts with local and hosted models, and measure how fast, cheap and good it is.

>>> import toolkit as tk
>>> episodes = tk.load_episodes("data/episodes")
>>> run = tk.run(episodes, tk.Config(summary_batch_size=4, summary_chunk_parallelism=4))
>>> run.episodes[["episode_id", "status", "total_s"]]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.archive import Archive, open_store
    from toolkit.clock import ManualClock, SystemClock
    from toolkit.config import Config
    from toolkit.engines.weights import list_models
    from toolkit.errors import (
        AuthenticationFailed,
        BudgetExceeded,
        ConfigError,
        ContextTooLong,
        MissingDependency,
        ModelUnavailable,
        Oversize,
        ProviderError,
        QuotaExhausted,
        RateLimited,
        RequestRejected,
        RunInterrupted,
        StoreError,
        ToolkitError,
        TranscriptError,
        TransientError,
    )
    from toolkit.handle import RunHandle, start
    from toolkit.latency import LatencyModel
    from toolkit.planning.advice import Plan
    from toolkit.planning.machine import Machine
    from toolkit.planning.planner import compare_plans, plan
    from toolkit.providers.anthropic import AnthropicSummarizationProvider
    from toolkit.providers.base import SummarizationProvider
    from toolkit.providers.openai import OpenAISummarizationProvider
    from toolkit.providers.registry import get_provider
    from toolkit.providers.scripted import ScriptedSummarizationProvider
    from toolkit.providers.transformers import TransformersSummarizationProvider
    from toolkit.records import Episode, Reply, Request, Summary, Turn, Usage
    from toolkit.reports import report
    from toolkit.runs import Run
    from toolkit.simulation import Faults, Simulations, simulate
    from toolkit.sweeps import Sweep, sweep
    from toolkit.transcripts import load_episodes
    from toolkit.tuning import Tuned, tune
    from toolkit.widgets import SweepExplorer, TuningPanel
    from toolkit.workflow import run

__version__ = "0.1.0"

# Names load with the module that holds them, at their first use: importing the toolkit stays quick.
_HOMES = {
    "toolkit.archive": ("Archive", "open_store"),
    "toolkit.clock": ("ManualClock", "SystemClock"),
    "toolkit.config": ("Config",),
    "toolkit.engines.weights": ("list_models",),
    "toolkit.errors": (
        "AuthenticationFailed",
        "BudgetExceeded",
        "ConfigError",
        "ContextTooLong",
        "MissingDependency",
        "ModelUnavailable",
        "Oversize",
        "ProviderError",
        "QuotaExhausted",
        "RateLimited",
        "RequestRejected",
        "RunInterrupted",
        "StoreError",
        "ToolkitError",
        "TranscriptError",
        "TransientError",
    ),
    "toolkit.handle": ("RunHandle", "start"),
    "toolkit.latency": ("LatencyModel",),
    "toolkit.planning.advice": ("Plan",),
    "toolkit.planning.machine": ("Machine",),
    "toolkit.planning.planner": ("compare_plans", "plan"),
    "toolkit.providers.anthropic": ("AnthropicSummarizationProvider",),
    "toolkit.providers.base": ("SummarizationProvider",),
    "toolkit.providers.openai": ("OpenAISummarizationProvider",),
    "toolkit.providers.registry": ("get_provider",),
    "toolkit.providers.scripted": ("ScriptedSummarizationProvider",),
    "toolkit.providers.transformers": ("TransformersSummarizationProvider",),
    "toolkit.records": ("Episode", "Reply", "Request", "Summary", "Turn", "Usage"),
    "toolkit.reports": ("report",),
    "toolkit.runs": ("Run",),
    "toolkit.simulation": ("Faults", "Simulations", "simulate"),
    "toolkit.sweeps": ("Sweep", "sweep"),
    "toolkit.transcripts": ("load_episodes",),
    "toolkit.tuning": ("Tuned", "tune"),
    "toolkit.widgets": ("SweepExplorer", "TuningPanel"),
    "toolkit.workflow": ("run",),
}
_MODULES = ("plots", "quality", "testing")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AnthropicSummarizationProvider",
    "Archive",
    "AuthenticationFailed",
    "BudgetExceeded",
    "Config",
    "ConfigError",
    "ContextTooLong",
    "Episode",
    "Faults",
    "LatencyModel",
    "Machine",
    "ManualClock",
    "MissingDependency",
    "ModelUnavailable",
    "OpenAISummarizationProvider",
    "Oversize",
    "Plan",
    "ProviderError",
    "QuotaExhausted",
    "RateLimited",
    "Reply",
    "Request",
    "RequestRejected",
    "Run",
    "RunHandle",
    "RunInterrupted",
    "ScriptedSummarizationProvider",
    "Simulations",
    "StoreError",
    "SummarizationProvider",
    "Summary",
    "Sweep",
    "SweepExplorer",
    "SystemClock",
    "ToolkitError",
    "TranscriptError",
    "TransformersSummarizationProvider",
    "TransientError",
    "Tuned",
    "TuningPanel",
    "Turn",
    "Usage",
    "compare_plans",
    "get_provider",
    "list_models",
    "load_episodes",
    "open_store",
    "plan",
    "report",
    "run",
    "simulate",
    "start",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"toolkit.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
