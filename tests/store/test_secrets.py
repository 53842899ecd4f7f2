"""Keys and passwords are in nothing that is kept, shown, logged, saved or handed on.

Keys are planted in a config, a server repeats them wherever it can, and then everything that a run leaves is
searched for any piece of them.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import socket
import stat
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from toolkit.archive import open_store
from toolkit.cli import main
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import RunInterrupted, StoreError, ToolkitError
from toolkit.handle import start
from toolkit.providers.registry import get_provider
from toolkit.records import Episode, Request, Stage
from toolkit.runs import Run
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.opened import close_stores, store_at
from toolkit.workflow import run

PIECE = 10
"""A piece of a secret that is as long as this counts as the secret."""
PATIENCE_S = 20.0
SECRETS = {
    "openai": ("sk-proj-", "Vb8Qm2Xw7Lk4Tn9Rz3HdVp6Jc5Fs"),
    "anthropic": ("sk-ant-api03-", "Pf6Yc1Gs8Ke5Wn2Bt7MxLq3Zh9Du"),
    "azure": ("", "9e8d7c6b5a4938271605f4e3d2c1b0fa"),
    "password": ("", "tide/mill@7714:honey%comb"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "openai": {"provider": "openai", "model": "gpt-4o-mini", "openai_base_url": "http://{}/v1"},
    "responses": {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "openai_base_url": "http://{}/v1",
        "openai_api": "responses",
    },
    "azure": {"provider": "openai", "model": "mine", "azure_endpoint": "http://{}"},
    "anthropic": {"provider": "anthropic", "model": "claude-haiku-4-5", "anthropic_base_url": "http://{}"},
}
REQUEST = Request("c1", "e", Stage.DIRECT, "Bees dance.", max_output_tokens=40)


def secret(name: str) -> str:
    return "".join(SECRETS[name])


def found_in(places: dict[str, Any]) -> list[str]:
    """Return the places that hold a piece of a secret, as it is or as an address writes it."""
    pieces: dict[bytes, str] = {}
    for name, (_, core) in SECRETS.items():
        for form in (core, quote(core, safe="")):
            pieces |= {form[n : n + PIECE].encode(): name for n in range(len(form) - PIECE + 1)}
    held = []
    for place, content in places.items():
        text = content if isinstance(content, bytes) else str(content).encode("utf-8", "replace")
        held += sorted({f"{name} in {place}" for piece, name in pieces.items() if piece in text})
    return held


class Echo:
    """A server that repeats the key which it was sent, in one of several ways."""

    def __init__(self) -> None:
        self.script: list[str] = ["ok"]
        self.asked = 0
        self.heard: set[str] = set()
        echo = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                echo.answer(self)

            def log_message(self, *parts: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["content-length"]))
        sent = handler.headers
        key = sent["x-api-key"] or sent["api-key"] or str(sent["authorization"]).removeprefix("Bearer ")
        self.heard.add(key)
        way = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        status, content = self._content(way, handler.path, key)
        handler.send_response(status)
        handler.send_header("content-type", "text/html" if way == "html" else "application/json")
        handler.send_header("content-length", str(len(content) + 7 * (way == "short")))
        if way == "header":
            handler.send_header("x-request-id", key)
            handler.send_header("x-ratelimit-limit-requests", key)
            handler.send_header("retry-after", key)
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = way == "short"

    def _content(self, way: str, path: str, key: str) -> tuple[int, bytes]:
        if way == "ok":
            return 200, json.dumps(reply_to(path)).encode()
        if way == "html":
            return 200, f"<html>Authorization: Bearer {key}</html>".encode()
        if way == "short":
            return 200, f'{{"error": "{key}'.encode()
        message = f"Incorrect API key provided: {key}; got Authorization: Bearer {key} (…{key[-12:]})."
        error = {"message": message, "type": "an_error", "code": key, "param": key}
        status = {"header": 400, "odd": 200}.get(way) or int(way)
        return status, json.dumps({"type": "error", "error": error, "request_id": "r1"}).encode()


def reply_to(path: str) -> dict[str, Any]:
    text = "Bees dance."
    if path.endswith("/messages"):
        usage = {"input_tokens": 5, "output_tokens": 3}
        content = [{"type": "text", "text": text}]
        return {"type": "message", "content": content, "stop_reason": "end_turn", "usage": usage}
    if path.endswith("/responses"):
        parts = [{"type": "output_text", "text": text}]
        usage = {"input_tokens": 5, "output_tokens": 3}
        return {"output": [{"type": "message", "content": parts}], "usage": usage, "status": "completed"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.stop()


class Log(logging.Handler):
    """All that any logger says, with what it was told and the tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.names: set[str] = set()
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.names.add(record.name.partition(".")[0])
        self.lines += [self.format(record), repr(record.args)]


