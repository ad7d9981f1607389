"""The quantized step graph while it is being built: float and integer forms of each value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.graph import State, StepGraph, StepInput, StepOutput, source_values
from edgelstm_compiler.ir.names import unique_name
from edgelstm_compiler.ir.ops import (
    Broadcast,
    Dense,
    Dequantize,
    Gather,
    Quantize,
    Recurrent,
    Reshape,
    Slice,
    Transpose,
)
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.channels import column_scales
from edgelstm_compiler.quant.moments import Moments
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme

MOVEMENTS = (Reshape, Transpose, Slice, Gather, Broadcast)
"""Operators that integers pass through unchanged."""

LAYERS = (Recurrent, Dense)


@dataclass(frozen=True, slots=True)
class IntegerValue:
    """A value in integers: (q - zero_point) * scale.

    Args:
        value: the integer tensor.
        scale: (1,), or (K,) by channel of the last axis.
        zero_point: the q of 0.
    """

    value: Value
    scale: Array
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """What became of a layer.

    Args:
        name, origin, kind: of the float node.
        scheme: how it computes now.
        bytes_before, bytes_after: of its constants, as float32 and as stored (before packing).
        weight_sqnr_db: signal to quantization noise of its weights.
        weights: of each matrix (W, then R) the float weights and what is computed with.
    """

    name: str
    origin: str
    kind: str
    scheme: Scheme
    bytes_before: int
    bytes_after: int
    weight_sqnr_db: float
    weights: tuple[tuple[Array, Array], ...] = dataclasses.field(compare=False, repr=False)


class QuantizedBuilder:
    """Collects the new nodes; converters in the sibling files add to it.

    Attributes:
        calibration: ranges, or None where only weights are quantized.
        options: what the user chose.
        schemes: by name of the layer.
        records: what became of each layer, in order.
    """

    def __init__(
        self,
        graph: StepGraph,
        calibration: Calibration | None,
        options: QuantizeOptions,
        schemes: Mapping[str, Scheme],
    ) -> None:
        self.graph = graph
        self.options = options
        self.schemes = schemes
        self.records: list[LayerRecord] = []
        self.nodes: list[Node] = []
        self.states: dict[str, State] = {state.name: state for state in graph.states}
        self.state_scales: dict[str, float] = {}
        self._calibration = calibration
        self._data = {constant.value: constant.data for constant in graph.constants}
        self._constants = list(graph.constants)
        self._names = {value.name for value in source_values(graph)}
        self._names.update(value.name for node in graph.nodes for value in node.outputs)
        self._node_names = {node.name for node in graph.nodes}
        self._floats: dict[Value, Value] = {}
        self._integers: dict[Value, IntegerValue] = {}
        self._replaced: set[Value] = set()
        self._written: dict[Value, Value] = {}
        self._consumers: dict[Value, list[Node]] = {}
        self._producers = {value: node for node in graph.nodes for value in node.outputs}
        for node in graph.nodes:
            for value in node.inputs:
                if value is not None:
                    self._consumers.setdefault(value, []).append(node)

    def calibration(self, node: Node) -> Calibration:
        """The calibration.

        Raises:
            CapabilityError: there is none, but the layer needs it.
        """
        if self._calibration is None:
            raise CapabilityError(
                f"{node.origin or node.name}: scheme {self.schemes[node.name].value} needs "
                "calibration: give recordings (--calibrate FILE), or use fp16, w8 or w4"
            )
        return self._calibration

    def moments(self, node: Node) -> Moments | None:
        """Of a layer's operands, where they are known and compensated rounding is wanted."""
        if self._calibration is None or not self.options.compensate:
            return None
        return self._calibration.moments.get(node.name)

    @property
    def means(self) -> Calibration | None:
        """The calibration, where there is one: bias correction reads the means."""
        return self._calibration

    def constant(self, value: Value | None) -> Array | None:
        """The data of a constant, or None."""
        return None if value is None else self._data.get(value)

    def column_scales(self, node: Node) -> Array:
        """How large the weights of each input of a layer are beside each other (K,)."""
        return column_scales(node, self._data)

    def add_constant(self, name: str, data: Array) -> Value:
        """A new constant; equal data of the same purpose may stand twice."""
        constant = Constant.of(self.fresh_name(name), data)
        self._constants.append(constant)
        self._data[constant.value] = constant.data
        return constant.value

    def fresh_name(self, name: str) -> str:
        """A value name that is not taken, and now is."""
        return unique_name(name, self._names)

    def emit(
        self, op: Op, inputs: Sequence[Value | None], name: str, origin: str, outputs: Sequence[str]
    ) -> Node:
        """A new node with new outputs of these names."""
        types = op.infer([value.type if value is not None else None for value in inputs])
        values = tuple(
            Value(self.fresh_name(output), kind)
            for output, kind in zip(outputs, types, strict=True)
        )
        node = Node(op, tuple(inputs), values, unique_name(name, self._node_names), origin)
        self.nodes.append(node)
        return node

    def emit_steps(self, node: Node, op: Op, inputs: Sequence[Value | None]) -> Node:
        """The integer form of a node, under the node's own name."""
        names = [value.name + ".steps" for value in node.outputs]
        self._node_names.discard(node.name)
        return self.emit(op, inputs, node.name, node.origin, names)

    def keep(self, node: Node) -> None:
        """The node as it is, on the float forms of its inputs."""
        inputs = tuple(None if value is None else self.take_float(value) for value in node.inputs)
        self.nodes.append(dataclasses.replace(node, inputs=inputs))

    def replace(self, node: Node, op: Op, inputs: Sequence[Value | None]) -> None:
        """Another operator with the same outputs."""
        self.nodes.append(Node(op, tuple(inputs), node.outputs, node.name, node.origin))

    def show_integer(self, value: Value, integer: IntegerValue) -> None:
        """Let a value of the float graph be held in integers."""
        self._integers[value] = integer
        self._replaced.add(value)

    def write_state(self, value: Value, integer: Value) -> None:
        """Let states that `value` updates in the float graph be updated by an integer value."""
        self._written[value] = integer

    def integer(self, value: Value) -> IntegerValue | None:
        """The integer form of a value, if it has one."""
        return self._integers.get(value)

    def take_float(self, value: Value) -> Value:
        """The float form of a value, converted where it is held in integers."""
        if value not in self._replaced:
            return value
        if value not in self._floats:
            held = self._integers[value]
            scale = self.add_constant(f"{value.name}.scale", held.scale.astype(np.float32))
            node = self.emit(
                Dequantize(held.zero_point),
                (held.value, scale),
                f"{value.name}.dequantize",
                "",
                (f"{value.name}.float",),
            )
            self._floats[value] = node.outputs[0]
        return self._floats[value]

    def take_integer(
        self, value: Value, dtype: DType, scale: Array, zero_point: int
    ) -> IntegerValue:
        """The integer form of a value, converted with that scale where it is held in float."""
        held = self._integers.get(value)
        if held is not None:
            return held
        inverse = (1.0 / scale).astype(np.float32)
        node = self.emit(
            Quantize(dtype, zero_point),
            (value, self.add_constant(f"{value.name}.inverse", inverse)),
            f"{value.name}.quantize",
            "",
            (f"{value.name}.{dtype.value}",),
        )
        # What is computed with is the reciprocal, rounded to float32.
        integer = IntegerValue(node.outputs[0], 1.0 / inverse.astype(np.float64), zero_point)
        self._integers[value] = integer
        return integer

    def convert(self, value: Value, dtype: DType, scale: float) -> Value:
        """The value in just that form, for an initial state: constants are converted here."""
        held = self._integers.get(value)
        if held is not None and held.value.type.dtype is dtype and held.scale.tolist() == [scale]:
            return held.value
        data = self._data.get(value)
        if data is not None:
            steps = np.clip(np.rint(data / scale), *integer_limits(dtype))
            name = f"{value.name}.{dtype.value}"
            return self.add_constant(name, steps.astype(dtype.numpy))
        inverse = self.add_constant(f"{value.name}.inverse", np.array([1 / scale], np.float32))
        node = self.emit(
            Quantize(dtype),
            (self.take_float(value), inverse),
            f"{value.name}.quantize",
            "",
            (f"{value.name}.{dtype.value}",),
        )
        return node.outputs[0]

    def consumers(self, value: Value) -> list[Node]:
        """The nodes that read a value, seen through data movement."""
        readers: list[Node] = []
        for node in self._consumers.get(value, []):
            if isinstance(node.op, MOVEMENTS):
                readers += self.consumers(node.outputs[0])
            else:
                readers.append(node)
        return readers

    def is_result(self, value: Value) -> bool:
        """Whether the value, or what data movement makes of it, leaves the graph or is a state."""
        shown = {out.value for out in self.graph.outputs}
        shown.update(state.write for state in self.graph.states)
        if value in shown:
            return True
        return any(
            self.is_result(node.outputs[0])
            for node in self._consumers.get(value, [])
            if isinstance(node.op, MOVEMENTS)
        )

    def is_output(self, value: Value) -> bool:
        """Whether the value, or what data movement makes of it, leaves the graph."""
        if any(out.value is value for out in self.graph.outputs):
            return True
        return any(
            self.is_output(node.outputs[0])
            for node in self._consumers.get(value, [])
            if isinstance(node.op, MOVEMENTS)
        )

    def source(self, value: Value) -> Node | None:
        """The node that computes a value, seen through data movement; None: from outside."""
        node = self._producers.get(value)
        while node is not None and isinstance(node.op, MOVEMENTS):
            first = node.inputs[0]
            assert first is not None
            node = self._producers.get(first)
        return node

    def is_behind_layer(self, value: Value) -> bool:
        """Whether a recurrent or dense layer stands anywhere before the value."""
        node = self._producers.get(value)
        if node is None:
            return False
        if isinstance(node.op, LAYERS):
            return True
        return any(self.is_behind_layer(source) for source in node.inputs if source is not None)

    def carry_integer(self, read: Value, write: Value, dtype: DType, scale: float) -> Value | None:
        """Carry a state in integers.

        Args:
            read: the state's value at the start, in the float graph.
            write: its value at the end, in the float graph; its integer form is shown later.
            dtype: what it is carried in.
            scale: of one step.

        Returns:
            The integer value at the start; None where `read` is no state that `write` updates.
        """
        for state in self.graph.states:
            if state.read is read and state.write is write:
                return self._integer_state(state, dtype, scale)
        return None

    def _integer_state(self, state: State, dtype: DType, scale: float) -> Value:
        # Symmetric: no cell makes an h of -128, and products rely on it.
        _, high = integer_limits(dtype)
        steps = np.clip(np.rint(state.init / scale), -high, high).astype(dtype.numpy)
        kind = TensorType(dtype, state.type.shape)
        read = Value(self.fresh_name(f"{state.read.name}.{dtype.value}"), kind)
        self.states[state.name] = State(
            state.name, kind, Constant.of("", steps).data, read, state.write
        )
        self.state_scales[state.name] = scale
        self.show_integer(state.read, IntegerValue(read, np.array([scale])))
        return read

    def finish(
        self, inputs: Sequence[StepInput] | None = None, *, integer_outputs: bool = False
    ) -> StepGraph:
        """The graph with its outputs and states."""
        outputs = tuple(self._output(out, integer_outputs) for out in self.graph.outputs)
        states = []
        for state in self.states.values():
            is_integer = not state.type.dtype.is_float and state.write in self._written
            write = self._written[state.write] if is_integer else self.take_float(state.write)
            states.append(dataclasses.replace(state, write=write))
        return StepGraph(
            self.graph.name,
            self.graph.mode,
            tuple(inputs if inputs is not None else self.graph.inputs),
            outputs,
            tuple(self.nodes),
            tuple(self._constants),
            tuple(states),
            self.graph.most_frames,
        )

    def _output(self, out: StepOutput, integer: bool) -> StepOutput:
        held = self._integers.get(out.value)
        if integer and held is not None and out.value in self._replaced:
            return dataclasses.replace(out, value=held.value)
        return dataclasses.replace(out, value=self.take_float(out.value))


def integer_limits(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest value of a signed integer type."""
    half = 1 << (8 * dtype.itemsize - 1)
    return -half, half - 1
