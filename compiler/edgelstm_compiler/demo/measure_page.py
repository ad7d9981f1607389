"""How exact the measures are that the monitor's page shows, on people a model never saw.

python -m edgelstm_compiler.demo.measure_page --data DIR --fold s02,s09=tug_phase.onnx

Recordings as they are in the data set, with their own uneven stamps, go through the run of
`edgelstm monitor`: brought to the model's rate, compiled model, decoding, store; a trial over each
is measured as one that a therapist starts and stops.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.io.decoding.recipe import read_recipe
from edgelstm.io.live_run import LiveRun
from edgelstm.io.settings import LiveSettings, StreamSettings
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.io.time_settings import TimeSettings
from edgelstm.monitor.history import History
from edgelstm.monitor.measures import TimedPhase, timed_up_and_go
from edgelstm_compiler.demo import CHANNELS, PHASES, RATE_HZ, UNITS
from edgelstm_compiler.demo.measure import RECIPE_PATH, fold_parser, held_out, labelled_runs
from edgelstm_compiler.demo.recordings import Recording
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.target import DEFAULT_TARGET

ALWAYS = (0.0, 4e9)
"""Seconds since 1970."""

MEASURES = ("total", "sit_to_stand", "walk", "turn", "sit_down")


@dataclass(frozen=True, slots=True)
class TrialMeasures:
    """One trial.

    Units:
        seconds, found minus labelled.

    Args:
        name: of the recording.
        errors_s: by measure; empty where the page shows no whole trial.
    """

    name: str
    errors_s: dict[str, float]


def compiled(model: Path, target: str = DEFAULT_TARGET) -> Artifact:
    """A model of these phases."""
    return compile_model(
        model,
        target=target,
        rate_hz=RATE_HZ,
        columns=CHANNELS,
        units=list(UNITS),
        labels=list(PHASES),
        check=False,
    )


def measure_by_page(
    artifact: Artifact, data: Path, recordings: Sequence[Recording], recipe: Path = RECIPE_PATH
) -> list[TrialMeasures]:
    """Each recording as a stream of one run, and as a trial in its store."""
    paths = {path.stem.removesuffix("_sp"): path for path in data.rglob("s??_??_sp.csv")}
    streams = tuple(
        StreamSettings((f"file:{paths[each.name]}",), each.name, each.name) for each in recordings
    )
    time = TimeSettings(is_resampled=True, decode=read_recipe(recipe))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "trials.db")
        LiveRun(artifact, LiveSettings(streams, (f"store:{store}",), time=time)).run()
        with closing(open_store(store)) as connection:
            return [_measured(History(connection), each) for each in recordings]


def print_measures(trials: Sequence[TrialMeasures]) -> None:
    """A line for each measure: absolute errors."""
    print(f"{len(trials)} trials, {sum(bool(trial.errors_s) for trial in trials)} with measures")
    print(f"{'':13s} {'median':>7s} {'90 %':>7s} {'95 %':>7s} {'bias':>7s}  s, {'< 0.7 s':>8s}")
    for name in MEASURES:
        # A trial that is not measured is as wrong as can be.
        size = np.array([abs(trial.errors_s.get(name, np.inf)) for trial in trials])
        known = [trial.errors_s[name] for trial in trials if name in trial.errors_s]
        tail = np.quantile(size, [0.9, 0.95], method="higher")
        print(
            f"{name:13s} {np.median(size):7.3f} {tail[0]:7.3f} {tail[1]:7.3f} "
            f"{np.median(known):7.3f}     {np.mean(size <= 0.7):8.1%}"
        )


def _measured(history: History, recording: Recording) -> TrialMeasures:
    # All of the run: a recording is no longer than that.
    session, (first, last) = history.session_of(recording.name), ALWAYS
    trial = history.begin_trial(session, "", "", first)
    found = {each.name: each.value for each in history.end_trial(trial, last)}
    phases = [
        TimedPhase(PHASES[label], start / RATE_HZ, (stop - start) / RATE_HZ)
        for label, start, stop in labelled_runs(recording.labels)
    ]
    true = {each.name: each.value for each in timed_up_and_go(phases)}
    if "total" not in found:
        return TrialMeasures(recording.name, {})
    errors = {name: found.get(name, 0.0) - true[name] for name in MEASURES if name in true}
    return TrialMeasures(recording.name, errors)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the errors of all folds together."""
    options = fold_parser(main.__doc__).parse_args(arguments)
    trials: list[TrialMeasures] = []
    for path, recordings in held_out(options):
        trials += measure_by_page(compiled(path), options.data, recordings)
    print_measures(trials)


if __name__ == "__main__":
    main()
