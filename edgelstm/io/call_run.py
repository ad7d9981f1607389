"""Calls of a model that was compiled whole: their inputs out of a file, their results into one."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import RecordingError, StreamError
from edgelstm.interruption import StopRequest
from edgelstm.io.base import Array, Batch
from edgelstm.io.columns import to_frames
from edgelstm.io.files import Format, input_format, open_input, open_sink, open_source
from edgelstm.io.numpy_arrays import pick_arrays, read_arrays
from edgelstm.io.sinks.output_sink import OutputSink
from edgelstm.io.stream_run import Progress, StreamOptions
from edgelstm.outputs import STANDARD
from edgelstm.signature import Signature, TensorSpec


@dataclass(slots=True)
class CallRun:
    """The calls of one file, and what there is to tell about them at any time.

    Args:
        model: compiled with `--mode call`.
        options: how; those of streams alone mean nothing here.
        say: called with what is odd about the data.
    """

    model: Artifact
    options: StreamOptions
    say: Callable[[str], None] = lambda text: None
    _sink: OutputSink | None = None
    _calls: int = 0

    def run(self, stop: StopRequest, show: Progress) -> None:
        """Make all calls; they are not shown, nobody knows how many there are.

        Raises:
            EdgeLSTMError: an input does not fit, or the output cannot be written; the results
                before it are there.
            Interrupted: a signal came; the same.
        """
        del show
        options, signature = self.options, self.model.signature
        with ExitStack() as stack:
            with stop.raising():
                file = stack.enter_context(open_input(options.input_path))
                chosen = options.input_format or input_format(options.input_path, file)
                self._expect_options(chosen)
                session = stack.enter_context(self.model.session())
                if chosen in ("npy", "npz"):
                    batches, is_single = _array_calls(file.read(), options.input_path, signature)
                elif chosen == "csv":
                    batches, is_single = _table_call(options, signature), True
                else:
                    source = stack.enter_context(
                        open_source(options.input_path, signature, "ndjson")
                    )
                    batches, is_single = source.batches(), False
                sink = stack.enter_context(
                    open_sink(
                        options.output_path,
                        signature,
                        self._output_format(chosen),
                        protect=(*options.protect, options.input_path),
                        is_single=is_single,
                    )
                )
            self._sink = sink
            sink.while_waiting(stop.check)
            names = [spec.name for spec in signature.outputs]
            for batch in _reading(batches, stop):
                for i in range(len(batch)):
                    stop.check()
                    if i in batch.faults:
                        raise RecordingError(batch.faults[i].message)
                    try:
                        result = session.call({name: x[i] for name, x in batch.frames.items()})
                    except StreamError as exc:
                        raise type(exc)(f"{batch.where(i)}: {exc}") from exc
                    self._calls += 1
                    outputs = {names[0]: result} if len(names) == 1 else result
                    sink.write({name: np.asarray(outputs[name])[None] for name in names}, {})
                    sink.flush()

    def summary(self) -> dict[str, Any] | None:
        """What happened so far; None before there was anything."""
        if self._sink is None:
            return None
        is_single = self._sink.is_single
        return {
            "artifact": self.model.name,
            "engine": dict(self.model.kernel.facts),
            "calls": self._sink.predictions,
            "outputs": {
                spec.name: [*([] if is_single else [self._sink.predictions]), *spec.shape]
                for spec in self.model.signature.outputs
            },
        }

    def _expect_options(self, chosen: Format) -> None:
        for is_used, name in (
            (bool(self.options.columns), "--columns"),
            (not self.options.has_header, "--no-header"),
        ):
            if is_used and chosen != "csv":
                raise RecordingError(
                    f"{name} is for CSV, and {self.options.input_path} is {chosen.upper()}: "
                    "leave it out"
                )

    def _output_format(self, read: Format) -> Format | None:
        options = self.options
        if options.output_path != STANDARD:
            return options.output_format
        chosen: Format = options.output_format or ("npz" if read == "npy" else read)
        if chosen in ("npy", "npz") and sys.stdout.isatty():
            raise RecordingError("arrays are not for a terminal: name a file, --output result.npz")
        return chosen


def _reading(batches: Iterator[Batch], stop: StopRequest) -> Iterator[Batch]:
    while True:
        with stop.raising():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _array_calls(data: bytes, origin: str, signature: Signature) -> tuple[Iterator[Batch], bool]:
    """The calls of an NPZ or NPY file, and whether it is one call in the model's own shape."""
    arrays = pick_arrays(read_arrays(data, origin), signature.inputs, origin)
    frames, counts = {}, {}
    for spec in signature.inputs:
        calls = _calls_of(arrays[spec.name], spec, origin)
        counts[spec.name] = None if calls is None else len(calls)
        array = arrays[spec.name].reshape((1, *spec.shape)) if calls is None else calls
        frames[spec.name] = to_frames(array, spec, origin)
    if len(set(counts.values())) > 1:
        found = ", ".join(
            f"{name}: {'one call' if count is None else f'{count} calls'}"
            for name, count in counts.items()
        )
        raise RecordingError(f"{origin}: the inputs are for different numbers of calls ({found})")
    is_single = None in counts.values()
    batch = Batch(frames, lambda i: origin if is_single else f"{origin}: call {i}")
    return iter([batch]), is_single


