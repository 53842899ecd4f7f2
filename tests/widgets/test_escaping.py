"""Whatever stands in a transcript, a reply, a title or a file's name is shown as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import ipywidgets
import pytest

from toolkit import Config, Episode, TuningPanel, start
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.widgets.pages import episodes_html
from toolkit.widgets.results import TITLES, tab_html
from toolkit.widgets.watching import Watch

WILD = (
    "<script>window.ran = true</script>",
    "<img src=x onerror='window.ran = true'>",
    '"><svg onload="window.ran = true">',
    "**bold** [link](javascript:ran()) # head",
    "\x1b[31mred\x1b[0m \x1b]8;;http://x.example\x07link",
    "\u202eetirw\u202c \u2066right\u2069",
    "\U0001f41d $x^2$ \\(y\\) $$z$$",
)


def wild_episodes() -> list[Episode]:
    return [
        Episode.from_text(f"{number}{text}", f"{text} says this. And more. " * 30, title=text)
        for number, text in enumerate(WILD)
    ]


def all_html(panel: TuningPanel) -> str:
    """Return what all of the panel's pages hold."""
    return "\n".join(
        widget.value
        for widget in [*panel._face.pages.values(), *panel._results._pages.values()]
        if isinstance(widget, ipywidgets.HTML)
    )


class Tags(HTMLParser):
    """Finds what would run something, as a browser reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        source = dict(attrs).get("src") or "data:"
        runs = [name for name, _ in attrs if name.startswith("on")]
        if tag in ("script", "iframe", "a", "object") or runs or not source.startswith("data:"):
            self.bad.append(self.get_starttag_text() or tag)


def harmless(html: str) -> bool:
    tags = Tags()
    tags.feed(html)
    return tags.bad == [] and not re.search("[\x1b\u202e\u2066]", html)


def test_the_check_sees_what_it_forbids() -> None:
    """Or all of it would pass."""
    assert not any(harmless(text) for text in WILD[:3])
    assert not harmless(WILD[4])
    assert harmless("&lt;script&gt; onerror=")


def test_all_pages_are_harmless(
    make_panel: Callable[..., TuningPanel], scripted: Config, idle: Callable[[Any], None]
) -> None:
    """From the first plan to the last tab."""
    episodes = wild_episodes()
    panel = make_panel(episodes, scripted.replace(model=WILD[0], system_prompt=WILD[1]))
    idle(panel._predictor)
    panel.buttons["add"].click()
    panel.buttons["code"].value = True
    assert harmless(all_html(panel))
    panel.buttons["run"].click()
    idle(panel._driver)
    idle(panel._predictor)
    assert harmless(all_html(panel))
    assert "window.ran" in all_html(panel)


@pytest.mark.parametrize("name", TITLES)
def test_all_tabs_are_harmless(name: str, scripted: Config) -> None:
    """Replies, errors and titles of all kinds."""
    replies = iter([*WILD * 40])
    faults: Any = lambda request, attempt: ValueError(WILD[0]) if request.episode_id.startswith("6") else None  # noqa: E731
    provider = ScriptedSummarizationProvider(scripted, replies=lambda request: next(replies), faults=faults)
    episodes = wild_episodes()
    handle = start(episodes, scripted, provider=provider)
    html = tab_html(name, handle.wait(), episodes)
    assert harmless(html)
    view = Watch(episodes, None, 0.0).look(handle)
    assert "failed" in view.counts
    assert harmless(episodes_html(view, {episode.id: episode.title for episode in episodes}))


def test_a_reply_without_end_is_cut(scripted: Config) -> None:
    """A megabyte in one summary would make the page stand still."""
    config = scripted.replace(summary_max_tokens=8000)
    episodes = [Episode.from_text("a", "They talk.")]
    provider = ScriptedSummarizationProvider(
        config, replies=lambda request: "b" * 1_000_000, context_tokens=20_000
    )
    run = start(episodes, config, provider=provider).wait()
    assert len(run.records[0].summary.text) == 1_000_000
    for name in ("Figures", "Summaries", "Episodes"):
        assert len(tab_html(name, run, episodes)) < 60_000
