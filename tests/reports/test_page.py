"""What holds of every page: it needs nothing but itself, shows text as text, and can be read by everybody."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from toolkit.archive import open_store
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.records import Episode
from toolkit.reports import page
from toolkit.runs import Run

Hosted = tuple[Run, list[Episode]]
EVIL = "<script>evil</script>"


def study(**changes: Any) -> Any:
    """Two knobs, three repeats, one cell that failed; with names that are markup."""
    rows = [
        {
            "sweep_id": EVIL,
            "cell": cell,
            "repeat": repeat,
            "summary_batch_size": batch,
            "map_prompt": prompt,
            "simulated": False,
            "status": "failed" if cell == 4 else "ok",
            "error": f"MemoryError: {EVIL}" if cell == 4 else None,
            "makespan_s": None if cell == 4 else 10.0 / batch + repeat,
            "episodes_per_h": None if cell == 4 else 100.0 * batch + repeat,
            "cost_usd": None if cell == 4 else 0.01 * cell,
            "rougeL": None if cell == 4 else 0.2 + 0.01 * cell,
        }
        for cell, (batch, prompt) in enumerate([(1, "a {text}"), (1, EVIL), (2, "a {text}"), (2, EVIL)], 1)
        for repeat in (1, 2, 3)
    ]
    return types.SimpleNamespace(
        cells=pd.DataFrame(rows),
        id=EVIL,
        name=EVIL,
        config=Config(provider="scripted", openai_api_key="sk-planted-4711-openai"),
        environment={"processor": EVIL, "libraries": {EVIL: "1"}},
        **changes,
    )


@pytest.fixture(scope="module")
def pages(hosted: Hosted) -> dict[str, str]:
    """Pages of every kind, all with text that others wrote."""
    run, episodes = hosted
    return {
        "run": page(run, episodes=episodes),
        "runs": page([run, run], episodes=episodes),
        "study": page(study()),
        "frame": page(study().cells),
    }


KINDS = ("run", "runs", "study", "frame")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_for_and_nothing_runs(kind: str, pages: dict[str, str], parsed: Any) -> None:
    """No element or attribute that fetches, sends or executes; links stay within the page."""
    found = parsed(pages[kind])
    names = {tag.name for tag in found.tags}
    assert not names & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "input",
        "base",
        "video",
        "svg",
    }
    ids = {tag.attributes["id"] for tag in found.tags if "id" in tag.attributes}
    for tag in found.tags:
        assert not [name for name in tag.attributes if name.startswith("on") or name == "style"], tag
        assert not tag.attributes.keys() & {"srcset", "action", "data", "poster", "background", "ping"}
        if (link := tag.attributes.get("href")) is not None:
            assert link.startswith("#")
            assert link[1:] in ids
        if (source := tag.attributes.get("src")) is not None:
            assert source.startswith("data:image/")
    (style,) = found.all("style")
    assert not re.search(r"url\(|@import|expression|</", style.text)
    policies = [tag.attributes["content"] for tag in found.all("meta") if "http-equiv" in tag.attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


@pytest.mark.parametrize("kind", KINDS)
def test_drawings_need_nothing_either(kind: str, pages: dict[str, str], parsed: Any) -> None:
    """An image's own links lead to what it holds; without a document type, it names no address to read."""
    drawings = list(parsed(pages[kind]).drawings())
    assert len(drawings) >= 3
    for drawing in drawings:
        if drawing.startswith(b"\x89PNG"):
            continue
        text = drawing.decode()
        assert text.startswith("<svg")
        assert "<script" not in text
        assert "<text" not in text  # letters are outlines, and need no font
        links = re.findall(r'href="([^"]{0,20})', text)
        assert all(link.startswith(("#", "data:image/png")) for link in links)
        assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", text))


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_wrote_is_text(kind: str, pages: dict[str, str], parsed: Any) -> None:
    """Names, texts, errors and settings are read as they are: no markup, and no template."""
    text = parsed(pages[kind]).text
    if kind in ("run", "runs"):
        for name in ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$x_1$ & \\frac{a}{b}"):
            assert name in text
        assert "{{ 7 * 7 }}{% raw %}" in text
        assert "🎙️ Folge № 5" in text
        assert "<script>prompt</script>" in text
    else:
        assert EVIL in text
        assert f"MemoryError: {EVIL}" in text


