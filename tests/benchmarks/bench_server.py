"""Requests a second that the loopback server answers, from a bare client and through OpenAI's own.

The server runs in a process of its own, with all limits counted and out of reach. Prints a table and,
last, one JSON line. ``server_ms`` is the server's CPU time for a request, where the system tells it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import openai

from toolkit.testing import ApiServer

SECONDS = 2.0
PLENTY = 1_000_000_000
TEXT = "The mill at the mouth of the bay ground rye for six hundred years. " * 30
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 64}


def bare(port: int) -> Callable[[], None]:
    connection = HTTPConnection("127.0.0.1", port)
    body = json.dumps(BODY)

    def ask() -> None:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()

    return ask


def sdk(base_url: str) -> Callable[[int], Callable[[], None]]:
    client = openai.OpenAI(base_url=base_url, api_key="any", max_retries=0)

    def ask() -> None:
        client.chat.completions.create(**BODY)

    return lambda port: ask


def cpu_s(process_id: int) -> float | None:
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / 100


def measure(make: Callable[[int], Callable[[], None]], port: int, threads: int) -> float:
    """Return requests a second of ``threads`` threads."""
    done = [0] * threads
    ends = time.perf_counter() + SECONDS

    def work(at: int) -> None:
        ask = make(port)
        while time.perf_counter() < ends:
            ask()
            done[at] += 1

    workers = [threading.Thread(target=work, args=(at,)) for at in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - began)


def main() -> None:
    rows = []
    with ApiServer.spawn(requests_per_minute=PLENTY, tokens_per_minute=PLENTY) as server:
        for name, make in (("http.client", bare), ("openai", sdk(server.base_url))):
            for threads in (1, 32):
                server.reset_score(refill=True)
                before = cpu_s(server.process_id)
                rate = measure(make, server.port, threads)
                requests = server.score().requests
                after = cpu_s(server.process_id)
                used = None if before is None or after is None else 1000 * (after - before) / requests
                rows.append({"client": name, "threads": threads, "requests_per_s": rate, "server_ms": used})
                told = "" if used is None else f", {used:.2f} ms of the server's processor each"
                print(f"{name:12} {threads:3} threads: {rate:6.0f} requests/s{told}")
    print(json.dumps({"benchmark": "server", "body_bytes": len(json.dumps(BODY)), "rows": rows}))


if __name__ == "__main__":
    main()
