"""Which rounding of weights a model gets: measured on its recordings, end to end.

How far compensated rounding (`compensate.py`) may trust what operands did in the recordings is not
told by their number: it decides by decibels where few of them move, by nothing where all do, and by
the chance of errors that add up or cancel. So each damping is tried, and rounding to the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgelstm.errors import CapabilityError, UnsupportedOpError
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.quant.accuracy import ErrorMeasure
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.held_out import compare_rows, output_rows
from edgelstm_compiler.quant.recordings import limited
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant.scheme import Damping, Observer, QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import is_layer

FRAMES = 1000
"""Frames (calls) of the recordings that are measured on."""

MARGIN_DB = 0.5
"""Medium damping and rounding to the nearest must be so much better than the other two: of four
chances the best is flattered more than of two."""

ROWS = 2
"""Rows of the recordings per operand that light damping needs: what few rows show of each other is
chance, and on themselves they do not tell."""

NEAREST = "nearest"
_COMPENSATED = (Scheme.W8, Scheme.W4, Scheme.INT8, Scheme.INT8_FULL)


@dataclass(frozen=True, slots=True)
class Rounding:
    """What was chosen.

    Args:
        options: those given, with it.
        measured: decibels of the worst output, by name of the damping or `NEAREST`.
    """

    options: QuantizeOptions
    measured: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "chosen": _name(self.options),
            "sqnr_db": {
                name: round(db, 2) if np.isfinite(db) else None
                for name, db in self.measured.items()
            },
        }


def choose_rounding(
    graph: StepGraph,
    calibration: Calibration | None,
    recordings: Sequence[Recording],
    schemes: Scheme | Mapping[str, Scheme],
    options: QuantizeOptions,
) -> Rounding:
    """The options with the rounding that leaves the worst output the most decibels.

    Args:
        graph: the float step graph.
        calibration: what it is quantized with.
        recordings: to measure on; none: what the calibration knows, else heavy damping.
        schemes: of all layers, or by name.
        options: returned as they are where they name a damping, or want no compensation.
    """
    if not options.compensate or options.damping is not None or calibration is None:
        return Rounding(options, {})
    names = _compensated(graph, calibration, schemes)
    heavy = replace(options, damping=Damping.HEAVY)
    if not names:
        return Rounding(heavy, {})
    if not recordings:
        return Rounding(_known(calibration, schemes, options), {})
    given = limited(recordings, graph, FRAMES)
    skip = options.observer is not Observer.MIN_MAX
    wanted = output_rows(graph, given, skip_glitches=skip)

    def decibels(tried: QuantizeOptions) -> float:
        floats = replace(tried, integer_io=False)
        found = quantize_graph(graph, calibration, schemes, floats).graph
        rows = output_rows(found, given, skip_glitches=skip)
        return _worst(compare_rows(graph, wanted, rows))

    candidates = [(heavy, 0.0)]
    if _has_rows(graph, calibration, names):
        candidates.append((replace(options, damping=Damping.LIGHT), 0.0))
    candidates.append((replace(options, damping=Damping.MEDIUM), MARGIN_DB))
    candidates.append((replace(options, compensate=False), MARGIN_DB))
    measured = {_name(tried): decibels(tried) for tried, _ in candidates}
    return Rounding(best_of(candidates, measured), measured)


def with_roundings(
    graph: StepGraph, calibration: Calibration, recordings: Sequence[Recording]
) -> Calibration:
    """The calibration with what its recordings choose in each scheme of a whole model.

    Schemes that refuse the model have none.
    """
    found: dict[str, str] = {}
    for scheme in _COMPENSATED:
        try:
            chosen = choose_rounding(graph, calibration, recordings, scheme, QuantizeOptions())
        except (CapabilityError, UnsupportedOpError):
            continue
        if chosen.measured:
            found[scheme.value] = _name(chosen.options)
    return replace(calibration, roundings=found)


def best_of(
    candidates: Sequence[tuple[QuantizeOptions, float]], measured: Mapping[str, float]
) -> QuantizeOptions:
    """The first, or what is better than all before it by more than its margin in dB."""
    best, _ = candidates[0]
    for tried, margin in candidates[1:]:
        if measured[_name(tried)] > measured[_name(best)] + margin:
            best = tried
    return best


def _name(options: QuantizeOptions) -> str:
    if not options.compensate:
        return NEAREST
    return (options.damping or Damping.HEAVY).value


def _known(
    calibration: Calibration, schemes: Scheme | Mapping[str, Scheme], options: QuantizeOptions
) -> QuantizeOptions:
    """What the calibration says of the only scheme there is, else heavy damping.

    Raises:
        CapabilityError: it says something else than a rounding.
    """
    kinds = {schemes} if isinstance(schemes, Scheme) else set(schemes.values()) - {Scheme.FP32}
    name = calibration.roundings.get(kinds.pop().value) if len(kinds) == 1 else None
    if name == NEAREST:
        return replace(options, compensate=False)
    try:
        return replace(options, damping=Damping(name or Damping.HEAVY))
    except ValueError as error:
        raise CapabilityError(f"this is no calibration: {error}; calibrate again") from error


def _compensated(
    graph: StepGraph, calibration: Calibration, schemes: Scheme | Mapping[str, Scheme]
) -> list[str]:
    """Names of the layers whose rounding is up to it."""
    return [
        node.name
        for node in graph.nodes
        if is_layer(node)
        and node.name in calibration.moments
        and (schemes if isinstance(schemes, Scheme) else schemes.get(node.name)) in _COMPENSATED
    ]


def _has_rows(graph: StepGraph, calibration: Calibration, names: Sequence[str]) -> bool:
    """Whether the recordings have enough rows for the operands of every layer."""
    inputs = {node.name: node.inputs[0] for node in graph.nodes}
    return all(
        x is not None
        and calibration.value(x.name).rows >= ROWS * calibration.moments[name].deviation.shape[-1]
        for name in names
        for x in (inputs[name],)
    )


def _worst(errors: Mapping[str, ErrorMeasure]) -> float:
    """Decibels of the worst output; NaN counts as the worst there is."""
    found = [error.sqnr_db for error in errors.values()]
    return min((x if not np.isnan(x) else -np.inf for x in found), default=np.inf)
