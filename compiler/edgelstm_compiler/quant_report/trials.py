"""What a target makes of each scheme, found out by compiling a layer of a few units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import EdgeLSTMError, UnsupportedOpError
from edgelstm.numerics.cells import Range
from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import CELLS
from edgelstm_compiler.ir.graph import State, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import Dense, Direction, Recurrent
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import SUPPORT
from edgelstm_compiler.target import Target

UNITS, FEATURES, FRAMES = 8, 3, 64


def _trial(cell: type[Recurrent]) -> Recurrent:
    """A layer with the functions that its gates usually have."""
    ranges = cell(UNITS, Direction.FORWARD, (), None).cell().function_ranges
    functions = tuple(SIGMOID if values is Range.UNIT else TANH for values in ranges)
    return cell(UNITS, Direction.FORWARD, functions, None)


TRIALS: Mapping[type[Op], Op] = {**{cell: _trial(cell) for cell in CELLS}, Dense: Dense()}
"""One operator of each kind that is quantized."""


def try_target(target: Target) -> list[dict[str, Any]]:
    """Scheme x operator: whether the target compiles it, and its message where it does not."""
    probe = target.probe()
    return [
        {
            "target": target.name,
            "scheme": scheme.value,
            "what": kind.__name__,
            **(
                _verdict(target, scheme, TRIALS[kind])
                if probe.can_build
                else {"admitted": False, "reason": probe.reason}
            ),
        }
        for scheme, kinds in SUPPORT.items()
        for kind in kinds
    ]


def trial_graph(op: Op) -> StepGraph:
    """A stream through one layer with seeded weights."""
    rng = np.random.default_rng(0)
    x = Value("x", TensorType(DType.F32, (1, 1, FEATURES)))

    def constant(name: str, *shape: int) -> Constant:
        return Constant.of(name, rng.normal(0.0, 0.5, shape).astype(np.float32))

    if not isinstance(op, Recurrent):
        constants = [constant("w", FEATURES, UNITS), constant("b", UNITS)]
        inputs: list[Value | None] = [x, *(item.value for item in constants)]
        states: tuple[State, ...] = ()
    else:
        rows = op.gates * UNITS
        shapes = {"w": (1, rows, FEATURES), "r": (1, rows, UNITS), "b": (1, 2 * rows)}
        constants = [constant(name, *shape) for name, shape in shapes.items()]
        kind = TensorType(DType.F32, (1, 1, UNITS))
        reads = [Value(name, kind) for name in ("h_in", "c_in")[: op.state_count]]
        inputs = [x, *(item.value for item in constants), None, *reads]
    types = op.infer([None if value is None else value.type for value in inputs])
    outputs = tuple(Value(f"y{index}", found) for index, found in enumerate(types))
    node = Node(op, tuple(inputs), outputs, "layer", "")
    if isinstance(op, Recurrent):
        zeros = Constant.of("zeros", np.zeros(kind.shape, np.float32)).data
        states = tuple(
            State(read.name, kind, zeros, read, write)
            for read, write in zip(reads, outputs[1:], strict=True)
        )
    shown = outputs[1] if isinstance(op, Recurrent) else outputs[0]
    return StepGraph(
        "trial",
        "stream",
        (StepInput(x, 0, 1),),
        (StepOutput("y", shown, None, 1),),
        (node,),
        tuple(constants),
        states,
    )


def _verdict(target: Target, scheme: Scheme, op: Op) -> dict[str, Any]:
    """Whether it compiles; int8-full may want its inputs and outputs as integers too."""
    reason = _why_not(target, scheme, op, QuantizeOptions())
    if reason and scheme is Scheme.INT8_FULL:
        again = _why_not(target, scheme, op, QuantizeOptions(integer_io=True))
        if not again:
            return {"admitted": True, "reason": "with --integer-io only"}
    return {"admitted": reason == "", "reason": reason}


def _why_not(target: Target, scheme: Scheme, op: Op, options: QuantizeOptions) -> str:
    """The first message on the way to code, or ""."""
    graph = trial_graph(op)
    frames: Array = np.random.default_rng(1).standard_normal((FRAMES, 1, 1, FEATURES))
    try:
        calibration = calibrate(graph, [{"x": frames.astype(np.float32)}])
        quantized = quantize_graph(graph, calibration, scheme, options)
        takes = target.capabilities()
        result: Any = lower(
            quantized.graph,
            takes.unit_block,
            None,
            takes.weight_offset,
            takes.packing,
            takes.columns,
        )
        for stage in target.stages(target.options({})):
            result = stage.run(result)
    except UnsupportedOpError as error:
        return str(error).partition(f"scheme {scheme.value}: ")[2] or str(error)
    except EdgeLSTMError as error:
        return str(error)
    return ""
