"""Text that others wrote, at its worst, and everything that shows itself, made of it.

Unit tests parse what these show, and the tests in a browser show it there; both take `views` from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import toolkit as tk
from toolkit.records import CallRecord, EpisodeRecord, Stage, Status, StopReason
from toolkit.runs import Run
from toolkit.sweeps.cells import Cell
from toolkit.sweeps.results import Row, Sweep

SCRIPT = "<script>window.ran='script'</script>"
IMAGE = '"><img src=x onerror="window.ran=1">'
FORMULA = "costs $5 and $x_1$ \\(y\\) $$z$$"
TEXTS: Mapping[str, str] = {
    "script": SCRIPT,
    "image": IMAGE,
    "attribute": "' onmouseover='window.ran=2' x='",
    "end": "</td></details></div></style><b>bold</b>",
    "link": "<a href=javascript:window.ran=3>go</a>",
    "markdown": "# **bold** [link](javascript:window.ran=4) `code`",
    "formula": FORMULA,
    "template": "{{ 7 * 7 }}{% raw %}",
    "ansi": "\x1b[31mred\x1b[0m \x1b]8;;http://planted.example\x07link",
    "direction": "left \u202etxt.exe\u202c right \u2066x\u2069",
    "emoji": "🎙️ Folge № 5 👩\u200d🚀",
    "half": "half \ud83d of one",
}
"""Short enough to be shown whole."""
LONG = "word " * 200_000
"""1 MB."""
WORST = f"{SCRIPT} {IMAGE} {FORMULA} {TEXTS['ansi']} {TEXTS['direction']}"


def hostile_run(**given: Any) -> Run:
    """Make a run in which every text is one of these: ids, titles, summaries, errors, names of models."""
    records = []
    for number, (kind, text) in enumerate([*TEXTS.items(), ("long", LONG)]):
        status = Status.FAILED if kind in ("markdown", "image") else Status.OK
        call = CallRecord(
            episode_id=text,
            call_id=f"{number}/{text}",
            stage=Stage.DIRECT,
            chunk_index=None,
            provider=WORST,
            model=WORST,
            status=status,
            stop_reason=StopReason.STOP,
            started_at=1_700_000_000.0,
            wait_slots_s=0.5,
            service_s=1.0,
            total_s=1.5,
            input_tokens=10,
            output_tokens=5,
            error=text if status is Status.FAILED else None,
        )
        summary = tk.Summary(
            "" if status is Status.FAILED else text,
            status,
            text if status is Status.FAILED else None,
            calls=(call,),
        )
        records.append(EpisodeRecord(text, f"{text} {SCRIPT}", 9, 1_700_000_000.0, 1.5, summary))
    values: dict[str, Any] = {
        "id": WORST,
        "config": hostile_config(),
        "provider": WORST,
        "model": WORST,
        "records": records,
        "makespan_s": 10.0,
        "stopped_because": f"{WORST} {LONG}",
        "environment": {WORST: WORST},
        "store": f"sqlite:////{WORST}",
    }
    return Run(**{**values, **given})


def hostile_config() -> tk.Config:
    return tk.Config(
        provider="scripted",
        model=SCRIPT,
        system_prompt=f"{IMAGE} {LONG}",
        map_prompt=f"{SCRIPT} {FORMULA} {{text}}",
        openai_api_key="sk-planted-4711",
    )


def hostile_cells() -> pd.DataFrame:
    """Return the cells of a study whose knobs and errors are such texts."""
    return hostile_sweep().cells


def hostile_sweep(**given: Any) -> Sweep:
    """Make a sweep over prompts that are such texts; half of its cells failed."""
    # A frame cannot hold half a character, and what a run says of its errors is cleaned of them.
    prompts = [*(text for kind, text in TEXTS.items() if kind != "half"), LONG]
    pairs = [(prompt, width) for prompt in prompts for width in (1, 2)]
    cells = [
        Cell(number, {"map_prompt": prompt, "summary_batch_size": width}, hostile_config(), str(number))
        for number, (prompt, width) in enumerate(pairs, 1)
    ]
    rows = []
    for cell in cells:
        failed = cell.knobs["summary_batch_size"] == 2 and cell.number % 3 == 0
        good = {"makespan_s": 1.0 + cell.number, "episodes_per_h": 100.0, "rougeL": 0.1 * (cell.number % 7)}
        told = {"status": "failed", "error": cell.knobs["map_prompt"]} if failed else {"status": "ok", **good}
        rows.append(Row(cell, 1, told))
    run = hostile_run()
    values: dict[str, Any] = {
        "id": WORST,
        "name": WORST,
        "config": hostile_config(),
        "settings": cells,
        "rows": rows,
        "environment": {WORST: WORST},
        "fetches": {(cell.number, 1): lambda: run for cell in cells},
        "simulated": False,
        "stopped_because": f"{WORST} {LONG}",
        "store": f"sqlite:////{WORST}",
    }
    return Sweep(**{**values, **given})


def hostile_episode(text: str) -> tk.Episode:
    turns = tuple(tk.Turn(each, speaker=each[:200]) for each in (*TEXTS.values(), text))
    return tk.Episode(text, turns, f"{text} {SCRIPT}", f"{IMAGE} {text}", Path(f"folder/{WORST}.txt"))


def hostile_explorer() -> tk.SweepExplorer:
    explorer = tk.SweepExplorer(hostile_sweep())
    explorer.compare(1, 2)
    return explorer


def hostile_plan() -> Any:
    return tk.plan([2000] * 3, tk.Config(provider="openai", model=WORST))


def hostile_tuned() -> Any:
    prompts = [f"{text} {{text}}" for text in (SCRIPT, IMAGE, FORMULA)]
    episodes = [tk.Episode.from_text("e", "Bees dance. Bees sleep.")]
    config = tk.Config(provider="scripted", store_url="memory://")
    latency = tk.LatencyModel(base_s=1.0)
    return tk.tune(episodes, config, over={"map_prompt": prompts}, latency=latency, progress=False)


def hostile_pairs() -> Any:
    run = hostile_run()
    return tk.quality.side_by_side(run, run)


VIEWS: Mapping[str, Callable[[], Any]] = {
    "Episode": lambda: hostile_episode(SCRIPT),
    "Episode of 1 MB": lambda: hostile_episode(LONG),
    "Summary": lambda: tk.Summary(f"{WORST} {LONG}", Status.PARTIAL, f"{WORST} {LONG}"),
    "Config": hostile_config,
    "Plan": hostile_plan,
    "Run": hostile_run,
    "Sweep": hostile_sweep,
    "SideBySide": hostile_pairs,
    "Tuned": hostile_tuned,
    "SweepExplorer": hostile_explorer,
    "SweepExplorer of a table": lambda: tk.SweepExplorer(hostile_cells()),
}
"""What shows itself in a notebook, made of such texts; a new view is one more line."""
