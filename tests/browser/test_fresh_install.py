"""A newcomer's way, from nothing but Python to a panel that runs, as the README says to go it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import copy_checkout
from lab_in_browser import SECONDS, Lab, Notebook, clean_environment, watch
from panel_in_browser import Panel

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


class Way:
    """What a user does, one action after the other, and how long it takes until the next can be done."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, float]] = []

    @contextmanager
    def step(self, name: str, actions: int = 1) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.steps.append((name, actions, time.perf_counter() - began))

    def __str__(self) -> str:
        rows = [*self.steps, ("together", sum(a for _, a, _ in self.steps), sum(s for *_, s in self.steps))]
        lines = [f"  {name:<44} {actions:>7} {seconds:>8.1f}" for name, actions, seconds in rows]
        return "\n".join(["From a fresh install to a running panel: actions, seconds", *lines])


def readme_line(checkout: Path) -> tuple[list[str], list[str]]:
    """Return the README's line for notebooks as two commands: the one that installs, the one that opens."""
    (line,) = re.findall(
        r'^python -m pip install -e "\.\[lab\]" && .+$', (checkout / "README.md").read_text(), re.M
    )
    install, opens = map(shlex.split, line.split(" && "))
    return install, opens


def fresh_environment(home: Path, environment: Path) -> dict[str, str]:
    """Return variables of a user who has nothing yet but a virtual environment, which is in the path."""
    variables = clean_environment(home)
    for name in ("PYTHONPATH", "TOOLKIT_STORE_URL", "VIRTUAL_ENV"):
        variables.pop(name, None)
    return variables | {
        "PATH": f"{environment / 'bin'}{os.pathsep}{variables['PATH']}",
        # What the model is made of is fetched and converted anew.
        "XDG_CACHE_HOME": str(home / "cache"),
    }


@pytest.mark.skipif(os.name == "nt", reason="chromium is Debian's")
@pytest.mark.timeout(900)
def test_from_a_fresh_install_to_a_running_panel(
    browser: Browser, tmp_path: Path, request: pytest.FixtureRequest, pictures_folder: Path
) -> None:
    """Install, open, run the quickstart, drag a slider, press Run, until episodes are under way."""
    from playwright.sync_api import expect

    checkout, home, way = copy_checkout(tmp_path / "checkout"), tmp_path / "home", Way()
    home.mkdir()
    variables = fresh_environment(home, tmp_path / "venv")
    install, opens = readme_line(checkout)
    with way.step("make a virtual environment, and activate it", 2):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    with way.step("python -m pip install …"):
        subprocess.run(
            [tmp_path / "venv/bin" / install[0], *install[1:], "--quiet"], check=True, cwd=checkout
        )
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(1000 * SECONDS)
    page = context.new_page()
    notebook = Notebook(page, problems, pictures_folder)
    command = [str(tmp_path / "venv/bin" / opens[0]), *opens[1:], "--"]
    with way.step("… && toolkit lab", 0):
        lab = Lab(home, home / "toolkit-lab", command, variables)
    try:
        watch(page, lab.url, problems)
        with way.step("the quickstart opens", 0):
            page.goto(f"{lab.url}?token={lab.token}")
            notebook.wait_for_kernel()
        with way.step("Run, Run All Cells", 2):
            page.locator(".lm-MenuBar-itemLabel").get_by_text("Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            cells = notebook.cells()
            for number, (kind, _) in enumerate(cells):
                if kind == "code":
                    notebook.wait(number, seconds=300)
            (place,) = (number for number, (_, source) in enumerate(cells) if "tk.TuningPanel(" in source)
            panel = Panel(notebook.output(place))
            expect(panel.whole.get_by_text("Simulated", exact=True)).to_be_visible()
        with way.step("drag a slider of the panel"):
            before = panel.field("Chunk tokens").input_value()
            panel.drag("Chunk tokens", 40)
            expect(panel.field("Chunk tokens")).not_to_have_value(before)
        with way.step("Run"):
            panel.button("Run").click()
            expect(panel.whole.locator(".tk-episodes")).to_contain_text("under way")
        notebook.picture("fresh-install")
    finally:
        context.close()
        lab.end_kernels()
        lab.close()
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{way}")
    assert problems == []
