"""Engine `reference`: executes section `program` in NumPy, operator by operator.

```
{"version", "inputs": [{"name", "value"}], "states": [{"name", "read", "write"}],
 "outputs": [{"name", "value"}], "constants": [{"value", "dtype", "shape", "offset_bytes"}],
 "nodes": [{"op", "fields", "inputs": [value or null], "outputs": [value]}]}
```
The data of constants stands in section `weights`. Values have the model's chunk shapes
(`TensorSpec.model_shape`); blocks hold the same elements, so they are reshaped at the border.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import is_kept, takes
from edgelstm.container import Container
from edgelstm.dtypes import DType
from edgelstm.engines.base import Blocks, StepFunction
from edgelstm.engines.numpy_ops import apply
from edgelstm.errors import ArtifactFormatError, ArtifactVersionError, StreamError
from edgelstm.memory import Block
from edgelstm.numerics.documents import read_cell
from edgelstm.numerics.legacy import LEGACY
from edgelstm.signature import Signature, StateSpec, TensorSpec

PROGRAM_VERSION = 2
"""Of the program; since 2 a recurrent node holds its cell (`edgelstm.numerics.documents`)."""

Array = NDArray[Any]
Apply = Callable[[str, Mapping[str, Any], Sequence["Array | None"]], Sequence[Array]]


@dataclass(frozen=True, slots=True)
class _Node:
    op: str
    fields: Mapping[str, Any]
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


class ReferenceEngine:
    """Reads the program; NumPy is everywhere, so it runs everywhere."""

    def expect_machine(self) -> None:
        """Nothing but NumPy."""

    def load(self, container: Container, signature: Signature) -> ReferenceKernel:
        """Make a model ready to run here; see `Engine.load`."""
        try:
            program = json.loads(bytes(container.section("program")))
            _expect_version(program.get("version", 1))
            return ReferenceKernel(program, signature, container.section("weights"))
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise ArtifactFormatError(
                f"section 'program' is malformed ({type(exc).__name__}: {exc}); "
                "compile the model again"
            ) from exc


class ReferenceKernel:
    """One program with its constants."""

    def __init__(
        self, program: Mapping[str, Any], signature: Signature, weights: memoryview
    ) -> None:
        self._signature = signature
        self._inputs = [
            (spec, _named(program["inputs"], spec.name)["value"]) for spec in signature.inputs
        ]
        self._outputs = [
            (spec, _named(program["outputs"], spec.name)["value"]) for spec in signature.outputs
        ]
        self._states = [
            (spec, state["read"], state["write"])
            for spec in signature.states
            for state in [_named(program["states"], spec.name)]
        ]
        self._constants = {
            str(item["value"]): _read_constant(item, weights) for item in program["constants"]
        }
        self._nodes = [
            _Node(
                node["op"],
                _read_fields(node["op"], node["fields"]),
                tuple(node["inputs"]),
                tuple(node["outputs"]),
            )
            for node in program["nodes"]
        ]
        self._weights = weights

    @property
    def facts(self) -> Mapping[str, str]:
        """The engine."""
        return {"engine": "reference"}

    def bind(self, blocks: Blocks) -> StepFunction:
        """The step on those blocks."""
        return partial(self._step, blocks.state, blocks.inputs, blocks.outputs)

    def bind_run(self, blocks: Blocks, inputs: Array, outputs: Array, n_steps: int) -> StepFunction:
        """Many steps, one after the other."""
        signature = self._signature
        frames = inputs.reshape(-1).view(np.uint8).reshape(n_steps, signature.input_bytes)
        results = outputs.reshape(-1).view(np.uint8).reshape(n_steps, signature.output_bytes)
        return partial(self._run, blocks.state, frames, results)

    def read_weights(self, repeats: int) -> int | None:
        """Not offered: there is no loop that reads and does nothing else."""
        del repeats
        return None

    def _run(self, state: Block, frames: Block, results: Block) -> int:
        for frame in frames:
            if code := self._check(frame):
                return code
        before = state.copy()
        try:
            for done, (frame, result) in enumerate(zip(frames, results, strict=True)):
                if not self._execute(state, frame, result):
                    return -1 - done
        except StreamError:
            # An index computed in the model: none of the block was fed.
            state[...] = before
            raise
        return 0

    def _step(self, state: Block, inputs: Block, outputs: Block) -> int:
        code = self._check(inputs)
        if code == 0 and not self._execute(state, inputs, outputs):
            return -1
        return code

    def _check(self, frame: Block) -> int:
        for index, (spec, _) in enumerate(self._inputs):
            if not takes(_view(frame, spec), spec):
                return 1 + index
        return 0

    def _execute(self, state: Block, frame: Block, result: Block) -> bool:
        """One step; False, with the state as it was, where a new state is not kept."""
        # Copies throughout: operators may hand on views, and states are written in place below.
        values: dict[str, Array] = dict(self._constants)
        for tensor, name in self._inputs:
            values[name] = _view(frame, tensor).reshape(tensor.model_shape).copy()
        for carried, read, _ in self._states:
            values[read] = _view(state, carried).copy()
        with np.errstate(all="ignore"):
            for node in self._nodes:
                arguments = [None if name is None else values[name] for name in node.inputs]
                results = apply(node.op, node.fields, arguments)
                values.update(zip(node.outputs, results, strict=True))
        if self._signature.checks_states and not all(
            is_kept(values[write], self._signature) for _, _, write in self._states
        ):
            return False
        for carried, _, write in self._states:
            _view(state, carried)[...] = values[write].reshape(carried.shape)
        for tensor, name in self._outputs:
            _view(result, tensor)[...] = values[name].reshape(tensor.shape)
        return True


def _expect_version(version: object) -> None:
    if version not in range(1, PROGRAM_VERSION + 1):
        raise ArtifactVersionError(
            f"section 'program' has format {version!r}, this edgelstm reads up to "
            f"{PROGRAM_VERSION}: update edgelstm, or compile the model again"
        )


def _read_fields(op: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a node, cells read; programs of format 1 have none."""
    if op in LEGACY or "cell" not in fields:
        return fields
    return {**fields, "cell": read_cell(fields["cell"])}


def _view(block: Block, spec: TensorSpec | StateSpec) -> Array:
    return np.ndarray(spec.shape, spec.dtype.numpy, block, spec.offset_bytes)


def _named(items: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for item in items:
        if item["name"] == name:
            return item
    raise KeyError(name)


def _read_constant(item: Mapping[str, Any], weights: memoryview) -> Array:
    dtype = DType(item["dtype"]).numpy
    shape = tuple(int(extent) for extent in item["shape"])
    count = math.prod(shape)
    if count == 0:
        return np.zeros(shape, dtype)
    data = np.frombuffer(weights, dtype, count, item["offset_bytes"]).reshape(shape)
    data.setflags(write=False)
    return data