@pytest.fixture
def log() -> Iterator[Log]:
    """Let every logger there is say everything."""
    handler = Log()
    names = [
        "openai",
        "anthropic",
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "sqlalchemy",
        "psycopg",
        "joblib",
    ]
    names += ["sqlalchemy.engine", "sqlalchemy.pool", "toolkit", "alembic", "asyncio"]
    loggers = [logging.getLogger(), *map(logging.getLogger, names)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(handler)
    yield handler
    loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def planted(echo: Echo, vendor: str, **given: Any) -> Config:
    """Return a config that holds all secrets and reaches the echo."""
    settings = {
        name: value.format(echo.place) if isinstance(value, str) else value
        for name, value in SETTINGS[vendor].items()
    }
    return Config(
        **settings,
        openai_api_key=secret("openai"),
        azure_api_key=secret("azure"),
        anthropic_api_key=secret("anthropic"),
        store_password=secret("password"),
        limits_url="memory://",
        max_attempts=2,
        request_timeout_s=10,
        **given,
    )


def told(error: BaseException, *, with_locals: bool = False) -> dict[str, str]:
    """Return all that is usually shown of an exception and of those behind it."""
    texts = {"str": str(error), "repr": repr(error), "args": repr(error.args)}
    lines = traceback.TracebackException.from_exception(error, capture_locals=with_locals).format(chain=True)
    texts["traceback"] = "".join(lines)
    link: BaseException | None = error
    while link is not None:
        texts[f"{type(link).__name__}"] = f"{link} {link!r} {link.args!r} {getattr(link, 'message', '')}"
        link = link.__cause__ or link.__context__
    return {f"{name} of {type(error).__name__}": text for name, text in texts.items()}


def left_by(done: Run, tmp_path: Path) -> dict[str, Any]:
    """Return everything that a run leaves, by place."""
    places: dict[str, Any] = {
        "run": repr(done),
        "config": f"{done.config!r} {done.config} {done.config.shown()} {vars(done.config)}",
        "totals": done.totals(),
        "records": repr(done.records),
        "pickle of config": pickle.dumps(done.config),
        "pickle of run": pickle.dumps(done),
        "pickle of records": pickle.dumps(done.records),
    }
    for name in ("episodes", "calls", "attempts", "limits"):
        frame = getattr(done, name)
        places[f"frame {name}"] = frame.to_csv()
        places[f"page of {name}"] = frame._repr_html_()
    for path in done.save(tmp_path / "out").iterdir():
        places[path.name] = path.read_bytes()
    assert done.config.store_url is not None
    store = store_at(read_address(done.config.store_url))
    places["store"] = f"{store!r} {store.address!r} {store.database!r} {store.address.shown}"
    with store.reading() as connection:
        for table in schema.metadata.sorted_tables:
            rows = connection.execute(sa.select(table)).all()
            places[f"table {table.name}"] = repr(rows)
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.runs)).scalar_one() == 1
    archive = open_store(done.config.store_url)
    places["archive"] = f"{archive!r} {archive.runs().to_csv()}"
    places["pickle of archive"] = pickle.dumps(archive)
    if done.config.store_url.startswith("sqlite"):
        for when in ("open", "closed"):
            for path in tmp_path.glob("runs.db*"):
                places[f"{path.name}, {when}"] = path.read_bytes()
            close_stores()
    return places


def episodes(count: int = 3) -> list[Episode]:
    return [Episode.from_text(f"e{n}", f"Bees dance {n}. They do.") for n in range(count)]


