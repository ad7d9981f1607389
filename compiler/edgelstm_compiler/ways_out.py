"""The commands that compile a model which one mode refuses: each was tried before it is told.

How the other modes might take it, they say themselves (`CompileMode.offers`).
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgelstm.errors import EdgeLSTMError, ModelError
from edgelstm.sessions import mode_of
from edgelstm_compiler.binding import time_axes
from edgelstm_compiler.binding.dimensions import shape_options, shapes_with
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.modes import MODES
from edgelstm_compiler.streaming.modes.base import CompileMode, ModeRequest, Offer, Shapes
from edgelstm_compiler.streaming.refusal import OtherModeError, Way
from edgelstm_compiler.target import DEFAULT_TARGET

Takes = Callable[[str, ModeRequest, Shapes], StepGraph]
"""The chunk of a mode; raises an `EdgeLSTMError` where it, so asked, does not take the model."""

_FRAMES = (30, 100, 300, 1000)
"""Lengths of windows that are tried where the model leaves it open."""

_MOST_NUMBERS = 16
"""Of an input that is fixed, in a command; longer ones stand in a file."""


@contextmanager
def telling_ways_out(
    model: OnnxModel, command: str, mode: str, given: Shapes, takes: Takes
) -> Iterator[None]:
    """Refusals by the mode tell the commands that would work.

    Args:
        model: its control inputs fixed.
        command: that the caller might have given, without options of a mode.
        mode: that was asked for.
        given: shapes, as the caller told them.
        takes: tries one mode.
    """
    try:
        yield
    except OtherModeError as error:
        if error.ways:
            raise error.told(error.ways, command) from error
        # Without advice no window of the model is what was trained (one frame, states as inputs).
        tried = () if not getattr(error, "advice", "") else _ways(model, mode, given, takes)
        raise error.told(tuple(tried), command) from error


def _ways(model: OnnxModel, mode: str, given: Shapes, takes: Takes) -> Iterator[Way]:
    examples = list(_examples(model, given))
    for other in MODES.values():
        if other.name == mode:
            yield from _true(other, other.retries(model, given), given, takes)
        else:
            yield from _first(other, model, given, examples, takes)


def _first(
    mode: CompileMode, model: OnnxModel, given: Shapes, examples: Sequence[Shapes], takes: Takes
) -> Iterator[Way]:
    """The first offer of a mode that is true."""
    offers = (offer for example in examples for offer in mode.offers(model, given, example))
    yield from itertools.islice(_true(mode, offers, given, takes), 1)


def _true(mode: CompileMode, offers: Iterable[Offer], given: Shapes, takes: Takes) -> Iterator[Way]:
    """The offers that hold when they are tried."""
    for offer in offers:
        try:
            chunk = takes(mode.name, offer.request, offer.shapes)
        except EdgeLSTMError:
            continue
        told = {n: s for n, s in offer.shapes.items() if n not in given}
        takes_frames = mode_of(chunk.mode).has_blocks
        yield Way(mode.name, _words(offer.request, told), offer.what, takes_frames)


def _examples(model: OnnxModel, given: Shapes) -> Iterator[Shapes]:
    """Shapes for inputs with free dimensions, short windows first."""
    try:
        choices = time_axes(model, given)
    except ModelError:
        choices = []
    free = [info for info in model.inputs if info.name not in given]
    for frames in _FRAMES:
        for time in choices:
            yield {**given, **shapes_with(free, time, frames)}
        if choices == [()]:
            return


def _words(request: ModeRequest, shapes: Shapes) -> tuple[str, ...]:
    """As on the command line."""
    words: list[str] = []
    if request.attention_context is not None:
        words += ["--attention-context", str(request.attention_context)]
    if request.windows.frames is not None:
        words += ["--window", str(request.windows.frames)]
    if request.windows.hop is not None:
        words += ["--hop", str(request.windows.hop)]
    if request.lookahead is not None:
        words += ["--lookahead", str(request.lookahead), "--chunk", str(request.chunk or 1)]
    return (*words, *shape_options(shapes))


def command_of(model: OnnxModel, target: str, shapes: Shapes, constants: Mapping[str, Any]) -> str:
    """`edgelstm compile` with what a caller in Python asks, but for the mode."""
    words = ["edgelstm", "compile", "MODEL.onnx" if model.path is None else str(model.path)]
    if target != DEFAULT_TARGET:
        words += ["--target", target]
    words += shape_options(shapes)
    for name, value in constants.items():
        numbers = np.asarray(value).reshape(-1)
        is_short = numbers.size <= _MOST_NUMBERS and np.ndim(value) < 2
        told = ",".join(map(str, numbers.tolist())) if is_short else f"{name}.npy"
        words += ["--set", f"{name}={told}"]
    return shlex.join(words)
