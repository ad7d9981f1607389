"""Units, offsets, sparsity and outliers, with verdicts: python -m tests.unit.quant.accuracy_grid.

Channels in units from 1e-6 to 1e6, offsets to 1e5, weights pruned to 90 % by rows, columns and
elements, 1 to 300 units; outliers of 1 frame in 1,000 up to 1e6. int8 and int8-full must keep
LEAST decibels against float64 everywhere, and nothing may be refused.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import Observer, QuantizeOptions, Scheme
from tests.quantized_models import step_graph
from tests.unit.quant.generated_models import Array, CellWeights, walk

LEAST = 30.0
SCHEMES = (Scheme.INT8, Scheme.INT8_FULL)
"""Those that promise it; `--schemes w8,w4` shows others."""

SIZES = (1, 2, 5, 33, 300)
FRAMES = 400
OUTLIERS = (1e2, 1e4, 1e6)
SETTLING = 50
"""Frames after an outlier that are not counted."""

_ROW = "{:14} {:14}"


@dataclass(frozen=True)
class Case:
    """A layer, what it is calibrated with, and what it is measured on.

    Args:
        name: of the layer.
        kind: what is unusual about it.
        cell: its weights.
        seen, unseen: recordings (n, 6).
        counted: frames of `unseen` that are measured.
        options: of the quantization.
        warns: whether calibration must warn.
    """

    name: str
    kind: str
    cell: CellWeights
    seen: Array
    unseen: Array
    counted: Array
    options: QuantizeOptions | None = None
    warns: bool = False


def cases(sizes: tuple[int, ...] = SIZES) -> Iterator[Case]:
    """The grid."""
    rng = np.random.default_rng(0)
    for kind, hidden in itertools.product(("LSTM", "GRU"), sizes):
        cell, name = CellWeights.normal(kind, 6, hidden), f"{kind} (6, {hidden})"
        units = {
            "units": (10.0 ** rng.uniform(-6, 6, 6), np.zeros(6)),
            "offsets": (10.0 ** rng.uniform(1, 3, 6), rng.uniform(-1e5, 1e5, 6)),
        }
        for what, (scale, offset) in units.items():
            data = [np.asarray(walk(FRAMES, 6, s) * scale + offset, np.float32) for s in (1, 2)]
            yield _case(name, what, cell.in_units(scale, offset), data)
        for by, share in itertools.product(("rows", "columns", "elements"), (0.5, 0.9)):
            yield _case(name, f"{share:g} {by}", cell.pruned(share, by), [*_plain()])
        for size in OUTLIERS:
            yield _with_outliers(name, cell, size)


def decibels(case: Case, scheme: Scheme) -> float:
    """Of the layer in a scheme, against float64, in the frames that count."""
    graph = step_graph(case.cell.model())
    calibration = calibrate(graph, [{"x": case.seen}])
    if case.warns and not calibration.warnings:
        return float("-inf")
    found = quantize_graph(graph, calibration, scheme, case.options).graph
    wanted = _in_float64(graph, case.unseen)
    shown = Replay(found).run({"x": case.unseen})["y"].reshape(wanted.shape)
    return measure(wanted[case.counted], shown[case.counted]).sqnr_db


def _plain(frames: int = FRAMES) -> Iterator[Array]:
    return (walk(frames, 6, seed) for seed in (1, 2))


def _case(name: str, kind: str, cell: CellWeights, data: list[Array]) -> Case:
    seen, unseen = data
    return Case(name, kind, cell, seen, unseen, np.ones(len(unseen), bool))


def _with_outliers(name: str, cell: CellWeights, size: float) -> Case:
    """One frame of a thousand, in one channel, in both recordings."""
    rng = np.random.default_rng(5)
    seen, unseen = _plain(2000)
    counted = np.ones(len(unseen), bool)
    for data in (seen, unseen):
        for start in range(0, len(data), 1000):
            frame = start + int(rng.integers(100, 900))
            data[frame, rng.integers(6)] = size * rng.choice((-1.0, 1.0))
            if data is unseen:
                counted[frame : frame + SETTLING + 1] = False
    options = QuantizeOptions(observer=Observer.PERCENTILE)
    return Case(name, f"outliers {size:g}", cell, seen, unseen, counted, options, warns=True)


def _in_float64(graph: StepGraph, x: Array) -> Array:
    """The float graph evaluated in float64, frame by frame (n, H)."""
    rows, states = [], None
    for frame in x:
        found = evaluate(graph, {"x": frame[None, None]}, states=states, dtype=DType.F64)
        states = found.states
        rows.append(found.outputs["y"].reshape(-1))
    return np.stack(rows)


def main() -> int:
    """Print the grid; 1 where a cell is under `LEAST` decibels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="units, comma between")
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    asked = parser.parse_args()
    sizes, schemes = tuple(map(int, asked.sizes.split(","))), asked.schemes.split(",")
    print(_ROW.format("layer", "kind"), *(f"{scheme:>9}" for scheme in schemes))
    count, least, missed = 0, np.inf, 0
    for case in cases(sizes):
        found = [decibels(case, Scheme(scheme)) for scheme in schemes]
        print(_ROW.format(case.name, case.kind), *(f"{x:9.1f}" for x in found), flush=True)
        count += len(found)
        missed += sum(x < LEAST for x in found)
        least = min(least, *found)
    print(f"{count} cells, the least {least:.1f} dB, {missed} under {LEAST:g} dB")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