ENDINGS = {
    "ok": ["ok"],
    "wrong key": ["401"],
    "no right": ["403"],
    "rejected": ["ok", "400"],
    "not there": ["404"],
    "limited": ["429", "ok", "429"],
    "broken": ["500"],
    "overloaded": ["503", "ok"],
    "page": ["ok", "html"],
    "short": ["short"],
    "odd": ["odd"],
}


@pytest.mark.parametrize(
    ("vendor", "ending"),
    [("openai", ending) for ending in ENDINGS]
    + [
        (vendor, ending)
        for vendor in ("responses", "azure", "anthropic")
        for ending in ("ok", "wrong key", "rejected")
    ],
)
def test_a_run_leaves_no_secret(
    echo: Echo,
    log: Log,
    tmp_path: Path,
    sqlite_url: str,
    capfd: pytest.CaptureFixture[str],
    vendor: str,
    ending: str,
) -> None:
    """However a server repeats the key, no piece of it is in what a run keeps, shows, logs or saves."""
    echo.script = ENDINGS[ending]
    config = planted(echo, vendor, store_url=sqlite_url)
    with get_provider(config) as provider:
        done = run(episodes(), provider=provider, clock=ManualClock(), progress=True)
        places = left_by(done, tmp_path)
        places["provider"] = f"{provider!r} {provider} {provider.quota_key()} {provider.identity()}"
    # That it was sent, and heard, is why it had to be looked for.
    assert echo.heard == {secret("openai" if vendor == "responses" else vendor)}
    assert (done.counts() == {"ok": 3}) == (ending in ("ok", "overloaded"))
    places["log"] = "\n".join(log.lines)
    places["output"] = capfd.readouterr()
    assert {"httpcore2", "sqlalchemy"} & log.names
    assert found_in(places) == []


@pytest.mark.parametrize("way", ["400", "401", "429", "500", "html", "short", "odd"])
@pytest.mark.parametrize("vendor", SETTINGS)
def test_an_error_tells_no_key(echo: Echo, vendor: str, way: str) -> None:
    """An exception of a vendor's library, what is made of it, and the chain behind both hold no key."""
    echo.script = [way]
    with get_provider(planted(echo, vendor)) as provider:
        with pytest.raises(Exception) as caught:  # noqa: PT011 (of several libraries)
            provider.generate(REQUEST)
        decision = provider.classify(caught.value)
        decision.error.__cause__ = caught.value
        places = told(caught.value) | told(decision.error) | {"decision": repr(decision)}
    assert found_in(places) == []


def test_a_header_that_repeats_the_key_is_not_kept(echo: Echo, tmp_path: Path, sqlite_url: str) -> None:
    """Of the headers of an answer some are kept, and even in these no key is."""
    echo.script = ["header"]
    done = run(episodes(1), planted(echo, "openai", store_url=sqlite_url))
    assert done.counts() == {"failed": 1}
    assert found_in(left_by(done, tmp_path)) == []