@pytest.mark.parametrize("kind", KINDS)
def test_no_control_characters_and_no_turned_writing(kind: str, pages: dict[str, str]) -> None:
    """A bell, an escape sequence, half a character, or a mark that makes ``exe.txt`` of ``txt.exe``."""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", pages[kind])
    pages[kind].encode("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_in_it(kind: str, pages: dict[str, str], parsed: Any) -> None:
    """Neither in the text nor in a drawing."""
    assert "planted-4711" not in pages[kind]
    assert all(b"planted-4711" not in drawing for drawing in parsed(pages[kind]).drawings())


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_can_read_it(kind: str, pages: dict[str, str], parsed: Any) -> None:
    """Language, title, headings in order, tables with caption and headers, plots in words, regions named."""
    found = parsed(pages[kind])
    (html,) = found.all("html")
    assert html.attributes["lang"] == "en"
    (title,) = found.all("title")
    assert title.text.strip()
    assert len(found.all("h1")) == len(found.all("main")) == 1
    sections = found.all("section")
    ids = {tag.attributes["id"]: tag for tag in found.tags if "id" in tag.attributes}
    assert len(ids) == sum("id" in tag.attributes for tag in found.tags)
    for section in sections:
        assert ids[section.attributes["aria-labelledby"]].name == "h2"
    links = [tag.attributes["href"] for tag in found.all("a")]
    assert links == [f"#{section.attributes['id']}" for section in sections]
    assert len(found.all("caption")) == len(found.all("table"))
    assert all(caption.text.strip() for caption in found.all("caption"))
    for header in found.all("th"):
        assert header.attributes["scope"] in ("col", "row")
    for cell in found.all("td"):
        assert "tbody" in cell.within
    for image in found.all("img"):
        assert len(str(image.attributes["alt"])) > 40
        assert re.search(r"\d", str(image.attributes["alt"]))
    for region in found.tags:
        if region.attributes.get("role") == "region":
            assert region.attributes["aria-label"]
            assert region.attributes["tabindex"] == "0"  # else no keyboard could scroll it
    assert found.all("bdi")


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_as_many_cells_as_there_are_columns(
    kind: str, pages: dict[str, str], parsed: Any
) -> None:
    """A cell too many or too few would shift all figures to the next column's name."""
    for table in re.findall(r"<table>.*?</table>", pages[kind], re.DOTALL):
        found = parsed(table)
        columns = sum(tag.attributes["scope"] == "col" for tag in found.all("th"))
        rows = table.split("<tr>")[2:]
        assert rows
        for row in rows:
            assert row.count("<td") + row.count("<th") == columns


def test_the_same_run_gives_the_same_page(run_scripted: Callable[..., Run]) -> None:
    """So that two pages can be compared: nothing in one is left to chance but when it was made."""
    run = run_scripted()
    assert page(run, clock=ManualClock()) == page(run, clock=ManualClock())


def test_a_run_of_the_archive_gives_the_page_that_it_gave(run_scripted: Callable[..., Run]) -> None:
    """Everything that a page tells is kept."""
    made, clock = run_scripted(), ManualClock()
    kept = open_store().run(made.id)
    assert page(kept, clock=clock) == page(made, clock=clock)
    assert kept.environment == made.environment != {}


def test_what_a_user_has_set_of_matplotlib_changes_nothing(run_scripted: Callable[..., Run]) -> None:
    """A dark style or TeX of a notebook is for the notebook; and a page leaves no figure behind in pyplot."""
    from matplotlib import pyplot, rc_context

    run, clock = run_scripted(), ManualClock()
    before = page(run, clock=clock)
    with rc_context(
        {"text.usetex": True, "axes.facecolor": "black", "font.size": 30, "svg.fonttype": "none"}
    ):
        assert page(run, clock=clock) == before
    assert pyplot.get_fignums() == []
