"""Filling parts into templates: the one place where text becomes HTML."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.harmless import for_terminal
from toolkit.parts.kinds import View

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=8)
def template(name: str, folder: Path = _TEMPLATES) -> Template:
    """Return a template that shows all text as text; in its folder and here it finds what it includes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, _TEMPLATES]),
        autoescape=True,
        # Whatever a part holds: no control characters, and none that turn the direction of writing.
        finalize=lambda value: for_terminal(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def notebook_html(view: View) -> str:
    """Return what a notebook shows: no script, no formulas, colours of the notebook's own theme."""
    return template("notebook.html").render(view=view)
