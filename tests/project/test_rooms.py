"""What holds for every module: its size, and that it names no machine and no unfinished work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "toolkit"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 600
# The home folders of machines on which the toolkit was written, and of nobody else.
MACHINE_PATHS = re.compile(r"""(?<![\w.])/(?:work|tmp|root|home/\w+|Users/\w+)(?:/|\b(?=["'\s]))""")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_is_in_order(path: Path) -> None:
    """Longer than 600 lines it is to be split; a path of one machine or a note to oneself is a leftover."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert MACHINE_PATHS.findall(text) == []
    assert UNFINISHED.findall(text) == []


def test_the_check_sees_what_it_forbids() -> None:
    """Paths are found in strings and comments, and not in words that look like one."""
    for text in ('"/work/notes"', "# in /tmp/x", "'/work'", "/home/anna/notes"):
        assert MACHINE_PATHS.search(text), text
    for text in ("a/work/b", "https://x.org/tmp/", "home/work", "/worker"):
        assert not MACHINE_PATHS.search(text), text
    assert UNFINISHED.search("# TODO: later")
    assert not UNFINISHED.search("mastodon")
