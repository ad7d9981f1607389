"""The second example: squats counted, timed and judged, from a recording to a trial's measures."""

from __future__ import annotations

import importlib
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.io.live_run import LiveRun
from edgelstm.io.settings import LiveSettings, StreamSettings
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.history import History

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "squat"


def _script(name: str) -> ModuleType:
    """A script of the example; its folder is no package."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    """What measures."""
    return _script("measure")


@pytest.fixture(scope="module")
def squats() -> ModuleType:
    """What reads and makes up squats."""
    return _script("squats")


@pytest.fixture(scope="module")
def squat(measure: ModuleType) -> Artifact:
    """The model with its description."""
    return measure.compiled()


def test_a_trial_measures_repetitions_their_time_and_quality(
    squat: Artifact, tmp_path: Path
) -> None:
    """Five made-up squats of 0.94 from a recording, through a run into the store."""
    store = tmp_path / "ward.db"
    stream = StreamSettings((f"file:{FOLDER / 'squats.csv'}",), "squats", "P1")
    LiveRun(squat, LiveSettings((stream,), (f"store:{store}",))).run()
    with closing(open_store(store)) as connection:
        history = History(connection)
        session = history.session_of("squats")
        (first,) = connection.execute("SELECT MIN(time) FROM events").fetchone()
        trial = history.begin_trial(session, "squat", "", first - 5.0)
        history.end_trial(trial, first + 60.0)
        measures = history.trials_of_session(session)[0].measures
    assert measures["repetitions"].value == 5
    assert measures["repetition_time"].value == pytest.approx(3.0, abs=0.2)
    assert measures["quality"].value == pytest.approx(0.94, abs=0.02)


@pytest.mark.parametrize("quality", [0.94, 0.85, 0.75])
def test_the_worse_a_squat_the_lower_its_quality(
    measure: ModuleType, squats: ModuleType, squat: Artifact, quality: float
) -> None:
    """Made up after what is typical of good and poor ones; each is counted once."""
    found = measure.measure(squat, squats.simulated(5, 6, quality))
    assert (found.counted, found.told) == (6, 6)
    assert np.abs(found.quality[:, 0] - quality).max() < 0.09


def test_squats_of_people_not_trained_on(
    measure: ModuleType, squats: ModuleType, squat: Artifact, corpus: Path
) -> None:
    """The figures of `examples/README.md`, held out: each counted once, judged by its quality."""
    data = corpus / "data" / "rehab_uiprmd_deep_squat" / "Data"
    found = measure.measure(squat, squats.read_squats(data).held_out)
    assert (found.squats, found.counted, found.told) == (36, 36, 36)
    assert np.median(found.duration_errors_s) < 0.2
    assert found.correlation > 0.9
    assert found.area > 0.95
