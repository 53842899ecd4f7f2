"""Workers with addresses of their own, in network namespaces, of which one is cut off for a while."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from postgresql_server import Server

Checker = Callable[[list[tuple[float, int]], int, int], str | None]

REQUESTS, TOKENS, SLOTS = 120, 9_600, 6
SECONDS, CUT_AT_S, CUT_S = 45.0, 10.0, 15.0

WORKER = """
import json, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from toolkit.limits import Demand, LimitSettings, limiter_for, open_state
from toolkit.records import Usage
url, seconds, requests, tokens, slots = sys.argv[1], *map(float, sys.argv[2:])
settings = LimitSettings(
    requests_per_minute=int(requests), tokens_per_minute=int(tokens), max_concurrent=int(slots), charge="sum"
)
limiter = limiter_for("key", settings, open_state(url), wait_s=60)
until = time.monotonic() + seconds
stop = threading.Event()
def work(number):
    while time.monotonic() < until:
        lease = limiter.acquire(Demand(60, 20), stop=stop).lease
        began = limiter.now()
        time.sleep(0.4)  # a call, in real time
        # In one piece: six threads write.
        sys.stdout.write(json.dumps([lease.admitted_at, began, limiter.now()]) + "\\n")
        sys.stdout.flush()
        limiter.settle(lease, Usage(60, 20))
print("ready", flush=True)
with ThreadPoolExecutor(6) as pool:
    futures = [pool.submit(work, number) for number in range(6)]
    threading.Timer(seconds + 15, stop.set).start()
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[list[tuple[str, str, str]]]:
    """Make two, each with a link to this one: name, the link's end here, and the address of that end."""
    if shutil.which("ip") is None:
        pytest.skip("there is no command ip here")
    made = []
    with ExitStack() as undo:
        try:
            for number in (1, 2):
                name = f"tk-{os.getpid()}-{number}"
                here, there = f"tkh{os.getpid() % 10_000}{number}", f"tkt{os.getpid() % 10_000}{number}"
                _ip("netns", "add", name)
                undo.callback(_ip, "netns", "del", name)
                _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
                _ip("addr", "add", f"10.213.{number}.1/30", "dev", here)
                _ip("link", "set", here, "up")
                _ip("-n", name, "addr", "add", f"10.213.{number}.2/30", "dev", there)
                _ip("-n", name, "link", "set", there, "up")
                _ip("-n", name, "link", "set", "lo", "up")
                made.append((name, here, f"10.213.{number}.1"))
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"network namespaces are not allowed here: {refused.stderr.decode().strip()}")
        yield made


class Relay:
    """Passes what comes to an address on to a socket in a folder: the server listens on nothing else."""

    def __init__(self, address: str, target: Path) -> None:
        self._target = str(target)
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # It is closed.
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                to.sendall(data)
        except OSError:
            pass  # One side is gone, and the other is told.
        finally:
            for end in (source, to):
                end.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_one_limit_for_two_networks_of_which_one_is_cut_off(
    namespaces: list[tuple[str, str, str]], postgresql: Server, broken: dict[str, Checker]
) -> None:
    """Neither requests nor tokens are broken, the other goes on meanwhile, and who was cut off comes back."""
    database = postgresql.database("template1")
    numbers = [str(value) for value in (SECONDS, REQUESTS, TOKENS, SLOTS)]
    with ExitStack() as stack:
        workers = []
        for name, _, address in namespaces:
            relay = Relay(address, postgresql.folder / ".s.PGSQL.5432")
            stack.callback(relay.close)
            url = f"postgresql+psycopg://postgres@{address}:{relay.port}/{database}"
            workers.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", name, sys.executable, "-c", WORKER, url, *numbers],
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(workers[-1].kill)
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        _, cut_link, _ = namespaces[0]
        time.sleep(CUT_AT_S)  # Real time is the point: a network is there, away, and there again.
        _ip("link", "set", cut_link, "down")
        began = time.time()
        time.sleep(CUT_S)
        _ip("link", "set", cut_link, "up")
        ended = time.time()
        told = [worker.communicate(timeout=90)[0] for worker in workers]
    cut, other = ([json.loads(line) for line in text.splitlines()] for text in told)

    admissions = sorted(admitted for admitted, *_ in cut + other)
    assert broken["bucket"]([(at, 1) for at in admissions], REQUESTS, 60) is None
    assert broken["bucket"]([(at, 80) for at in admissions], TOKENS, 60) is None
    # Leases that were taken ahead are given out for a moment; after that nobody admits without the book.
    assert not [at for at, *_ in cut if began + 1.0 < at < ended]
    assert [at for at, *_ in cut if at > ended]
    assert [at for at, *_ in other if began + 10.0 < at < ended]
    assert min(len(cut), len(other)) > 10
    # All of what two networks may do together was made use of.
    span = admissions[-1] - admissions[0]
    assert len(admissions) >= 0.9 * (REQUESTS + REQUESTS / 60 * span)
