"""JupyterLab as a user has it: a real server, a real kernel and Debian's Chromium, all on this machine.

`Lab` is the server, `Notebook` what is open in the browser; a fixture of the tests in a browser makes both.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page, Request

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 900, 900
"""Of the browser's window, in pixels; the width is the least at which everything has to be readable."""
SECONDS = 60
"""How long to wait for what a page or a kernel should do much sooner."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # Nothing outside this machine has an address.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SETTINGS: dict[str, dict[str, Any]] = {
    # No questions at the first start, and nothing asked of jupyter.org.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Cells outside the window stay in the page, where they can be found.
    "notebook-extension/tracker": {"windowingMode": "none"},
    # A notebook is written when a test says so: not in the middle of a measurement.
    "docmanager-extension/plugin": {"autosave": False},
}
HARMLESS: tuple[tuple[str, str], ...] = ()
"""Errors in the console that say nothing of the toolkit: a pattern, and the reason."""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
CELL = "jupyterapp.shell.currentWidget.content.widgets[number]"


class Lab:
    """A JupyterLab server with settings, data and kernels of its own, which sees the tests' folders.

    Attributes
    ----------
    url : str
        Up to the last slash.
    token : str
    root : Path
        What its file browser shows; all ``tmp_path`` are in it.
    """

    def __init__(
        self,
        home: Path,
        root: Path,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, by a command of the caller's in an environment of the caller's where they are given."""
        self.root = root
        self.token = secrets.token_hex(16)
        self._log = home / "server.log"
        for name, values in SETTINGS.items():
            file = home / f"settings/@jupyterlab/{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values), encoding="utf-8")
        self._process = subprocess.Popen(
            [
                *(command or (sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}")),
                *("--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
                f"--IdentityProvider.token={self.token}",
                "--LabApp.expose_app_in_browser=True",
                "--LabApp.extension_manager=readonly",
            ],
            env=clean_environment(home) if environment is None else environment,
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.url = self._wait_for_url()
        wait_until_it_listens(self.url)
        # Its pipe must not fill up.
        self._reader = threading.Thread(target=self._keep_log, daemon=True)
        self._reader.start()

    def _wait_for_url(self) -> str:
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if found := re.search(r"(http://127\.0\.0\.1:\d+/)lab\b", line):
                return found[1]
        raise RuntimeError(f"JupyterLab did not start: {''.join(said)}")

    def _keep_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr, self._log.open("w", encoding="utf-8") as log:
            log.writelines(self._process.stderr)

    def ask(self, method: str, path: str) -> Any:
        """Ask the server's REST API, such as ``GET api/sessions``."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def end_kernels(self) -> None:
        """End all that runs."""
        for session in self.ask("GET", "api/sessions"):
            self.ask("DELETE", f"api/sessions/{session['id']}")

    def close(self) -> None:
        """End the server, and what it has started."""
        self._process.terminate()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(SECONDS)
        self._reader.join()


def wait_until_it_listens(url: str) -> None:
    """Wait for a server of Jupyter's, which tells its address a moment before it listens there."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url.rstrip('/')}/api", timeout=SECONDS).close()
            return
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > until:
                raise
            time.sleep(0.1)  # A real process starts, in real time.


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment without settings of this user's, in which the toolkit is the one under test."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TOOLKIT_", "OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_", "JUPYTER"))
    }
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "XDG_STATE_HOME": "state",
        "XDG_CONFIG_HOME": "config",
    }
    return {
        **kept,
        **{name: str(home / folder) for name, folder in folders.items()},
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": str(ROOT),
        "TOOLKIT_STORE_URL": "memory://",
    }


def watch(page: Page, url: str, problems: list[str]) -> None:
    """Note what a page reports as an error, and what it asks of any other server than that of a URL."""

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(re.search(known, message.text) for known, _ in HARMLESS):
            problems.append(f"console: {message.text} ({message.location.get('url')})")

    def ask(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            problems.append(f"asked for {request.url}")

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(f"script: {error.stack or error}"))
    page.on("request", ask)


class Notebook:
    """A notebook that is open in the browser, with its kernel.

    Cells are numbered from 0. ``page`` is Playwright's, for whatever is not here; ``problems`` is what the
    page reported so far.
    """

    def __init__(self, page: Page, problems: list[str], pictures: Path) -> None:
        self.page = page
        self.problems = problems
        self._pictures = pictures

    def cells(self) -> list[tuple[str, str]]:
        """Return kind (``code``, ``markdown``) and source of each cell."""
        cells = "jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model)"
        found = self.page.evaluate(f"() => {cells}.map(cell => [cell.type, cell.sharedModel.getSource()])")
        return [(kind, source) for kind, source in found]

    def cell(self, number: int) -> Locator:
        """Return a cell, with its input and output."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-cell").nth(number)

    def output(self, number: int) -> Locator:
        """Return what stands under a cell."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def text(self, number: int) -> str:
        """Return what can be read under a cell."""
        return self.output(number).inner_text()

    def start(self, number: int) -> None:
        """Run a cell as a user does, by keyboard, and do not wait for its end."""
        # An empty prompt, as Jupyter itself makes it a moment later: what stands in it then is of this start.
        self.page.evaluate(f"number => {{ {CELL}.model.executionCount = null }}", number)
        self.cell(number).locator(".jp-Cell-inputArea .cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def wait(self, number: int, *, fails: bool = False, seconds: float = SECONDS) -> Locator:
        """Wait until a cell that was started has ended; return its output.

        It must not have raised an error, unless ``fails``.
        """
        from playwright.sync_api import expect

        prompt = self.cell(number).locator(".jp-InputArea-prompt")
        expect(prompt).to_have_text(re.compile(r"^\[\d+\]:$"), timeout=1000 * seconds)
        outputs = self.page.evaluate(f"number => {CELL}.model.outputs.toJSON()", number)
        raised = [output for output in outputs if output["output_type"] == "error"]
        if raised and not fails:
            pytest.fail(f"cell {number} raised {raised[0]['ename']}: {raised[0]['evalue']}")
        return self.output(number)

    def run(self, number: int, *, fails: bool = False) -> Locator:
        """Run a cell to its end and return its output."""
        self.start(number)
        return self.wait(number, fails=fails)

    def run_all(self) -> None:
        """Run all cells of code from the first to the last."""
        for number, (kind, _) in enumerate(self.cells()):
            if kind == "code":
                self.run(number)

    def command(self, name: str, **values: Any) -> None:
        """Execute one of JupyterLab's commands, such as ``docmanager:save``, to its end."""
        self.page.evaluate(
            "([name, values]) => jupyterapp.commands.execute(name, values).then(() => null)", [name, values]
        )

    def theme(self, name: Literal["light", "dark"]) -> None:
        """Change JupyterLab's theme."""
        self._wait_for_splash()
        self.command("apputils:change-theme", theme=THEMES[name])
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light", arg=str(name == "light").lower()
        )
        self._wait_for_splash()
        # Until all of it is drawn anew: filters come a frame later than colours.
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.page.evaluate(f"() => {frames}.then(() => null)")

    def _wait_for_splash(self) -> None:
        """Wait until the picture that JupyterLab lays over a change of themes is gone.

        It is taken away 200 ms after the change, and a second change within them has it taken away twice,
        of which the second time is an error of a script.
        """
        self.page.wait_for_function("() => document.getElementById('jupyterlab-splash') === null")

    def restart(self) -> None:
        """Restart the kernel; outputs stay."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )

    def picture(self, name: str, of: Locator | None = None) -> Path:
        """Keep a picture of the window, or of a part of it in its whole height."""
        path = self._pictures / f"{name}.png"
        if of is None:
            self.page.screenshot(path=path, animations="disabled")
            return path
        height = int(of.evaluate("node => node.scrollHeight")) + HEIGHT
        self.page.set_viewport_size({"width": WIDTH, "height": height})
        of.screenshot(path=path, animations="disabled")
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        return path

    def pictures(self, name: str, of: Locator | None = None) -> None:
        """Keep pictures in both themes; the theme is light afterwards."""
        for theme in ("dark", "light"):
            self.theme(theme)  # type: ignore[arg-type]
            self.picture(f"{name}-{theme}", of)
