"""What is asked of the quantizer, and recordings as the steps of a graph take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.model import QuantizeRequest
from edgelstm_compiler.quant.recordings import Recordings, as_recordings
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.streaming.cut import Cut
from edgelstm_compiler.target import Target


def cut_request(request: QuantizeRequest, faced: StepGraph, cut: Cut | None) -> QuantizeRequest:
    """The request with recordings of steps.

    Args:
        request: with recordings of frames.
        faced: the graph as callers see it.
        cut: how frames become steps; None: they are.

    Raises:
        CapabilityError: recordings that do not fit the model.
    """
    if cut is None:
        return request

    def steps_of(data: Recordings) -> Recordings:
        return cut.recordings(as_recordings(faced, data))

    calibration, holdout = request.calibration, request.holdout
    if calibration is not None and not isinstance(calibration, Calibration):
        calibration = steps_of(calibration)
    return replace(
        request,
        calibration=calibration,
        holdout=None if holdout is None else steps_of(holdout),
    )


def check_recordings(
    faced: StepGraph, given: Recordings | None, request: QuantizeRequest | None
) -> list[Recording]:
    """What the self-check is fed with, frames by input; empty: random input.

    Args:
        faced: the graph as callers see it.
        given: for the check alone, or None.
        request: how it is quantized; its recordings stand in.

    Raises:
        CapabilityError: recordings that do not fit the model.
    """
    if given is None and request is not None:
        calibration = request.calibration
        given = None if isinstance(calibration, Calibration) else calibration
    return [] if given is None else as_recordings(faced, given)


def quantize_request(
    scheme: str | Mapping[str, str] | None,
    calibration: Calibration | Recordings | None,
    max_error: float | None,
    options: QuantizeOptions | None,
    holdout: Recordings | None,
    *,
    force: bool,
    keep: Sequence[str],
) -> QuantizeRequest | None:
    """What `compile_model` is asked for; None: nothing is quantized."""
    if scheme is None:
        return None
    options = options or QuantizeOptions()
    return QuantizeRequest(scheme, calibration, max_error, options, holdout, force, tuple(keep))


def request_for(target: Target, request: QuantizeRequest) -> QuantizeRequest:
    """The request; without a floating-point unit, models in integers take and give integers."""
    takes, options = target.capabilities(), request.options
    if not takes.has_wide_h:
        options = replace(options, wide_h=False)
    if not takes.has_float and request.scheme == Scheme.INT8_FULL.value:
        options = replace(options, integer_io=True)
    return replace(request, options=options)
