"""Float step graph -> quantized step graph, layer by layer, each by its scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError, UnsupportedOpError
from edgelstm_compiler.ir.graph import StepGraph, StepInput, constant_data
from edgelstm_compiler.ir.ops import Concat, Dense, Recurrent, Softmax
from edgelstm_compiler.ir.rewrite import eliminate_unused
from edgelstm_compiler.ir.types import Array, Node, Op, TensorType, Value
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.quant import int8, integer_dense, integer_recurrent, stored
from edgelstm_compiler.quant.build import (
    MOVEMENTS,
    IntegerValue,
    LayerRecord,
    QuantizedBuilder,
)
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.channels import FittedChannels, alike, filled, fit_channels
from edgelstm_compiler.quant.dead_units import drop_dead_units
from edgelstm_compiler.quant.fold_affine import fold_affine
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import is_layer, refusal

Converter = Callable[[Node, QuantizedBuilder], None]

CONVERTERS: dict[Scheme, dict[type[Op], Converter]] = {
    Scheme.FP16: {
        Recurrent: stored.store_recurrent,
        Dense: stored.store_dense,
    },
    Scheme.INT8: {
        Recurrent: int8.quantize_recurrent,
        Dense: int8.quantize_dense,
    },
    Scheme.INT8_FULL: {
        Recurrent: integer_recurrent.quantize_recurrent,
        Dense: integer_dense.quantize_dense,
    },
}
CONVERTERS[Scheme.W8] = CONVERTERS[Scheme.W4] = CONVERTERS[Scheme.FP16]


@dataclass(frozen=True, slots=True)
class IntegerTensor:
    """An input or output that is handed over in integers: (q - zero_point) * scale + offset.

    Args:
        name: of the input or output.
        dtype: i8 or i16.
        scale: one, or one by channel.
        zero_point: the q of the offset.
        offset: one by channel, or none: (q - zero_point) * scale + offset.
    """

    name: str
    dtype: DType
    scale: tuple[float, ...]
    zero_point: int
    offset: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized step graph.

    Args:
        graph: what is lowered.
        layers: what became of each layer.
        integer_tensors: inputs and outputs in integers (`QuantizeOptions.integer_io`).
        shown: values of the float graph that are held in integers now, by name.
        state_scales: of one step of states that are carried in integers, by name; q * scale.
        fitted: the float graph that the layers were converted from, and its calibration.
    """

    graph: StepGraph
    layers: tuple[LayerRecord, ...]
    integer_tensors: tuple[IntegerTensor, ...]
    shown: Mapping[str, IntegerValue]
    state_scales: Mapping[str, float]
    fitted: FittedChannels


def quantize_graph(
    graph: StepGraph,
    calibration: Calibration | None,
    schemes: Scheme | Mapping[str, Scheme],
    options: QuantizeOptions | None = None,
) -> Quantized:
    """Give every layer its scheme.

    Args:
        graph: the float step graph.
        calibration: of that very graph; None where only weights are quantized.
        schemes: one for all layers, or by name of the layer (left out: fp32).
        options: see `QuantizeOptions`.

    Raises:
        CapabilityError: a scheme that needs calibration without one, or a layer it does not fit.
        UnsupportedOpError: a layer or attribute that the scheme refuses, by name.
    """
    options = options or QuantizeOptions()
    chosen = layer_schemes(graph, schemes)
    given = graph
    graph = fold_affine(graph, {n for n, s in chosen.items() if s is Scheme.INT8_FULL})
    calibration = _as_folded(given, graph, calibration)
    graph, calibration = drop_dead_units(graph, calibration, chosen)
    fitted = fit_channels(graph, calibration, chosen, options)
    graph, calibration = fitted.graph, fitted.calibration
    builder = QuantizedBuilder(graph, calibration, options, chosen)
    inputs: list[StepInput] | None = None
    if options.integer_io:
        inputs = _integer_inputs(graph, builder)
    for node in graph.nodes:
        _convert(node, builder)
    new = builder.finish(inputs, integer_outputs=options.integer_io)
    new = eliminate_unused(new)
    verify(new)
    integer_tensors: tuple[IntegerTensor, ...] = ()
    if options.integer_io:
        integer_tensors = _integer_tensors(graph, new, builder, fitted.offsets)
    shown = {
        value.name: held
        for node in graph.nodes
        for value in node.outputs
        if (held := builder.integer(value)) is not None
    }
    scales = {
        state.name: builder.state_scales[state.name]
        for state in new.states
        if state.name in builder.state_scales
    }
    return Quantized(new, tuple(builder.records), integer_tensors, shown, scales, fitted)


