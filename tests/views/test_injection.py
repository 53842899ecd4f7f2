"""What transcripts, models, files and servers say is shown as text, in every view, however it is written."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from hostile import FORMULA, IMAGE, LONG, SCRIPT, TEXTS, VIEWS, hostile_pairs, hostile_run, hostile_sweep

from toolkit.parts import Column, Fold, Table, Text, View, notebook_html

TAGS = {
    *("div", "style", "p", "strong", "bdi", "span", "ul", "li", "dl", "dt", "dd", "details", "summary"),
    *(
        "article",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
        "img",
        "pre",
    ),
}
ATTRIBUTES = {"class", "dir", "role", "aria-label", "aria-level", "tabindex", "scope", "open"}
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\ud800-\udfff]")


class Parsed(HTMLParser):
    """The elements of a view and what can be read in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.styles: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.styles.append(data)
        else:
            self.text += data


@cache
def pages(name: str) -> tuple[str, ...]:
    """Return all HTML by which a view shows itself, with widgets and without."""
    made = VIEWS[name]()
    if not hasattr(made, "_repr_mimebundle_"):
        return (made._repr_html_(),)
    parts = [part.value for part in made._views.values()]
    return (made._repr_mimebundle_()["text/html"], *parts)


@cache
def written(name: str) -> str:
    return repr(VIEWS[name]())


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_runs(name: str) -> None:
    """There is no element and no attribute but those of the templates, and no address but of pictures."""
    for page in pages(name):
        found = Parsed(page)
        assert {tag for tag, _ in found.tags} <= TAGS
        for tag, attributes in found.tags:
            own = {"src", "alt", "width", "height"} if tag == "img" else set()
            assert attributes.keys() <= ATTRIBUTES | own, (tag, attributes)
            if tag == "img":
                assert str(attributes["src"]).startswith("data:image/")
        assert set(found.styles) == set(Parsed(notebook_html(View(""))).styles)


@pytest.mark.parametrize("name", VIEWS)
def test_the_text_is_there(name: str) -> None:
    """It is not left out, as a sanitizer would, but can be read as it was written."""
    text = "".join(Parsed(page).text for page in pages(name))
    assert SCRIPT in text
    if name not in ("Episode of 1 MB", "Config", "Plan"):
        assert IMAGE in text or 'onerror="window.ran=1"' in text
    if name == "Run":
        for kind in ("attribute", "end", "link", "markdown", "formula", "template", "emoji"):
            assert TEXTS[kind] in text, kind


@pytest.mark.parametrize("name", VIEWS)
def test_no_control_character_and_no_turned_writing(name: str) -> None:
    """Neither in the HTML nor in the text that a terminal shows."""
    for shown in (*pages(name), written(name)):
        assert not UNSAFE.search(shown), UNSAFE.search(shown)
        shown.encode("utf-8")


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_is_read_as_a_formula(name: str) -> None:
    """Dollar signs stay what they are: all of a view is in an element that Jupyter leaves alone."""
    for page in pages(name):
        first, attributes = Parsed(page).tags[0]
        assert first == "div"
        assert {"tex2jax_ignore", "mathjax_ignore"} <= set(str(attributes["class"]).split())
        assert page.strip().startswith("<div")
        assert page.strip().endswith("</div>")


@pytest.mark.parametrize("name", VIEWS)
def test_a_notebook_stays_small(name: str) -> None:
    """Of a megabyte of text so much is shown as somebody may read."""
    assert all(len(page) < 400_000 for page in pages(name)), [len(page) for page in pages(name)]
    assert len(written(name)) < 12_000


@pytest.mark.parametrize("name", VIEWS)
def test_no_secret_is_shown(name: str) -> None:
    """A key stands in no view and in no repr."""
    assert all("planted-4711" not in shown for shown in (*pages(name), written(name)))


def test_every_kind_of_text_is_harmless_in_every_part() -> None:
    """Also where no view has such a text yet: titles, facts, units, captions, notes."""
    for text in TEXTS.values():
        table = Table(text, [Column(text, text), Column(text, text, True)], [[text, text]], text)
        page = notebook_html(View(text, [(text, text)], parts=[Text(text), Fold(text, [table])]))
        found = Parsed(page)
        assert {tag for tag, _ in found.tags} <= TAGS
        assert not UNSAFE.search(page.replace("\ud83d", ""))


def test_long_lists_are_shown_in_part() -> None:
    """Ten thousand episodes are no table of ten thousand rows."""
    from toolkit.config import Config
    from toolkit.records import EpisodeRecord, Summary
    from toolkit.runs import Run

    records = [EpisodeRecord(f"e{n}", f"e{n}", 9, 0.0, 1.0, Summary("Bees.")) for n in range(10_000)]
    run = Run(
        id="r", config=Config(), provider="p", model="m", records=records, makespan_s=1.0, store="memory://"
    )
    page = run._repr_html_()
    assert len(page) < 60_000
    text = Parsed(page).text
    assert "30 of 10,000 are shown" in text
    assert "The first 10 of 10,000 are here" in text


def test_strings_of_these_tests_are_hostile() -> None:
    """Were one of them harmless, the tests above would hold by themselves."""
    raw = "".join(TEXTS.values())
    for needed in (SCRIPT, "onerror=", "\x1b[31m", "\u202e", "$x_1$", "🎙️", "{{", "**", "\ud83d"):
        assert needed in raw
    assert len(LONG) >= 1_000_000
    assert FORMULA in hostile_run().model
    assert SCRIPT in str(hostile_sweep().cells["map_prompt"].tolist())
    assert len(hostile_pairs()) > 10


def test_a_view_is_one_of_these(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that learns to show itself must be in the list, or its text would be held against nothing."""
    import importlib
    import pkgutil

    import toolkit

    shown = set()
    for module in pkgutil.walk_packages(toolkit.__path__, "toolkit."):
        if module.name.startswith(("toolkit.store.migrations", "toolkit.testing.__main__")):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name:
                own = vars(value).keys() & {"_repr_html_", "_repr_mimebundle_", "_repr_markdown_"}
                shown |= {value.__name__} if own else set()
    # The first has figures only, over seeds; what the second shows is tried in widgets/test_escaping.py.
    assert shown - {"Simulations", "TuningPanel"} <= {name.partition(" ")[0] for name in VIEWS}


def test_knobs_of_a_study_are_named_in_controls_as_they_are() -> None:
    """The options of a list are text to the browser; labels are the toolkit's own."""
    explorer: Any = VIEWS["SweepExplorer"]()
    for control in explorer.controls.values():
        assert not getattr(control, "description_allow_html", False)
        assert "$" not in control.description