def test_an_interrupted_run_leaves_no_secret(
    echo: Echo, log: Log, tmp_path: Path, sqlite_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run that is stopped keeps no secret."""
    stop = threading.Event()
    config = planted(echo, "openai", store_url=sqlite_url)
    done = run(episodes(), config, stop=stop, on_episode=lambda record: stop.set())
    assert done.interrupted
    places = left_by(done, tmp_path) | {"log": "\n".join(log.lines), "output": capfd.readouterr()}
    assert found_in(places) == []


def test_a_run_that_raises_hands_over_no_secret(echo: Echo, tmp_path: Path, sqlite_url: str) -> None:
    """What is raised in the middle of a run, and the run that comes with it, hold none."""

    def broken(record: Any) -> None:
        raise OSError("of the user's own")

    with pytest.raises(RunInterrupted) as caught:
        run(episodes(), planted(echo, "anthropic", store_url=sqlite_url), on_episode=broken)
    assert isinstance(caught.value.run, Run)
    assert found_in(told(caught.value) | left_by(caught.value.run, tmp_path)) == []


@pytest.mark.parametrize("script", [["ok"], ["401"], ["500"]])
def test_a_handle_shows_no_secret(echo: Echo, tmp_path: Path, sqlite_url: str, script: list[str]) -> None:
    """What a run in the background shows of itself, during and after its work, holds none."""
    echo.script = script
    places: dict[str, Any] = {}
    config = planted(echo, "azure", store_url=sqlite_url)
    handle = start(episodes(), config, clock=ManualClock())
    places["handle at first"] = f"{handle!r} {handle.progress!r} {handle.config!r}"
    done = handle.wait()
    places["handle"] = f"{handle!r} {handle.progress!r} {handle.config!r}"
    for name, frame in handle.frames()._asdict().items():
        places[f"handle's {name}"] = frame.to_csv()
    assert found_in(places | left_by(done, tmp_path)) == []


@pytest.mark.parametrize("script", [["ok"], ["401"], ["400"], ["html"]])
def test_the_command_prints_no_secret(
    echo: Echo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    script: list[str],
) -> None:
    """With keys from the environment the command's output and files hold none."""
    echo.script = script
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", secret("openai"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", secret("anthropic"))
    monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", secret("password"))
    Path("bees.txt").write_text("Mara: Bees dance.\n")
    command = ["run", "bees.txt", "--provider", "openai", "--model", "gpt-4o-mini", "--out", "out"]
    command += ["--store", f"sqlite:///{tmp_path}/runs.db", "--set", "limits_url=memory://"]
    command += ["--set", f"openai_base_url=http://{echo.place}/v1", "--set", "max_attempts=1"]
    assert main(command) == (0 if script == ["ok"] else 1)
    assert echo.heard == {secret("openai")}
    places: dict[str, Any] = {"output": capfd.readouterr()}
    for path in tmp_path.rglob("*"):
        if path.is_file():
            places[str(path)] = path.read_bytes()
    assert found_in(places) == []


@pytest.mark.parametrize(
    "setting",
    [
        f"openai_api_key={secret('openai')}é",
        f"openai_ap_key={secret('openai')}",
        f"store_url={secret('password')}",
    ],
)
def test_a_wrong_setting_prints_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], setting: str
) -> None:
    """A key with a letter that no key has, under a misspelt name, or in another's place is not repeated."""
    monkeypatch.chdir(tmp_path)
    Path("bees.txt").write_text("Mara: Bees dance.\n")
    command = ["run", "bees.txt", "--provider", "openai", "--set", "openai_base_url=http://127.0.0.1:9/v1"]
    assert main([*command, "--set", "limits_url=memory://", "--set", setting]) == 2
    assert found_in({"output": capfd.readouterr()}) == []


# The database's own password


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lost_url(password: str = "") -> str:
    """Return the address of a PostgreSQL that is not there."""
    return f"postgresql+psycopg://writer{password}@127.0.0.1:{closed_port()}/runs"


