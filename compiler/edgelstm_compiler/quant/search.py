"""`auto`: for each layer the cheapest scheme such that the end-to-end error stays under a bound.

Greedy: all layers begin with the cheapest scheme; while the error is too large, the one change to a
dearer scheme is made that takes away most error per byte. Errors of layers may cancel each other,
so a change may also add to the error: it is never made. Where every change does, all layers become
dearer at once. Under the bound, layers become cheaper again where that stays under it. Every trial
is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.graph import StepGraph, constant_data
from edgelstm_compiler.ir.types import Array, Node
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Recording, Replay
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import is_layer, refusal

LADDER = (Scheme.W4, Scheme.INT8, Scheme.W8, Scheme.FP16, Scheme.FP32)
"""Cheapest first: by bytes, and among equal ones by time."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One assignment that was tried.

    Args:
        schemes: by layer.
        error: end to end, see `end_to_end_error`.
        size_bytes: of all layers' constants.
        taken: whether the search went on from here.
    """

    schemes: Mapping[str, Scheme]
    error: float
    size_bytes: int
    taken: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "schemes": {name: scheme.value for name, scheme in self.schemes.items()},
            "error": float(f"{self.error:.4g}"),
            "bytes": self.size_bytes,
            "taken": self.taken,
        }


def end_to_end_error(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> float:
    """Largest error of any output, over its largest magnitude where that exceeds 1."""
    worst = 0.0
    for name, wanted in expected.items():
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        difference = np.abs(actual[name].astype(np.float64) - wanted)
        worst = max(worst, float(difference.max(initial=0.0)) / scale)
    return worst


def search_schemes(
    graph: StepGraph,
    calibration: Calibration,
    recordings: Sequence[Recording],
    max_error: float,
    options: QuantizeOptions,
    progress: Callable[[str], None] | None = None,
) -> tuple[dict[str, Scheme], tuple[Trial, ...]]:
    """The assignment found and all trials.

    Raises:
        CapabilityError: no recordings to measure on, or no bound above zero.
    """
    if not recordings:
        raise CapabilityError(
            "auto measures the error on recordings: give them (--calibrate FILE), a calibration "
            "file alone does not hold them"
        )
    if not max_error > 0.0:
        raise CapabilityError("auto needs a bound of the error above 0 (--max-error E)")
    search = _Search(graph, calibration, recordings, options)
    ladders = search.ladders()
    current = {name: ladder[0] for name, ladder in ladders.items()}
    trials: list[Trial] = []
    best = replace(search.trial(current), taken=True)
    trials.append(best)
    while best.error > max_error:
        candidates = []
        for name, ladder in ladders.items():
            for scheme in ladder[ladder.index(current[name]) + 1 :]:
                if progress is not None:
                    progress(f"{name}: {scheme.value}")
                candidates.append(search.trial({**current, name: scheme}))
        if not candidates:
            break
        trials += candidates
        chosen = best_step(best, candidates, max_error)
        while chosen is None:
            # Ends with float32 everywhere, which has no error.
            current = {name: _dearer(ladders[name], at) for name, at in current.items()}
            together = search.trial(current)
            trials.append(together)
            chosen = together if together.error < best.error else None
        trials.remove(chosen)
        best = replace(chosen, taken=True)
        trials.append(best)
        current = dict(best.schemes)
    for name, ladder in ladders.items():
        for scheme in ladder[: ladder.index(current[name])]:
            cheaper = search.trial({**current, name: scheme})
            if cheaper.error <= max_error and cheaper.size_bytes < best.size_bytes:
                best = replace(cheaper, taken=True)
                current = dict(best.schemes)
                trials.append(best)
                break
            trials.append(cheaper)
    return current, tuple(trials)


def best_step(best: Trial, candidates: Sequence[Trial], max_error: float) -> Trial | None:
    """The smallest that is good enough, else the one that takes away most error per byte.

    None: no candidate takes any error away.
    """
    enough = [trial for trial in candidates if trial.error <= max_error]
    if enough:
        return min(enough, key=lambda trial: (trial.size_bytes, trial.error))
    better = [trial for trial in candidates if trial.error < best.error]
    return max(
        better,
        key=lambda trial: (
            (best.error - trial.error) / max(trial.size_bytes - best.size_bytes, 1),
            -trial.error,
        ),
        default=None,
    )


def _dearer(ladder: Sequence[Scheme], scheme: Scheme) -> Scheme:
    return ladder[min(ladder.index(scheme) + 1, len(ladder) - 1)]


class _Search:
    """What stays the same in all trials."""

    def __init__(
        self,
        graph: StepGraph,
        calibration: Calibration,
        recordings: Sequence[Recording],
        options: QuantizeOptions,
    ) -> None:
        self._graph = graph
        self._calibration = calibration
        self._recordings = recordings
        self._options = options
        self._expected = self._outputs(graph)

    def ladders(self) -> dict[str, list[Scheme]]:
        """The schemes that each layer admits, cheapest first."""
        data = constant_data(self._graph)
        return {
            node.name: _admitted(node, is_constant=node.inputs[1] in data)
            for node in self._graph.nodes
            if is_layer(node)
        }

    def trial(self, schemes: Mapping[str, Scheme]) -> Trial:
        """Quantize and measure."""
        quantized = quantize_graph(self._graph, self._calibration, schemes, self._options)
        size = sum(layer.bytes_after for layer in quantized.layers)
        done = {layer.name for layer in quantized.layers}
        data = constant_data(self._graph)
        size += sum(
            data[value].nbytes
            for node in self._graph.nodes
            if is_layer(node) and node.name not in done
            for value in node.inputs
            if value is not None and value in data
        )
        error = end_to_end_error(self._expected, self._outputs(quantized.graph))
        return Trial(dict(schemes), error, size, taken=False)

    def _outputs(self, graph: StepGraph) -> dict[str, Array]:
        replay = Replay(graph)
        runs = [replay.run(recording) for recording in self._recordings]
        return {out.name: np.concatenate([run[out.name] for run in runs]) for out in graph.outputs}


def _admitted(node: Node, *, is_constant: bool) -> list[Scheme]:
    if not is_constant:
        return [Scheme.FP32]
    return [scheme for scheme in LADDER if refusal(node, scheme) is None]
