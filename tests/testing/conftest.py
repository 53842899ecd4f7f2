from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from toolkit.testing import ApiServer

TEXT = "The mill at the bay ground rye. It stood for six hundred years. Nobody knows who built it."


@pytest.fixture
def serve() -> Iterator[Callable[..., ApiServer]]:
    """Start servers that end with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(ApiServer(*args, **options))


@pytest.fixture
def client_of() -> Iterator[Callable[..., openai.OpenAI]]:
    """Make OpenAI clients that are closed with the test."""
    with ExitStack() as stack:

        def make(server: ApiServer, **options: Any) -> openai.OpenAI:
            chosen = {"api_key": "any", "max_retries": 0, "timeout": 5, **options}
            return stack.enter_context(openai.OpenAI(base_url=server.base_url, **chosen))

        yield make


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Ask for a summary through Chat Completions."""

    def chat(client: openai.OpenAI, text: str = TEXT, *, model: str = "gpt-4o", **options: Any) -> Any:
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model=model, messages=messages, **options)  # type: ignore[call-overload]

    return chat
