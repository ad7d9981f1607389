"""One page in a headless Chromium, with what it complained about and whom it asked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.monitor.axe import axe_source
from tests.monitor.served import Served

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, TABLET = (1280, 800), (820, 1180)

_PATIENCE_S = 60
_FAULTS = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.filter((each) => ["serious", "critical"].includes(each.impact))
    .map((each) => `${each.id}: ${each.nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`);
}"""


class Browser:
    """A page with what it said and asked for.

    Args:
        page: of Playwright.
        served: the monitor it looks at.
    """

    def __init__(self, page: playwright.Page, served: Served) -> None:
        self.page = page
        self.served = served
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.pressed: set[str] = set()
        page.expose_function("notePressed", lambda name: self.pressed.add(name))
        page.add_init_script(
            "document.addEventListener('click', "
            "(event) => { if (event.target.id) notePressed(event.target.id); }, true)"
        )
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._see)

    def _hear(self, message: playwright.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _see(self, request: playwright.Request) -> None:
        if not request.url.startswith((self.served.url, self.served.url.replace("http", "ws"))):
            self.foreign.append(request.url)

    def buttons(self) -> set[str]:
        """What there is to press on this page, by its name."""
        found: list[str] = self.page.evaluate(
            "() => [...document.querySelectorAll('button[id], input[type=checkbox]')]"
            ".map((x) => x.id)"
        )
        return set(found)

    def text(self, selector: str) -> str:
        """What stands there now."""
        return str(self.page.locator(selector).inner_text())

    def texts(self, selector: str) -> list[str]:
        """What stands in each of these, all at one moment."""
        return [str(each) for each in self.page.locator(selector).all_inner_texts()]

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        end = time.monotonic() + _PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.page.wait_for_timeout(30)

    def set_theme(self, name: str) -> None:
        """By the button, as people do."""

        def is_it() -> bool:
            if self.page.get_attribute("html", "data-theme") == name:
                return True
            self.page.click("#theme")  # nothing happens where the page's script is not there yet
            return False

        self.until(is_it, f"theme {name}")

    def faults(self) -> list[str]:
        """Serious accessibility faults of the page as it stands, by axe-core."""
        if not self.page.evaluate("() => 'axe' in window"):
            # As the debugger of the browser does it: the page's own policy allows no such script.
            self.page.evaluate(axe_source())
        found: list[Any] = self.page.evaluate(_FAULTS)
        return [str(each) for each in found]


@contextmanager
def opened(
    served: Served, size: tuple[int, int] = DESK, *, is_awaited: bool = True
) -> Iterator[Browser]:
    """The live page in a browser of its own; `is_awaited`: until it is live."""
    with playwright.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = chromium.new_page(
                viewport={"width": size[0], "height": size[1]}, ignore_https_errors=True
            )
            browser = Browser(page, served)
            page.goto(served.url)
            if is_awaited:
                browser.until(lambda: browser.text("#link") == "live", "the line to the server")
            yield browser
        finally:
            chromium.close()
