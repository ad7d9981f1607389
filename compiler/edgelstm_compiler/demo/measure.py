"""How exact the decoded phases of timed-up-and-go trials are, on people a model never saw.

python -m edgelstm_compiler.demo.measure --data DIR --fold s02,s09=tug_phase.onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.decoding.decoder import Decoder
from edgelstm.io.decoding.events import PHASE_ENDS, SPAN
from edgelstm.io.decoding.recipe import Recipe, read_recipe
from edgelstm_compiler.demo import PHASES, RATE_HZ
from edgelstm_compiler.demo.recordings import Recording, load_recordings
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer

RECIPE_PATH = Path(__file__).parent / "tug_decode.toml"

FIRST, LAST = "STANDING_UP", "SITTING_DOWN"

_SLIP = 10
"""Labelled stretches of less samples are slips of the labelling: single samples between phases."""


@dataclass(frozen=True, slots=True)
class TrialErrors:
    """One trial, found against labelled.

    Units:
        seconds, found minus labelled.

    Args:
        name: of the recording.
        total_s: of the whole trial; None where none, or several, were found.
        phases_s: of each phase in order, by label; empty where other phases were found.
    """

    name: str
    total_s: float | None
    phases_s: tuple[tuple[str, float], ...]


def measure_trial(recording: Recording, scores: NDArray[Any], recipe: Recipe) -> TrialErrors:
    """Decode the scores `(T, classes)` of one recording, as a stream of them would be."""
    decoder = Decoder(recipe, {"phase": PHASES}, RATE_HZ)
    numbers = np.arange(len(scores))
    rows = [
        decoder.feed(scores, numbers / RATE_HZ, numbers, np.ones(len(scores), np.bool_)),
        decoder.finish(),
    ]
    events = [event for each in rows for event in each.events]
    true = labelled_runs(recording.labels)
    names = [PHASES[label] for label, _, _ in true]
    totals = [float(event.data["duration_s"]) for event in events if event.kind == SPAN]
    total = None
    if len(totals) == 1 and FIRST in names and LAST in names:
        begin = true[names.index(FIRST)][1]
        end = true[len(names) - 1 - names[::-1].index(LAST)][2]
        total = totals[0] - (end - begin) / RATE_HZ
    found = [(event.name, event.data["duration_s"]) for event in events if event.kind == PHASE_ENDS]
    phases: tuple[tuple[str, float], ...] = ()
    if [name for name, _ in found] == names:
        phases = tuple(
            (name, duration - (end - begin) / RATE_HZ)
            for (name, duration), (_, begin, end) in zip(found, true, strict=True)
        )
    return TrialErrors(recording.name, total, phases)


def print_errors(trials: Sequence[TrialErrors]) -> None:
    """A line for the whole trials and for each phase: median, 90 % and 95 % of absolute errors."""
    known = [trial.total_s for trial in trials if trial.total_s is not None]
    # A trial whose time was not found is as wrong as can be.
    totals = [np.inf if trial.total_s is None else trial.total_s for trial in trials]
    phases = [pair for trial in trials for pair in trial.phases_s]
    rows = [("total", totals)]
    rows += [(name, [error for label, error in phases if label == name]) for name in PHASES]
    print(f"{len(trials)} trials, {len(known)} with a total, ", end="")
    print(f"{sum(bool(trial.phases_s) for trial in trials)} with all phases in order")
    print(f"{'':13s} {'count':>5s} {'median':>7s} {'90 %':>7s} {'95 %':>7s} {'bias':>7s}  s")
    for name, errors in rows:
        if errors:
            size = np.abs(errors)
            tail = np.quantile(size, [0.9, 0.95], method="higher")
            parts = [np.median(size), *tail, np.median(errors)]
            print(f"{name:13s} {len(errors):5d} " + " ".join(f"{part:7.3f}" for part in parts))


def labelled_runs(labels: NDArray[Any]) -> list[tuple[int, int, int]]:
    """Label, first sample, sample behind the last of each stretch; slips are left out."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    runs: list[tuple[int, int, int]] = []
    for start, stop in pairwise(edges):
        label = int(labels[start])
        if runs and (stop - start < _SLIP or label == runs[-1][0]):
            label, start, _ = runs.pop()
        runs.append((label, start, stop))
    return runs


def fold_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that say which recordings are of people that a model was not trained on."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with sXX/sXX_YY_sp.csv")
    parser.add_argument(
        "--fold",
        action="append",
        required=True,
        metavar="SUBJECTS=MODEL",
        help="people that an ONNX model was not trained on; several times",
    )
    return parser


def held_out(options: argparse.Namespace) -> Iterator[tuple[Path, list[Recording]]]:
    """The model of each fold, and the recordings of its people."""
    recordings = load_recordings(options.data)
    for fold in options.fold:
        subjects, _, path = fold.partition("=")
        people = subjects.split(",")
        yield Path(path), [each for each in recordings if each.subject in people]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the errors of all folds together."""
    parser = fold_parser(main.__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE_PATH)
    options = parser.parse_args(arguments)
    recipe = read_recipe(options.recipe)
    trials: list[TrialErrors] = []
    for path, recordings in held_out(options):
        model = OnnxRuntimePeer(path)
        for recording in recordings:
            scores = model.run({"imu": recording.samples[None]})["phase"][0]
            trials.append(measure_trial(recording, scores, recipe))
    print_errors(trials)


if __name__ == "__main__":
    main()
