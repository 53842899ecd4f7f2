"""A tuning panel in the browser, worked as a user works it: by what can be read and reached on the page."""

from __future__ import annotations

import re
from typing import Any


class Panel:
    """A panel that is shown under a cell."""

    def __init__(self, output: Any) -> None:
        self.output = output
        self.whole = output.locator(".tk-panel")
        self.bound = self.whole.locator(".tk-prediction .tiles .value").first
        self.message = self.whole.locator(".tk-left [role=status], .tk-left > .widget-html [role=alert]").last

    def button(self, name: str) -> Any:
        return self.whole.get_by_role("button", name=name, exact=True)

    def field(self, label: str) -> Any:
        """Return the field beside a slider, by the name that a screen reader says."""
        return self.whole.get_by_role("textbox", name=label, exact=True)

    def handle(self, label: str) -> Any:
        """Return the handle of a slider."""
        row = self.whole.locator(".tk-row").filter(has=self.output.page.get_by_text(label, exact=True))
        return row.locator(".noUi-handle")

    def drag(self, label: str, by: int) -> None:
        """Drag a slider with the mouse, in small steps."""
        handle = self.handle(label)
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = self.output.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + by, y, steps=10)
        mouse.up()

    def tab(self, name: str) -> Any:
        tab = self.whole.locator(".tk-results [role=tab]").filter(has_text=re.compile(f"^{name}$"))
        tab.click()
        return self.whole.locator(".tk-results .widget-tab-contents > :not(.lm-mod-hidden)")
