"""Where a store is, who may read it, and what several processes may do with one."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import ConfigError
from toolkit.records import CallRecord
from toolkit.store.address import Address, default_path, read_address
from toolkit.store.database import _make_file
from toolkit.store.store import Store, call_rows

New = Callable[..., CallRecord]
Open = Callable[..., Store]
Ids = Callable[[Store], list[str]]


# Addresses


def test_addresses_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of address is read; a file's path is made absolute, with the user's folder in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert read_address("memory://") == Address("memory://")
    assert read_address("sqlite:///runs.db").path == tmp_path / "runs.db"
    assert read_address("sqlite:///~/runs.db").path == tmp_path / "home" / "runs.db"
    assert read_address(f"sqlite:///{tmp_path}/a b%20?#.db").path == tmp_path / "a b%20?#.db"
    server = read_address("postgresql+psycopg://ann@host:5433/runs", "secret")
    assert (server.path, server.shown) == (None, "postgresql+psycopg://ann@host:5433/runs")
    assert "secret" not in repr(server) + str(server)


@pytest.mark.parametrize(
    "url", ["", "runs.db", "sqlite://", "sqlite:///", "mysql://h/d", "postgresql://h/d", "memory:"]
)
def test_other_addresses_are_refused(url: str) -> None:
    """What is no address of the three kinds is an error that names them."""
    with pytest.raises(ConfigError, match="memory://, sqlite:///PATH or postgresql"):
        read_address(url)


@pytest.mark.parametrize("mark", [".git", "pyproject.toml", ".toolkit"])
def test_the_default_is_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    """The nearest folder upwards with a mark of a project holds the store; the folder itself if none does."""
    inner = tmp_path / "project" / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "project" / mark).mkdir()
    (tmp_path / mark).mkdir()
    assert default_path(inner) == tmp_path / "project" / ".toolkit" / "runs.db"
    monkeypatch.chdir(inner)
    assert read_address().path == default_path() == default_path(inner)


def test_the_users_home_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark in the home, or above it, makes no project of what is in the home."""
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    (home / ".git").mkdir()
    (tmp_path / ".toolkit").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert default_path(home / "work") == home / "work" / ".toolkit" / "runs.db"
    assert default_path(home) == home / ".toolkit" / "runs.db"


# Files


@pytest.mark.skipif(sys.platform == "win32", reason="has other permissions")
def test_a_store_is_the_users_own(tmp_path: Path, open_store: Open, make_call: New) -> None:
    """File, side files and folder are for the user alone, whatever is usual; a mode that was set stays."""
    before = os.umask(0)
    try:
        path = tmp_path / ".toolkit" / "runs.db"
        store = open_store(f"sqlite:///{path}")
        store.commit(call_rows("r", make_call(), "t"))
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert {name: mode for name, mode in modes.items() if name.startswith("runs")} == dict.fromkeys(
        ["runs.db", "runs.db-wal", "runs.db-shm"], 0o600
    )
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()
    path.chmod(0o640)
    open_store(f"sqlite:///{path}").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("folder", "there", "ignored"),
    [
        (".toolkit", False, True),
        (".toolkit", True, False),
        ("data", False, False),
        ("a/b/.toolkit", False, True),
    ],
)
def test_only_a_folder_of_ours_is_ignored(
    tmp_path: Path, open_store: Open, folder: str, there: bool, ignored: bool
) -> None:
    """A ``.toolkit`` that is made is kept out of repositories; a folder of the user's is left as it is."""
    if there:
        (tmp_path / folder).mkdir()
    open_store(f"sqlite:///{tmp_path / folder / 'runs.db'}")
    ignore = tmp_path / folder / ".gitignore"
    assert ignore.exists() == ignored
    assert not ignored or ignore.read_text() == "*\n"


def test_closing_leaves_one_file(tmp_path: Path, sqlite_url: str, open_store: Open, make_call: New) -> None:
    """After the last one closes the store is a single file that can be copied."""
    store = open_store(sqlite_url)
    store.commit(call_rows("r", make_call(), "t"))
    store.close()
    assert [each.name for each in tmp_path.iterdir()] == ["runs.db"]


