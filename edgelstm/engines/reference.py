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

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import is_kept, takes
from edgelstm.container import Container
from edgelstm.engines.base import Blocks, StepFunction
from edgelstm.engines.numpy_ops import bound
from edgelstm.engines.numpy_ops.quantized_conversion import saturated
from edgelstm.engines.reference_program import (
    LARGEST_VALUES_BYTES,
    ProgramNode,
    ReferenceProgram,
    read_program,
)
from edgelstm.errors import ArtifactFormatError, EdgeLSTMError, StreamError
from edgelstm.memory import Block
from edgelstm.numerics.layer import RecurrentLayer
from edgelstm.signature import Signature, StateSpec, TensorSpec

Array = NDArray[Any]

Inside = Callable[[ProgramNode, str, Array], None]
"""Called with the inside of a step: of recurrent layers every sum, gate and new state by its name
in the cell, of a softmax its weights by the name "weights"."""


class ReferenceEngine:
    """Reads the program; NumPy is everywhere, so it runs everywhere."""

    def expect_machine(self) -> None:
        """Nothing but NumPy."""

    def describe(self, container: Container, signature: Signature) -> Mapping[str, str]:
        """The engine: a program is data, and is read to see that it can be run."""
        return self.load(container, signature).facts

    def load(self, container: Container, signature: Signature) -> ReferenceKernel:
        """Make a model ready to run here; see `Engine.load`."""
        weights = container.section("weights")
        program = read_program(container.section("program"), signature, weights)
        kernel = ReferenceKernel(program, signature)
        kernel.rehearse(container.section("state_init"))
        return kernel


class ReferenceKernel:
    """One program with its constants."""

    def __init__(self, program: ReferenceProgram, signature: Signature) -> None:
        self._signature = signature
        self._program = program
        self._functions: list[Callable[[Sequence[Array | None]], list[Array]] | None]
        self._functions = [None] * len(program.nodes)
        self._counted = _counted(program)

    @property
    def facts(self) -> Mapping[str, str]:
        """The engine."""
        return {"engine": "reference"}

    def rehearse(self, state_init: memoryview) -> None:
        """Compute one step on zeros: shapes and types of every operator are seen to fit.

        Raises:
            ArtifactFormatError: an operator cannot be computed, or gives what does not fit.
        """
        signature = self._signature
        state = np.frombuffer(state_init, np.uint8).copy()
        frame = np.zeros(signature.input_bytes, np.uint8)
        # The operators may refuse zeros (lengths, indices), as they may any sample.
        with suppress(StreamError):
            self._execute(state, frame, np.zeros(signature.output_bytes, np.uint8))

    def bind(self, blocks: Blocks) -> StepFunction:
        """The step on those blocks."""
        return partial(self._step, blocks)

    def bind_run(self, blocks: Blocks, inputs: Array, outputs: Array, n_steps: int) -> StepFunction:
        """Many steps, one after the other."""
        signature = self._signature
        frames = inputs.reshape(-1).view(np.uint8).reshape(n_steps, signature.input_bytes)
        results = outputs.reshape(-1).view(np.uint8).reshape(n_steps, signature.output_bytes)
        return partial(self._run, blocks, frames, results)

    def saturated(self, blocks: Blocks) -> Mapping[str, int] | None:
        """What was counted while its steps ran; see `CountsSaturation`."""
        if not self._counted:
            return None
        return {name: blocks.counts.get(name, 0) for name in self._counted.values()}

    @property
    def nodes(self) -> tuple[ProgramNode, ...]:
        """The operators of a step, in order."""
        return self._program.nodes

    def shows(self, node: ProgramNode) -> bool:
        """Whether an output of the model shows what an operator gives."""
        return any(name in node.outputs for _, name in self._program.outputs)

    def trace(self, state: Block, frame: Block, result: Block, inside: Inside) -> bool:
        """One step with its inside; False, with the state as it was, where it is not kept."""
        return self._execute(state, frame, result, inside)

    def read_weights(self, repeats: int) -> int | None:
        """Not offered: there is no loop that reads and does nothing else."""
        del repeats
        return None

    def _run(self, blocks: Blocks, frames: Block, results: Block) -> int:
        state = blocks.state
        for frame in frames:
            if code := self._check(frame):
                return code
        before = state.copy()
        try:
            for done, (frame, result) in enumerate(zip(frames, results, strict=True)):
                if not self._execute(state, frame, result, counts=blocks.counts):
                    return -1 - done
        except StreamError:
            # An index computed in the model: none of the block was fed.
            state[...] = before
            raise
        return 0

    def _step(self, blocks: Blocks) -> int:
        code = self._check(blocks.inputs)
        if code == 0 and not self._execute(
            blocks.state, blocks.inputs, blocks.outputs, counts=blocks.counts
        ):
            return -1
        return code

    def _check(self, frame: Block) -> int:
        for index, (spec, _) in enumerate(self._program.inputs):
            if not takes(_view(frame, spec), spec):
                return 1 + index
        return 0

    def _execute(
        self,
        state: Block,
        frame: Block,
        result: Block,
        inside: Inside | None = None,
        counts: dict[str, int] | None = None,
    ) -> bool:
        """One step; False, with the state as it was, where a new state is not kept."""
        program = self._program
        values = self._compute(state, frame, inside)
        if counts is not None:
            for index, name in self._counted.items():
                node = program.nodes[index]
                x, inverse = (values[n] for n in node.inputs if n is not None)
                counts[name] = counts.get(name, 0) + saturated(node.fields, x, inverse)
        if self._signature.checks_states and not all(
            is_kept(values[write], self._signature) for _, _, write in program.states
        ):
            return False
        # All is looked at before anything is written: what fails leaves the state as it was.
        written = [
            (_view(state, spec), _fitting(values[write], spec)) for spec, _, write in program.states
        ]
        written += [
            (_view(result, spec), _fitting(values[name], spec)) for spec, name in program.outputs
        ]
        for place, value in written:
            place[...] = value
        return True

    def _compute(
        self, state: Block, frame: Block, inside: Inside | None = None
    ) -> dict[str, Array]:
        """Every value of a step."""
        # Copies throughout: operators may hand on views, and states are written in place later.
        values: dict[str, Array] = dict(self._program.constants)
        for tensor, name in self._program.inputs:
            values[name] = _view(frame, tensor).reshape(tensor.model_shape).copy()
        for carried, read, _ in self._program.states:
            values[read] = _view(state, carried).copy()
        size = 0
        with np.errstate(all="ignore"):
            for index, node in enumerate(self._program.nodes):
                arguments = [None if name is None else values[name] for name in node.inputs]
                try:
                    function = self._functions[index]
                    if function is None:
                        function = bound(node.op, node.fields, arguments)
                        self._functions[index] = function
                    if inside is None:
                        results = function(arguments)
                    else:
                        results = _told(node, function, arguments, inside)
                    named = zip(node.outputs, results, strict=True)
                    values.update((name, found) for name, found in named if name is not None)
                except EdgeLSTMError:
                    raise
                except Exception as exc:  # NumPy's, for whatever a foreign program may ask of it
                    raise ArtifactFormatError(
                        f"section 'program': {node.label} cannot be computed "
                        f"({type(exc).__name__}: {exc}); compile the model again"
                    ) from exc
                size += sum(found.nbytes for found in results)
                if size > LARGEST_VALUES_BYTES:
                    raise ArtifactFormatError(
                        f"section 'program': its values take more than {LARGEST_VALUES_BYTES} "
                        f"bytes at {node.label}"
                    )
        return values


