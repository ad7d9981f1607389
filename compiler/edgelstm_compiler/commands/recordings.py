"""Reads recordings for calibration and reports: frames of a stream, or the windows of calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.io.columns import split_names
from edgelstm.io.recording import read_frames
from edgelstm.sessions import mode_of
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.driver import CompileOptions, bind, to_step_graph, ways_out
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.quant.extremes import with_files
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.streaming.cut import Cut
from edgelstm_compiler.streaming.modes import compile_mode


def float_step_graph(
    model: OnnxModel, options: CompileOptions
) -> tuple[StepGraph, StepGraph, Cut | None]:
    """The float32 step graph of a model, the same as recordings for it look, and how they are cut.

    Args:
        model: its control inputs fixed.
        options: mode, shapes and states.

    Raises:
        ModelError: it cannot be imported or streamed.
    """
    with ways_out(model, options):
        binding = bind(model, options)
        graph = to_step_graph(binding, options, PassContext())
    cut = compile_mode(options.mode, options.request).cut_of(binding)
    return graph, graph if cut is None else cut.faced(graph), cut


def read_recordings(
    files: Sequence[Path],
    signature: Signature,
    columns: str | None = None,
    progress: Callable[[int], None] | None = None,
    described: Sequence[str] = (),
) -> list[Recording]:
    """One recording per file of a stream; one per window of a call's files.

    Args:
        files: CSV, NDJSON, NPY or NPZ for a stream. Calls: NPZ with an array per input (NPY where
            there is one), each a whole input or several along a further first axis.
        signature: of the float32 model.
        columns: names of a stream's columns, separated by commas.
        progress: called with 1 after each file.
        described: names of the columns in the model's description, in order.

    Raises:
        RecordingError: a file cannot be read or does not fit.
    """
    chosen = split_names(columns or "")
    recordings: list[Recording] = []
    for file in files:
        if not mode_of(signature.mode).has_blocks:
            recordings += _windows(file, signature)
        else:
            # Arrays have no names: there, columns are indices along the last axis.
            is_array = file.suffix.lower() in (".npy", ".npz")
            wanted = [x for x in chosen if x.isdigit()] if is_array else chosen
            frames = read_frames(file, signature, wanted, described)
            recordings.append(
                {
                    spec.name: frames[spec.name]
                    if spec.time_axis is not None
                    else frames[spec.name][0]
                    for spec in signature.inputs
                }
            )
        if progress is not None:
            progress(1)
    return recordings


def named_warnings(warnings: Sequence[str], files: Sequence[Path], recordings: object) -> list[str]:
    """Warnings of a calibration with file and line in place of recording and frame.

    Args:
        warnings: of the calibration.
        files: what the recordings were read from.
        recordings: as `read_recordings` gave them; anything else leaves warnings as they are.
    """
    if not isinstance(recordings, list) or len(recordings) != len(files):
        return list(warnings)
    frames = [max(len(x) for x in recording.values()) for recording in recordings]
    lines = [_first_line(file, count) for file, count in zip(files, frames, strict=True)]
    names = [str(file) for file in files]
    return [with_files(text, names, lines) for text in warnings]


def _first_line(file: Path, frames: int) -> int | None:
    """The line of a text file's first frame: what is more than its frames stands in front."""
    if file.suffix.lower() not in (".csv", ".tsv", ".txt", ".ndjson", ".jsonl"):
        return None
    with file.open("rb") as source:
        count = sum(1 for line in source if line.strip())
    return count - frames + 1 if count >= frames else None


def _windows(file: Path, signature: Signature) -> list[Recording]:
    arrays = _arrays(file, signature)
    stacked = {spec.name: _stacked(file, spec, arrays) for spec in signature.inputs}
    counts = {len(x) for x in stacked.values()}
    if len(counts) > 1:
        found = ", ".join(f"{name}: {len(x)}" for name, x in stacked.items())
        raise RecordingError(f"{file}: the inputs have different numbers of windows ({found})")
    return [{name: x[index] for name, x in stacked.items()} for index in range(counts.pop())]


def _arrays(file: Path, signature: Signature) -> dict[str, Array]:
    try:
        if file.suffix == ".npz":
            with np.load(file) as data:
                return {name: data[name] for name in data.files}
        if file.suffix == ".npy" and len(signature.inputs) == 1:
            return {signature.inputs[0].name: np.load(file)}
    except (OSError, ValueError) as error:
        raise RecordingError(f"{file}: cannot be read: {error}") from error
    raise RecordingError(f"{file}: call mode takes an .npz file with one array per input")


def _stacked(file: Path, spec: TensorSpec, arrays: Mapping[str, Array]) -> Array:
    """The windows of one input (n, *shape)."""
    if spec.name not in arrays:
        names = ", ".join(arrays) or "nothing"
        raise RecordingError(f"{file}: it has no array {spec.name!r}; it has {names}")
    data = arrays[spec.name]
    if data.shape == spec.shape:
        return data[None]
    if data.shape[1:] == spec.shape:
        return data
    if data.shape[1:] == spec.shape[1:] and spec.shape[:1] == (1,):
        return data[:, None]  # windows along the batch of one
    raise RecordingError(
        f"{file}: {spec.name!r} has shape {list(data.shape)}, expected {list(spec.shape)} "
        "or several such windows along a further first axis"
    )
