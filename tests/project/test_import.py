"""``import toolkit``: quick, and with the names that users rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import toolkit

ROOT = Path(toolkit.__file__).parents[1]
HEAVY = {
    "huggingface_hub",
    "ipywidgets",
    "joblib",
    "matplotlib",
    "numpy",
    "openai",
    "pandas",
    "pydantic",
    "sqlalchemy",
    "torch",
    "tqdm",
    "transformers",
}
PUBLIC = [
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


def loaded_after(code: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after some code."""
    return {name.partition(".")[0] for name in modules_after(code)}


def modules_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_no_heavy_package() -> None:
    """A notebook's first line comes back at once: each of these packages costs it a noticeable time."""
    loaded = loaded_after("import toolkit")
    assert "toolkit" in loaded
    assert loaded & HEAVY == set()


def test_reading_transcripts_loads_no_model_library() -> None:
    """Names load with their own home only: torch comes with a local model and with nothing else."""
    loaded = loaded_after("import toolkit as tk\ntk.load_episodes, tk.Config, tk.get_provider, tk.run")
    assert loaded & {"torch", "transformers", "openai", "matplotlib", "ipywidgets"} == set()


def test_help_of_the_command_loads_no_heavy_package() -> None:
    """``toolkit --help`` answers like any other command."""
    loaded = loaded_after(
        "from toolkit.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    )
    assert loaded & HEAVY == set()


def test_public_names_are_the_pinned_ones() -> None:
    """A name that goes or comes is a decision, not an accident."""
    assert toolkit.__all__ == PUBLIC


def test_every_public_name_has_its_home() -> None:
    """The table of homes, the list of names and the imports for type checkers say the same."""
    assert sorted(name for names in toolkit._HOMES.values() for name in names) == sorted(PUBLIC)
    source = Path(toolkit.__file__).read_text(encoding="utf-8")
    typed = source.partition("if TYPE_CHECKING:")[2].partition("\n__version__")[0]
    words = set(typed.replace(",", " ").replace("(", " ").replace(")", " ").split())
    assert set(PUBLIC) <= words


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_resolves(name: str) -> None:
    """It is what its home calls by that name, it is in dir(), and it says what it is."""
    value = getattr(toolkit, name)
    assert value.__name__ == name
    assert value.__module__.startswith("toolkit.")
    assert name in dir(toolkit)
    assert value.__doc__


def test_the_loopback_server_is_at_hand() -> None:
    """``tk.testing.ApiServer`` needs no import of its own, and costs nothing until it is named."""
    assert "toolkit.testing" not in modules_after("import toolkit")
    assert "toolkit.testing" in modules_after("import toolkit as tk\ntk.testing.ApiServer")
    assert "testing" in dir(toolkit)


def test_quality_is_at_hand() -> None:
    """``tk.quality`` loads when it is named, and what it computes with when something is scored."""
    assert "toolkit.quality" not in modules_after("import toolkit")
    loaded = modules_after("import toolkit as tk\ntk.quality.scores")
    assert "toolkit.quality" in loaded
    assert loaded & {"numpy", "pandas", "nltk", "rouge_score"} == set()
    assert "quality" in dir(toolkit)


def test_plots_are_at_hand() -> None:
    """``tk.plots.timeline`` needs no import of its own, and matplotlib loads when something is drawn."""
    assert "toolkit.plots" not in modules_after("import toolkit")
    loaded = modules_after("import toolkit as tk\ntk.plots.timeline")
    assert "toolkit.plots" in loaded
    assert "matplotlib" not in loaded
    assert "plots" in dir(toolkit)


def test_unknown_name_is_an_attribute_error() -> None:
    """``hasattr`` and tab completion rely on it."""
    with pytest.raises(AttributeError, match="module 'toolkit' has no attribute 'nonsense'"):
        _ = toolkit.nonsense
