"""ONNX Runtime as the engine that `edgelstm bench --against onnxruntime` times beside ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from edgelstm.errors import TargetUnavailableError
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.binding.carried import CarriedModel, find_carried
from edgelstm_compiler.carried_replay import Chunks
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.fixed_inputs import fix_inputs
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer, PeerUnavailableError
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.session_rows import to_sequence
from edgelstm_compiler.streaming.carry import request_of

DURATION_NS = 300_000_000
"""How long each way of calling is timed."""

THREADS = (None, 1)
"""Threads inside an operator: ONNX Runtime's own choice, and one; the faster of the two counts."""


class OnnxRuntimeBench:
    """ONNX Runtime on the same model; it keeps no state between calls, so a step is a call of one.

    Args:
        model_path: the ONNX model.
        signature: of the artifact compiled from it.
        options: what its compilation was asked for, as the manifest has it: fixed inputs, and
            states that are inputs; every step gets their initial values.

    Raises:
        TargetUnavailableError: ONNX Runtime is missing or refuses the model.
    """

    name = "onnxruntime"

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        signature: Signature,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        options = options or {}
        constants = options.get("constants", {})
        large = [name for name, value in constants.items() if isinstance(value, str)]
        if large:
            raise TargetUnavailableError(
                f"the artifact was compiled with --set {large[0]}=FILE, and does not hold that "
                "array: store it in the ONNX model to compare with it"
            )
        model = fix_inputs(read_model(os.fspath(model_path)), constants)
        shapes = {name: tuple(shape) for name, shape in options.get("shapes", {}).items()}
        self._carried = find_carried(model, shapes, request_of(options))
        if self._carried is not None:
            model = self._carried.model
        # A baked-in length is freed: one frame, and the whole sequence, go through the same model.
        free = {
            spec.name: [spec.time_axis]
            for spec in signature.inputs
            if spec.time_axis is not None and self._carried is None
        }
        try:
            self._peers = [
                OnnxRuntimePeer(model, threads=threads, dynamic=free) for threads in THREADS
            ]
        except PeerUnavailableError as error:
            raise TargetUnavailableError(str(error)) from error
        self.version = self._peers[0].version.split()[-1]
        self._signature = signature
        self._steps: list[dict[str, Array]] = []
        self._sequence: dict[str, Array] = {}
        self._count = 0

    def prepare(self, frames: Mapping[str, Array]) -> None:
        """Lay out the frames as the model wants them, one by one and all together."""
        specs = self._signature.inputs
        self._count = len(next(iter(frames.values())))
        if self._carried is not None:
            self._steps = _carried_steps(self._carried, frames, self._count)
            return
        self._steps = [
            {spec.name: _one(frames[spec.name][index : index + 1], spec) for spec in specs}
            for index in range(self._count)
        ]
        if any(spec.time_axis is not None for spec in specs):
            self._sequence = {
                spec.name: to_sequence(np.ascontiguousarray(frames[spec.name]), spec)
                for spec in specs
            }

    def time_step(self) -> float:
        """Median ns of a call with one frame (call mode: of a call)."""
        return min(self._median(peer, self._steps) for peer in self._peers)

    def time_sequence(self) -> float | None:
        """Median ns per frame of a call with all frames; None if the model does not take it."""
        if not self._sequence:
            return None
        try:
            times = [self._median(peer, [self._sequence]) for peer in self._peers]
        except TargetUnavailableError:
            return None
        return min(times) / self._count

    def _median(self, peer: OnnxRuntimePeer, feeds: list[dict[str, Array]]) -> float:
        run: Callable[[dict[str, Array]], list[Array]] = peer.run_list
        try:
            run(feeds[0])
        except PeerUnavailableError as error:
            raise TargetUnavailableError(str(error)) from error
        times: list[int] = []
        end = perf_counter_ns() + DURATION_NS
        while perf_counter_ns() < end or len(times) < 5:
            for feed in feeds:
                start = perf_counter_ns()
                run(feed)
                times.append(perf_counter_ns() - start)
        return median(times)


def _carried_steps(
    found: CarriedModel, frames: Mapping[str, Array], count: int
) -> list[dict[str, Array]]:
    """Whole inputs of each step, states and what is kept of an input included."""
    carried, shapes = found.carried, found.shapes
    first = {s.pair.before: s.initial.reshape(shapes[s.pair.before]) for s in carried.states}
    chunks = Chunks(shapes, carried.overlaps)
    return [
        {**{name: chunks.whole(name, x[index]) for name, x in frames.items()}, **first}
        for index in range(count)
    ]


def _one(rows: Array, spec: TensorSpec) -> Array:
    return np.ascontiguousarray(rows).reshape(spec.model_shape)