def _as_folded(
    given: StepGraph, folded: StepGraph, calibration: Calibration | None
) -> Calibration | None:
    """The moments of layers that took in x * a + b: those of x, its sign changed where a < 0."""
    if folded is given or calibration is None:
        return calibration
    before, after = constant_data(given), constant_data(folded)
    layers = {node.name: node for node in given.nodes}
    moments = dict(calibration.moments)
    for node in folded.nodes:
        old = layers.get(node.name)
        if node.name not in moments or old is None or old.inputs[0] is node.inputs[0]:
            continue
        w_old, w_new = old.inputs[1], node.inputs[1]
        assert w_old is not None
        assert w_new is not None
        product = before[w_old].astype(np.float64) * after[w_new]
        axis = 1 if isinstance(node.op, Dense) else tuple(range(product.ndim - 1))
        moments[node.name] = moments[node.name].turned(np.where(product.sum(axis) < 0, -1, 1))
    return replace(calibration, moments=moments)


def layer_schemes(graph: StepGraph, schemes: Scheme | Mapping[str, Scheme]) -> dict[str, Scheme]:
    """The scheme of every layer by name, after asking the support table.

    Raises:
        UnsupportedOpError: a layer or attribute that its scheme refuses.
        CapabilityError: a name that is no layer, or integers in nothing but a part of the model.
    """
    data = constant_data(graph)
    layers = [node for node in graph.nodes if is_layer(node)]
    if not isinstance(schemes, Scheme):
        unknown = sorted(set(schemes) - {node.name for node in layers})
        if unknown:
            names = ", ".join(repr(node.name) for node in layers)
            raise CapabilityError(f"there is no layer {unknown[0]!r}; there is {names}")
    chosen: dict[str, Scheme] = {}
    for node in layers:
        is_constant = node.inputs[1] in data
        if isinstance(schemes, Scheme):
            scheme = schemes if is_constant else Scheme.FP32
        else:
            scheme = schemes.get(node.name, Scheme.FP32)
        why = refusal(node, scheme)
        if why is not None:
            raise UnsupportedOpError(f"{node.origin or node.name}: scheme {scheme.value}: {why}")
        chosen[node.name] = scheme
    return chosen


def _convert(node: Node, builder: QuantizedBuilder) -> None:
    scheme = builder.schemes.get(node.name, Scheme.FP32)
    if scheme is not Scheme.FP32:
        kind = Recurrent if isinstance(node.op, Recurrent) else Dense
        CONVERTERS[scheme][kind](node, builder)
        return
    if isinstance(node.op, MOVEMENTS) and _move(node, builder):
        return
    if isinstance(node.op, Concat) and _concatenate(node, builder):
        return
    if type(node.op) is Softmax and integer_dense.quantize_softmax(node, builder):
        return
    if builder.options.integer_io and any(
        value is not None and builder.constant(value) is None for value in node.inputs
    ):
        raise UnsupportedOpError(
            f"{node.origin or node.name}: {node.op.kind} is computed in floating point, which "
            "integer_io excludes; leave integer_io out, or train the model without it"
        )
    builder.keep(node)