def _calls_of(array: Array, spec: TensorSpec, origin: str) -> Array | None:
    """The inputs of several calls, `(n, *shape)`; None for one in the model's own shape.

    Axes of extent 1 may be anywhere: they do not change which number is which.
    """
    if array.shape == spec.shape:
        return None
    if array.shape[1:] == spec.shape and array.ndim:
        return array
    core = _core(spec.shape)
    if _core(array.shape) == core:
        return None
    if array.ndim and _core(array.shape[1:]) == core:
        return array.reshape((len(array), *spec.shape))
    many = ", ".join(["n", *map(str, spec.shape)])
    raise RecordingError(
        f"{origin}: input {spec.name!r} has shape {spec.shape}, got {array.shape}; several calls "
        f"come as ({many})"
    )


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)


def _table_call(options: StreamOptions, signature: Signature) -> Iterator[Batch]:
    """The one call whose input the rows of a CSV file fill, features along the columns."""
    origin = options.input_path
    if len(signature.inputs) != 1:
        raise RecordingError(
            f"{origin}: CSV fills one input, and {signature.name!r} has {len(signature.inputs)}: "
            "give an NPZ file with an array for each, by name"
        )
    (spec,) = signature.inputs
    leading, width = spec.shape[:-1], spec.shape[-1] if spec.shape else 1
    if len(_core(leading)) > 1:
        raise RecordingError(
            f"{origin}: CSV has rows and columns, and input {spec.name!r} has shape {spec.shape}: "
            "give an NPZ or NPY file"
        )
    n_rows = math.prod(leading)
    row = TensorSpec(spec.name, spec.dtype, (width,), 0, (width,))
    rows = dataclasses.replace(signature, mode="stream", inputs=(row,))
    parts = []
    with open_source(
        origin,
        rows,
        "csv",
        options.columns,
        has_header=options.has_header,
        decimal=options.decimal,
    ) as source:
        for batch in source.batches():
            if batch.faults:
                raise RecordingError(batch.faults[min(batch.faults)].message)
            parts.append(batch.frames[spec.name])
    frames = np.concatenate([np.empty((0, width), spec.dtype.numpy), *parts])
    if len(frames) != n_rows:
        many = ", ".join(["n", *map(str, spec.shape)])
        raise RecordingError(
            f"{origin} has {len(frames)} rows, and input {spec.name!r} of shape {spec.shape} takes "
            f"{n_rows}: give exactly one input, or an NPY or NPZ file of shape ({many}) for n calls"
        )
    return iter([Batch({spec.name: frames.reshape((1, *spec.shape))}, lambda i: origin)])
