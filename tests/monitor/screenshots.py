"""Pictures of every page in every theme: `python -m tests.monitor.screenshots DIR`; look at them.

For each page and theme one of a desk (1280 x 800) and one of a tablet (820 x 1180).
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.simulated import DEMO_PATIENTS, write_patient
from edgelstm_compiler.demo.monitored import compile_demo, prepare
from tests.monitor.browser import DESK, TABLET, Browser, opened
from tests.monitor.served import Served

THEMES = ("light", "dark", "night")
PAGES = {
    "why": "/why",
    "patients": "/history",
    "patient": f"/history?patient={DEMO_PATIENTS[0].pseudonym}",
}


def _take(browser: Browser, folder: Path, name: str) -> None:
    for theme in THEMES:
        browser.set_theme(theme)
        for size in (DESK, TABLET):
            browser.page.set_viewport_size({"width": size[0], "height": size[1]})
            browser.page.wait_for_timeout(500)
            browser.page.screenshot(path=str(folder / f"{name}-{theme}-{size[0]}.png"))


def main(folder: Path) -> None:
    """Write them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        store = Path(work, "ward.db")
        with closing(open_store(store)) as connection:
            for seed, patient in enumerate(DEMO_PATIENTS):
                write_patient(connection, patient, seed, time.time() - 86_400)
        artifact, decoding, recordings = prepare(Path(work), trials=1)
        reference = Path(work, "reference.edgelstm")
        compile_demo(reference, "reference")
        with (
            Served(artifact, recordings, store, decoding, reference=reference) as served,
            opened(served) as browser,
        ):
            page = browser.page
            page.click("#start")
            page.fill("#note", "Walks with a stick today, no pain")
            page.click("#addNote")
            page.wait_for_timeout(25_000)  # a whole trial
            page.click("#stop")
            page.wait_for_timeout(6_000)
            _take(browser, folder, "live")
            page.click("#help")
            page.screenshot(path=str(folder / "keys.png"))
            for name, path in PAGES.items():
                page.goto(served.url + path)
                page.wait_for_timeout(1500)
                _take(browser, folder, name)
                page.screenshot(path=str(folder / f"{name}-whole.png"), full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
