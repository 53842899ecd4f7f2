"""The README says what is there: commands, files and settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

from toolkit import Config
from toolkit.cli import _parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_stand_once_each() -> None:
    """CI reads the commands from the README, so each must be there in so many words, on a line of its own."""
    lines = README.splitlines()
    assert lines.count("python -m pip install -e . && toolkit run data/episodes") == 1
    assert lines.count('python -m pip install -e ".[test]" && python -m pytest') == 1


def test_settings_in_the_table_exist() -> None:
    """A setting that the README names is a field of Config, under its default where it gives a number."""
    tables = [part.split("\n\n")[0] for part in README.split("| setting | default |")[1:]]
    rows = [row.split("|") for table in tables for row in table.splitlines()[2:]]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert named >= {"summary_batch_size", "openai_tokens_per_minute", "limits_law"}
    assert named <= set(Config.model_fields)
    for row in rows:
        numbers = row[2].split(",") if re.fullmatch(r" \d+(, \d+)* ", row[2]) else []
        for name, default in zip(re.findall(r"`(\w+)`", row[1]), numbers, strict=False):
            assert Config.model_fields[name].default == int(default), name


def test_file_map_names_what_is_there() -> None:
    """Every module in the file map exists, and every module of the top level is in the map."""
    tree = README.split("```\ntoolkit/")[1].split("```")[0]
    lines = [line[2:51] for line in tree.splitlines() if line.startswith("  ")]
    named = {word.strip("/") for line in lines for word in line.split()}
    there = {path.stem for path in (ROOT / "toolkit").iterdir() if not path.name.startswith("_")}
    assert named == there


def test_pictures_and_files_exist() -> None:
    """No link of the README leads nowhere."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links if not link.startswith("http"))


def test_table_of_notebooks_is_the_folder() -> None:
    """Each notebook stands there with its question, which is its title."""
    table = README.split("| question | notebook |")[1].split("\n\n")[0]
    named = dict(reversed(row) for row in re.findall(r"^\| (.+?) \| `(\w+)` \|$", table, re.MULTILINE))
    there = {}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        source = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
        there[path.stem] = "".join(source).splitlines()[0].removeprefix("# ").removeprefix("Quickstart: ")
    assert {name: question.lower() for name, question in named.items()} == {
        name: question.lower() for name, question in there.items()
    }


def test_commands_of_the_command_line_are_named() -> None:
    """Each subcommand is mentioned."""
    (commands,) = (action for action in _parser()._subparsers._group_actions if hasattr(action, "choices"))
    for name in commands.choices:
        assert f"toolkit {name}" in README