def test_opening_again_takes_no_lock_away(
    sqlite_url: str, open_store: Open, make_call: New, call_ids: Ids
) -> None:
    """A second opening in the process, while the first is in a transaction, leaves the first one's locks."""
    store = open_store(sqlite_url)

    path = read_address(sqlite_url).path

    def work(connection: Any) -> str:
        _make_file(path, store.address)
        script = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        return done.stderr

    assert "database is locked" in store.commit(call_rows("r", make_call(), "t"), work)
    assert call_ids(store) == ["c1"]


# Processes

OPEN = """
from toolkit.store.address import read_address
from toolkit.store.store import Store
import sys
sys.stdin.read(1)
Store(read_address(sys.argv[1])).close()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_open_a_new_store_at_once(
    kind: str, request: pytest.FixtureRequest, sqlite_url: str, open_store: Open
) -> None:
    """Of several processes and threads that find no tables one makes them, and none sees an error."""
    url = sqlite_url
    if kind == "postgresql":
        server = request.getfixturevalue("postgresql")
        url = server.url(server.database("template0"))
    children = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    time_to_load = threading.Event()
    time_to_load.wait(0.5)
    threads = [threading.Thread(target=open_store, args=(url,)) for _ in range(3)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"x")
        child.stdin.flush()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    errors = [child.communicate(timeout=30)[1].decode() for child in children]
    assert errors == [""] * 3
    assert open_store(url).find_call("k") is None


FORK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from conftest import make_call
from toolkit.store.address import read_address
from toolkit.store.opened import store_at
from toolkit.store.store import call_rows

def write(call_id):
    store_at(read_address(sys.argv[1])).commit(call_rows("r", make_call(call_id), "t"))

write("before")
children = []
for number in range(3):
    child = os.fork()
    if not child:
        try:
            for again in range(20):
                write(f"child{number}-{again}")
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        # As a process that ends orderly does, with all that is closed then.
        sys.exit(0)
    children.append(child)
    for again in range(20):
        write(f"parent{number}-{again}")
# The parent, which inherited nothing, must not clear the log away under its children.
from toolkit.store.opened import close_stores
close_stores()
write("after")
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
write("last")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="does not fork")
@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_forked_processes_write_too(store_url: str, open_store: Open, call_ids: Ids) -> None:
    """Children that are forked while the store is open write into it, and the parent goes on."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, store_url]
    done = subprocess.run(
        [*command, str(Path(__file__).parent)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    names = [
        f"{who}{number}-{again}" for who in ("child", "parent") for number in range(3) for again in range(20)
    ]
    assert sorted(call_ids(open_store(store_url))) == sorted(["before", "after", "last", *names])


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from conftest import make_call
from toolkit.store.address import read_address
from toolkit.store.store import Store, call_rows
store = Store(read_address(sys.argv[1]))
for number in range(10**9):
    store.commit(call_rows(sys.argv[3], make_call(f"c{number}", key=f"k{number}"), "text " * 100))
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
def test_a_killed_process_harms_nothing(
    tmp_path: Path, sqlite_url: str, open_store: Open, call_ids: Ids
) -> None:
    """After kill -9 in the middle of writing the file is whole, and all that was committed is in it."""
    for time_number in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, sqlite_url, str(Path(__file__).parent), f"r{time_number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        last = ""
        until = None
        for line in child.stdout:
            last = line if line.endswith("\n") else last
            until = until or time.monotonic() + 0.3
            if time.monotonic() > until and child.poll() is None:
                child.send_signal(signal.SIGKILL)
        child.stdout.close()
        assert child.wait(10) == -signal.SIGKILL
        with sqlite3.connect(tmp_path / "runs.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            kept = connection.execute(
                "SELECT count(*), max(CAST(substr(call_id, 2) AS int)) FROM calls WHERE run_id = ?",
                (f"r{time_number}",),
            ).fetchone()
        connection.close()
        assert kept[0] - 1 == kept[1] >= int(last)
    open_store(sqlite_url)
