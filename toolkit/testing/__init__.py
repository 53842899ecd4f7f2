"""Servers and time for notebooks, workshops, tests and benchmarks that are to run without a key.

>>> from toolkit.testing import ApiServer
>>> with ApiServer(law="openai", requests_per_minute=600, tokens_per_minute=90_000) as server:
...     ...  # point any client at server.base_url
...     print(server.score())

It has its own implementation of the vendors' laws and shares none of it with the toolkit's limiter.
"""

from __future__ import annotations

from toolkit.clock import ManualClock
from toolkit.testing.latency import Latency
from toolkit.testing.ledger import JournalRow, Score
from toolkit.testing.models import ModelSpec
from toolkit.testing.options import ServerOptions
from toolkit.testing.server import ApiServer
from toolkit.testing.spawn import SpawnedServer

__all__ = [
    "ApiServer",
    "JournalRow",
    "Latency",
    "ManualClock",
    "ModelSpec",
    "Score",
    "ServerOptions",
    "SpawnedServer",
]
