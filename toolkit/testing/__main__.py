"""``python -m toolkit.testing``: the loopback server as a process; its addresses are one line of JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.testing.options import ServerOptions
from toolkit.testing.server import ApiServer


def _value(text: str) -> Any:
    """Read an option's value: JSON where it is JSON, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.testing",
        description="A loopback server that behaves like the hosted APIs. Values are JSON or text, such as "
        "--latency '[0.2, 0.0001, 0.02]' or --faults '{\"500\": 0.1}'.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--stdin", action="store_true", help="read options as one line of JSON, and end when the input ends"
    )
    for item in fields(ServerOptions):
        if item.name != "key":
            parser.add_argument(f"--{item.name.replace('_', '-')}", type=_value, default=argparse.SUPPRESS)
    return parser


def _wait_for_end_of_input(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted, terminated or, with ``--stdin``, until the input ends; return the status."""
    given = vars(_parser().parse_args(arguments))
    port, from_stdin = given.pop("port"), given.pop("stdin")
    ended = threading.Event()
    try:
        if from_stdin:
            given = {**json.loads(sys.stdin.readline()), **given}
        server = ApiServer(port=port, **given).start()
    except ToolkitError as error:
        print(error, file=sys.stderr)
        return 2
    if from_stdin:
        # An interrupt of a notebook's kernel reaches its children too; the parent says when this one ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        addresses = ("port", "base_url", "anthropic_url", "azure_url")
        print(json.dumps({name: getattr(server, name) for name in addresses}), flush=True)
        if from_stdin:
            threading.Thread(target=_wait_for_end_of_input, args=(ended,), daemon=True).start()
        ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
