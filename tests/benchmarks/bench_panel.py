"""How quickly a panel answers, in JupyterLab and a real browser.

From a fresh kernel to a running panel; from a drag to the bound and to the simulated time, for 200 episodes;
a kernel's answer to ``1 + 1`` while a run goes on with 8 episodes at once; from Stop to its answer and to the
run's end. Prints a table and, last, one JSON line. Without chromium it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WANTED_MS = {"bound": 300, "simulated": 600, "kernel": 200, "stop": 1000}

MANY = """
import random
import toolkit as tk
source = random.Random(1)
words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(4000)]
def talk(number):
    lines = [" ".join(source.choices(words, k=source.randint(8, 60))) + "." for _ in range({lines})]
    return tk.Episode.from_text(f"talk-{{number}}", "\\n".join(lines))
many = [talk(number) for number in range(200)]
latency = tk.LatencyModel(base_s=0.4, per_output_token_s=0.01, spread=0.2, output_tokens=60)
first = tk.TuningPanel(many, tk.Config(provider="scripted", summary_chunk_parallelism=2), latency=latency)
first
"""
RUNNING = """
server = tk.testing.ApiServer.spawn(
    law="openai", requests_per_minute=60_000, tokens_per_minute=100_000_000, latency=0.3
).__enter__()
config = tk.Config(
    provider="openai", openai_base_url=server.base_url, summary_batch_size=8, summary_chunk_parallelism=2,
    openai_max_concurrent_requests=16, chunk_tokens=400, limits_url="memory://",
    openai_requests_per_minute=60_000, openai_tokens_per_minute=100_000_000,
)
second = tk.TuningPanel(many[:{episodes}], config)
second
"""
WATCH = """
() => {
  window.seen = {};
  const note = name => () => { window.seen[name] = performance.now() };
  const panel = document.querySelector('.tk-panel');
  const pages = panel.querySelectorAll('.tk-prediction > .widget-html');
  for (const [name, place] of [['bound', 0], ['simulated', 2]]) {
    new MutationObserver(note(name)).observe(pages[place], { childList: true, subtree: true });
  }
  panel.addEventListener('pointermove', event => {
    if (event.buttons && window.seen.moved === undefined) window.seen.moved = performance.now();
  }, true);
  for (const kind of ['mousemove', 'pointermove']) {
    document.addEventListener(kind, event => {
      if (event.buttons && window.seen.moved === undefined) window.seen.moved = performance.now();
    }, true);
  }
}
"""
ASK = """
async () => {
  const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const began = performance.now();
  await kernel.requestExecute({ code: '1 + 1', store_history: false }).done;
  return performance.now() - began;
}
"""


def drag(notebook: Any, panel: Any, label: str, place: int) -> dict[str, float]:
    """Drag a slider to one of its places; return the milliseconds until each answer was on the page."""
    page = notebook.page
    row = panel.locator(".tk-row").filter(has=page.get_by_text(label, exact=True))
    handle, track = row.locator(".noUi-handle"), row.locator(".noUi-base").bounding_box()
    most = float(handle.get_attribute("aria-valuemax"))
    box = handle.bounding_box()
    y = box["y"] + box["height"] / 2
    page.evaluate("() => { window.seen = {} }")
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * place / most, y, steps=4)
    page.mouse.up()
    page.wait_for_function("() => window.seen.simulated > window.seen.bound", timeout=20_000)
    page.wait_for_timeout(300)  # An answer to an earlier step would be taken for the last one's.
    seen = page.evaluate("() => window.seen")
    return {name: seen[name] - seen["moved"] for name in ("bound", "simulated")}


def places(panel: Any, label: str, number: int) -> list[int]:
    """Return places to drag a slider to, each another: what was asked for before is known already."""
    row = panel.locator(".tk-row").filter(has=panel.page.get_by_text(label, exact=True))
    now = round(float(row.locator(".noUi-handle").get_attribute("aria-valuenow")))
    if now == 0:
        return [1 + place for place in range(number)]
    return [now + (1 if turn % 2 else -1) * (1 + turn // 2) for turn in range(number)]


def measure(drags: int, asks: int, lines: int, episodes: int) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "tests/shared"))
    import lab_in_browser as harness
    import nbformat
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        folder = Path(home)
        lab = harness.Lab(folder, folder)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=harness.FLAGS)
        try:
            page = browser.new_context(viewport={"width": 900, "height": 1400}).new_page()
            cells = [MANY.format(lines=lines), RUNNING.format(episodes=episodes), "1 + 1"]
            made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
            made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(made, folder / "bench.ipynb")
            page.goto(f"{lab.url}lab/tree/bench.ipynb?token={lab.token}&reset")
            notebook = harness.Notebook(page, [], folder)
            notebook.wait_for_kernel()
            page.evaluate("() => jupyterapp.shell.collapseLeft()")
            return figures(notebook, expect, drags, asks)
        finally:
            browser.close()
            lab.end_kernels()
            lab.close()


def figures(notebook: Any, expect: Any, drags: int, asks: int) -> dict[str, Any]:
    page = notebook.page
    began = time.perf_counter()
    panel = notebook.run(0).locator(".tk-panel")
    expect(panel.get_by_text("Simulated", exact=True)).to_be_visible()
    found: dict[str, Any] = {"panel_s": time.perf_counter() - began}
    page.evaluate(WATCH)
    for label, key in (("Episodes at once", "width"), ("Chunk tokens", "chunk")):
        taken = [drag(notebook, panel, label, place) for place in places(panel, label, drags)]
        for name in ("bound", "simulated"):
            found[f"{key}_{name}_ms"] = statistics.median(one[name] for one in taken)
            found[f"{key}_{name}_worst_ms"] = max(one[name] for one in taken)

    panel = notebook.run(1).locator(".tk-panel")
    run = panel.get_by_role("button", name="Run", exact=True)
    run.click()
    expect(panel.locator(".tk-episodes")).to_contain_text("under way")
    found["running_s"] = time.perf_counter() - began
    found["actions"] = 3  # two cells, and Run
    answers = []
    for _ in range(asks):
        answers.append(page.evaluate(ASK))
        page.wait_for_timeout(150)
    found["kernel_ms"], found["kernel_worst_ms"] = statistics.median(answers), max(answers)
    stopped = time.perf_counter()
    panel.get_by_role("button", name="Stop", exact=True).click()
    expect(panel.locator(".tk-left")).to_contain_text("Stopping")
    found["stop_ms"] = 1000 * (time.perf_counter() - stopped)
    expect(panel.locator(".tk-left")).to_contain_text("Run goes on from there")
    found["stopped_s"] = time.perf_counter() - stopped
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drags", type=int, default=12, help="of each slider")
    parser.add_argument("--asks", type=int, default=15, help="of the kernel, while a run goes on")
    parser.add_argument("--lines", type=int, default=90, help="of an episode; 90 are about 3,000 words")
    parser.add_argument("--episodes", type=int, default=60, help="of the run")
    options = parser.parse_args()
    if shutil.which("chromium") is None:
        print("chromium is not here: nothing is measured")
        print(json.dumps({"benchmark": "panel", "skipped": "no chromium"}))
        return
    found = measure(options.drags, options.asks, options.lines, options.episodes)
    print(f"from a fresh kernel to the panel {found['panel_s']:.1f} s, to a run {found['running_s']:.1f} s")
    rows = [
        ("drag of a width, 200 episodes: bound", "width_bound", "bound"),
        ("  simulated", "width_simulated", "simulated"),
        ("drag of the chunk size: bound", "chunk_bound", "bound"),
        ("  simulated", "chunk_simulated", "simulated"),
        ("1 + 1 during a run of 8 at once", "kernel", "kernel"),
        ("Stop answered", "stop", "stop"),
    ]
    print(f"{'':40} {'median ms':>10} {'worst ms':>10} {'wanted':>8}")
    for name, key, wanted in rows:
        median = found[f"{key}_ms"]
        print(f"{name:40} {median:10.0f} {found.get(f'{key}_worst_ms', median):10.0f} {WANTED_MS[wanted]:8}")
    print(f"Stop to the run's end {found['stopped_s']:.2f} s")
    print(json.dumps({"benchmark": "panel", **{name: round(value, 3) for name, value in found.items()}}))


if __name__ == "__main__":
    main()