def _counted(program: ReferenceProgram) -> dict[int, str]:
    """By index the operators that quantize, with the name of the input they do it to, or theirs.

    An input may lose an offset on the way there.
    """
    sources = {value: spec.name for spec, value in program.inputs}
    found: dict[int, str] = {}
    for index, node in enumerate(program.nodes):
        first = node.inputs[0] if node.inputs else None
        if node.op == "Quantize" and first is not None:
            found[index] = sources.get(first, first)
        elif node.op in ("Binary", "Reshape") and first in sources:
            sources.update({name: sources[first] for name in node.outputs if name is not None})
    return found


def _told(
    node: ProgramNode,
    function: Callable[[Sequence[Array | None]], list[Array]],
    arguments: Sequence[Array | None],
    inside: Inside,
) -> list[Array]:
    if isinstance(function, RecurrentLayer):
        return function(arguments, partial(inside, node))
    results = function(arguments)
    if node.op == "Softmax":
        inside(node, "weights", results[0])
    return results


def _fitting(value: Array, spec: TensorSpec | StateSpec) -> Array:
    """A value as it goes into its block.

    Raises:
        ArtifactFormatError: it has another type or another number of elements.
    """
    expected = spec.dtype.numpy
    if value.dtype != expected or value.size != math.prod(spec.shape):
        raise ArtifactFormatError(
            f"section 'program': the value of {spec.name!r} is {value.dtype.name}{value.shape}, "
            f"expected {expected.name}{spec.shape}; compile the model again"
        )
    return value.reshape(spec.shape)


def _view(block: Block, spec: TensorSpec | StateSpec) -> Array:
    return np.ndarray(spec.shape, spec.dtype.numpy, block, spec.offset_bytes)