@pytest.mark.parametrize("how", ["environment", "url", "store_password", "both"])
def test_a_database_that_is_not_there_costs_no_password(
    log: Log, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Wherever the password was given, the error of a server that does not answer holds none of it."""
    escaped = ":" + quote(secret("password"), safe="")
    if how == "environment":
        monkeypatch.setenv("TOOLKIT_STORE_URL", lost_url(escaped))
        config = Config(provider="scripted")
    elif how == "url":
        config = Config(provider="scripted", store_url=lost_url(escaped))
    elif how == "store_password":
        config = Config(provider="scripted", store_url=lost_url(), store_password=secret("password"))
    else:
        monkeypatch.setenv("TOOLKIT_STORE_URL", lost_url())
        monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", secret("password"))
        config = Config(provider="scripted")
    assert config.store_password is not None
    assert config.store_password.get_secret_value() == secret("password")
    places: dict[str, Any] = {"config": f"{config!r} {config.shown()}", "pickle": pickle.dumps(config)}
    acts: dict[str, Callable[[], object]] = {
        "run": lambda: run(episodes(), config),
        "start": lambda: start(episodes(), config),
        "open_store": lambda: open_store(config.store_url).runs(),
    }
    for name, act in acts.items():
        if name == "open_store":
            monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", secret("password"))
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            act()
        places |= {f"{name}: {place}": text for place, text in told(caught.value).items()}
    places["log"] = "\n".join(log.lines)
    assert found_in(places) == []


def test_a_traceback_with_variables_shows_no_password() -> None:
    """Not even tracebacks that show the variables of each frame, as notebooks can, hold the password."""
    config = Config(provider="scripted", store_url=lost_url(), store_password=secret("password"))
    with pytest.raises(StoreError) as caught:
        run(episodes(), config)
    assert found_in(told(caught.value, with_locals=True)) == []


def test_the_command_prints_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A store that cannot be reached, or whose address is malformed, is told of without its password."""
    monkeypatch.chdir(tmp_path)
    Path("bees.txt").write_text("Mara: Bees dance.\n")
    good = lost_url(":" + quote(secret("password"), safe=""))
    for url in (good, lost_url(":" + secret("password")), good.replace("postgresql+psycopg", "postgres")):
        assert main(["run", "bees.txt", "--provider", "scripted", "--store", url]) == 2
        monkeypatch.setenv("TOOLKIT_STORE_URL", url)
        assert main(["run", "bees.txt", "--provider", "scripted"]) == 2
        monkeypatch.setenv("TOOLKIT_STORE_URL", "memory://")
    output = capfd.readouterr()
    assert "cannot be reached" in output.err
    assert found_in({"output": output}) == []


def test_a_refused_password_is_not_repeated(postgresql: Any, log: Log) -> None:
    """A server that refuses the password leads to an error without it."""
    url = postgresql.url(postgresql.database(), user=postgresql.role)
    config = Config(provider="scripted", store_url=url, store_password=secret("password"))
    with pytest.raises(StoreError, match="refuses the user or the password") as caught:
        run(episodes(), config)
    assert found_in(told(caught.value) | {"log": "\n".join(log.lines)}) == []


def test_a_database_with_a_password_keeps_none(
    postgresql: Any, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store that its password opened, and in what is shown of it, there is none."""
    monkeypatch.setitem(SECRETS, "password", ("", postgresql.password))
    monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", postgresql.password)
    # The archive and the store find it in the environment.
    monkeypatch.setenv("PGPASSWORD", postgresql.password)
    url = postgresql.url(postgresql.database(), user=postgresql.role)
    done = run(episodes(), Config(provider="scripted", store_url=url))
    assert done.counts() == {"ok": 3}
    assert found_in(left_by(done, tmp_path) | {"log": "\n".join(log.lines)}) == []


# Who may read the file


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_only_the_user_may_read_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, log and index of a store have mode 0600 and its folder 0700, whatever the umask, all the time."""
    path = tmp_path / "project" / ".toolkit" / "runs.db"
    modes: dict[str, set[int]] = {}

    def look(record: Any = None) -> None:
        for found in path.parent.glob("runs.db*"):
            modes.setdefault(found.name, set()).add(stat.S_IMODE(found.stat().st_mode))

    before = os.umask(0)
    try:
        for _ in range(2):
            config = Config(provider="scripted", store_url=f"sqlite:///{path}", reuse="none")
            run(episodes(), config, on_episode=look)
            look()
            close_stores()
            look()
    finally:
        os.umask(before)
    assert modes == {"runs.db": {0o600}, "runs.db-wal": {0o600}, "runs.db-shm": {0o600}}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_search_finds_what_it_searches_for() -> None:
    """A piece of a secret is found in texts and bytes, as it is and as an address writes it."""
    core = SECRETS["openai"][1]
    places = {
        "whole": secret("openai"),
        "piece": f"…{core[5:16]}…",
        "bytes": b"\0" + core.encode(),
        "url": quote(secret("password"), safe=""),
        "nothing": "sk-proj-*** and ***",
    }
    assert found_in(places) == ["openai in whole", "openai in piece", "openai in bytes", "password in url"]
    error = ToolkitError("outer")
    error.__cause__ = ValueError(core)
    assert found_in(told(error))
    buffer = io.StringIO(secret("azure"))
    assert found_in({"buffer": buffer.read()}) == ["azure in buffer"]
