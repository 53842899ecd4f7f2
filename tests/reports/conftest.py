"""A parsed page, and runs that are worth one."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest

from toolkit.config import Config
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.testing import ApiServer
from toolkit.workflow import run

VOID = {"meta", "img", "br", "hr", "link", "input", "base", "embed"}
Attributes = dict[str, str | None]


@dataclass
class Tag:
    """An element: its attributes, and all text within it."""

    name: str
    attributes: Attributes
    text: str = ""
    within: list[str] = field(default_factory=list)


class Parsed(HTMLParser):
    """All elements of a page, in order; a tag that is not closed where it must be is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self._open: list[Tag] = []
        self.feed(page)
        self.close()
        assert self._open == [], [tag.name for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        made = Tag(tag, dict(attrs), within=[outer.name for outer in self._open])
        self.tags.append(made)
        if tag not in VOID:
            self._open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self._open
        assert self._open[-1].name == tag, (tag, [outer.name for outer in self._open])
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            tag.text += data

    def all(self, name: str) -> list[Tag]:
        return [tag for tag in self.tags if tag.name == name]

    @property
    def text(self) -> str:
        """What a reader may read; without the style."""
        (body,) = self.all("body")
        return body.text

    def drawings(self) -> Iterator[bytes]:
        """Yield the images of the page, decoded."""
        for image in self.all("img"):
            kind, _, data = str(image.attributes["src"]).partition(";base64,")
            assert kind in ("data:image/svg+xml", "data:image/png")
            yield b64decode(data, validate=True)


@pytest.fixture(scope="session")
def parsed() -> Callable[[str], Parsed]:
    return Parsed


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$x_1$ & \\frac{a}{b}",
    "{{ 7 * 7 }}{% raw %}",
    "🎙️ Folge № 5",
    "مرحبا \u202etxt.exe\u202c",
    "long-" + "x" * 5000 + "-end",
    "javascript:alert(1)",
    "bell\x07 \x1b[31mred\x1b[0m and half \ud83d",
)


def hostile_episodes() -> list[Episode]:
    line = " ".join(["word"] * 30)
    return [
        Episode.from_text(
            name,
            "\n".join(f"{name} {line} dry{number}." for number in range(3)),
            title=f"{name}</title></td></details>",
            reference=f"{name}</p><script>",
        )
        for name in HOSTILE
    ]


@pytest.fixture
def run_scripted() -> Callable[..., Run]:
    """Run episodes by script: ``run_scripted(number, lines, **settings)``."""

    def go(number: int = 3, lines: int = 3, **settings: Any) -> Run:
        line = " ".join(["word"] * 30)
        episodes = [
            Episode.from_text(f"e{n}", "\n".join(f"Hill{n} {line} dry{i}." for i in range(lines)))
            for n in range(number)
        ]
        return run(episodes, Config(provider="scripted", **{"chunk_tokens": 32, **settings}), progress=False)

    return go


SECRETS = ("sk-planted-4711-openai", "azure-planted-4711", "sk-ant-planted-4711", "planted-4711-password")


@pytest.fixture(scope="session")
def hosted() -> tuple[Run, list[Episode]]:
    """Run episodes with hostile names against a server with limits, refusals and failures."""
    episodes = hostile_episodes()
    faults = {"429": 0.03, "500": 0.05, "400": 0.1}
    with ApiServer(requests_per_minute=3000, faults=faults, seed=3, fault_retry_after_s=0.01) as server:
        config = Config(
            provider="openai",
            model="gpt-5.6-luna",
            openai_base_url=server.base_url,
            openai_api_key=SECRETS[0],
            azure_api_key=SECRETS[1],
            anthropic_api_key=SECRETS[2],
            store_password=SECRETS[3],
            store_url="memory://",
            system_prompt="<script>prompt</script>",
            limits_url="memory://",
            openai_requests_per_minute=3000,
            openai_tokens_per_minute=1_000_000,
            summary_batch_size=8,
            summary_chunk_parallelism=3,
            chunk_tokens=64,
            reuse="none",
        )
        return run(episodes, config, progress=False), episodes
