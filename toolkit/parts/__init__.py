"""Parts: what pages and notebooks show, as plain records; templates show each kind and escape all text.

``kinds`` are the records, ``showing`` fills them into the templates.
"""

from toolkit.parts.kinds import (
    MOST_CHARACTERS,
    Absent,
    Alert,
    Beside,
    Code,
    Column,
    Fold,
    Items,
    Page,
    Part,
    Picture,
    Section,
    Table,
    Text,
    Tile,
    View,
    Writing,
    cut,
    excerpt,
    left_out,
)
from toolkit.parts.showing import notebook_html, template

__all__ = [
    "MOST_CHARACTERS",
    "Absent",
    "Alert",
    "Beside",
    "Code",
    "Column",
    "Fold",
    "Items",
    "Page",
    "Part",
    "Picture",
    "Section",
    "Table",
    "Text",
    "Tile",
    "View",
    "Writing",
    "cut",
    "excerpt",
    "left_out",
    "notebook_html",
    "template",
]