def _move(node: Node, builder: QuantizedBuilder) -> bool:
    """Move integers where the operand is held in them, with the scale it has."""
    source = node.inputs[0]
    assert source is not None
    held = builder.integer(source)
    if held is None or (held.scale.size != 1 and not _keeps_channels(source, node.outputs[0])):
        return False
    (shown,) = node.outputs
    new = builder.emit_steps(node, node.op, (held.value, *node.inputs[1:]))
    builder.show_integer(shown, IntegerValue(new.outputs[0], held.scale, held.zero_point))
    return True


def _keeps_channels(source: Value, shown: Value) -> bool:
    """Whether moving the elements leaves the last axis as it is (a reshape in front of it)."""
    return source.type.shape[-1:] == shown.type.shape[-1:] and source.type.size == shown.type.size


def _concatenate(node: Node, builder: QuantizedBuilder) -> bool:
    held = [builder.integer(value) for value in node.inputs if value is not None]
    first = held[0]
    if first is None or first.scale.size != 1:
        return False
    values = []
    for item in held:
        if (
            item is None
            or item.value.type.dtype is not first.value.type.dtype
            or item.zero_point != first.zero_point
            or not np.array_equal(item.scale, first.scale)
        ):
            return False
        values.append(item.value)
    (shown,) = node.outputs
    new = builder.emit_steps(node, node.op, values)
    builder.show_integer(shown, IntegerValue(new.outputs[0], first.scale, first.zero_point))
    return True


def _integer_inputs(graph: StepGraph, builder: QuantizedBuilder) -> list[StepInput]:
    """Inputs as int16 with calibrated scales."""
    inputs = []
    for item in graph.inputs:
        readers = [node for node in graph.nodes if item.value in node.inputs]
        layers = [node for node in readers if builder.schemes.get(node.name) is Scheme.INT8_FULL]
        if not item.value.type.dtype.is_float:
            inputs.append(item)
            continue
        # An initial state has a scale of its own kind: channels are what a layer reads as frames.
        are_frames = all(node.inputs[0] is item.value for node in layers)
        direct = bool(readers) and len(layers) == len(readers) and are_frames
        sample = layers[0] if layers else graph.nodes[0]
        found = builder.calibration(sample).value(item.value.name)
        options = builder.options
        per_channel = direct and options.per_channel
        reach = found.reach(options.observer, options.percentile, 32767, per_channel=per_channel)
        if per_channel:
            columns = builder.column_scales(sample)
            scale = alike(2.0 * filled(reach, columns) / 32767, found, columns)
        else:
            scale = 2.0 * filled(reach[:1], np.ones(1)) / 32767
        value = Value(item.value.name, TensorType(DType.I16, item.value.type.shape))
        builder.show_integer(item.value, IntegerValue(value, scale))
        inputs.append(StepInput(value, item.time_axis, item.batch_axis))
    return inputs


def _integer_tensors(
    graph: StepGraph, new: StepGraph, builder: QuantizedBuilder, offsets: Mapping[str, Array]
) -> tuple[IntegerTensor, ...]:
    found: list[IntegerTensor] = []
    for item in graph.inputs:
        held = builder.integer(item.value)
        if held is not None:
            offset = offsets.get(item.value.name, np.zeros(0))
            found.append(_integer_tensor(item.value.name, held, tuple(offset.tolist())))
    for out, shown in zip(graph.outputs, new.outputs, strict=True):
        held = builder.integer(out.value)
        if held is None or shown.value.type.dtype.is_float:
            raise UnsupportedOpError(
                f"output {out.name!r} is computed in floating point, which integer_io excludes"
            )
        found.append(_integer_tensor(out.name, held))
    return tuple(found)


def _integer_tensor(name: str, held: IntegerValue, offset: tuple[float, ...] = ()) -> IntegerTensor:
    scale: Array = np.asarray(held.scale, np.float64)
    return IntegerTensor(
        name, held.value.type.dtype, tuple(scale.tolist()), held.zero_point, offset
    )
