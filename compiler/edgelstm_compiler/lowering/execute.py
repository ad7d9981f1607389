"""Runs a Program in NumPy, on real blocks at the planned offsets: the stage's evaluation."""

from __future__ import annotations

import numpy as np

from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.fields import executed
from edgelstm_compiler.ir.kernels import CopyKernel, DenseKernel, OpKernel, RecurrentKernel
from edgelstm_compiler.ir.program import Buffer, Call, Program, ScanKernel, Space
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.scan import run_scan
from edgelstm_compiler.lowering.unpacking import run_layer


class ProgramRunner:
    """A program with its state; scratch and outputs are filled with NaN: stale reads show."""

    def __init__(self, program: Program) -> None:
        self.program = program
        signature = program.signature
        self._blocks = {
            Space.INPUT: np.zeros(signature.input_bytes, np.uint8),
            Space.OUTPUT: np.zeros(signature.output_bytes, np.uint8),
            Space.WEIGHTS: np.frombuffer(program.weights, np.uint8),
            Space.STATE: np.frombuffer(program.state_init, np.uint8).copy(),
            Space.SCRATCH: np.full(program.scratch_bytes, 0xFF, np.uint8),
        }

    def step(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """One step.

        Args:
            inputs: one array per input, any shape with the right number of elements.

        Returns:
            Outputs in the model's chunk shapes.
        """
        signature = self.program.signature
        self._blocks[Space.SCRATCH][:] = 0xFF
        self._blocks[Space.OUTPUT][:] = 0xFF
        for spec in signature.inputs:
            raw = np.ascontiguousarray(inputs[spec.name], spec.dtype.numpy).reshape(-1)
            span = slice(spec.offset_bytes, spec.offset_bytes + spec.nbytes)
            self._blocks[Space.INPUT][span] = raw.view(np.uint8)
        for call in self.program.calls:
            self._run(call)
        results = {}
        for spec in signature.outputs:
            span = slice(spec.offset_bytes, spec.offset_bytes + spec.nbytes)
            raw = self._blocks[Space.OUTPUT][span].copy()
            results[spec.name] = raw.view(spec.dtype.numpy).reshape(spec.model_shape)
        return results

    def step_from(
        self, inputs: dict[str, Array], states: dict[str, Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from given states; returns outputs and states."""
        specs = self.program.signature.states
        block = self._blocks[Space.STATE]
        spans = {
            spec.name: block[spec.offset_bytes : spec.offset_bytes + spec.nbytes]
            .view(spec.dtype.numpy)
            .reshape(spec.shape)
            for spec in specs
        }
        for name, data in states.items():
            spans[name][...] = data
        outputs = self.step(inputs)
        return outputs, {name: span.copy() for name, span in spans.items()}

    def _view(self, buffer: Buffer) -> Array:
        end = buffer.offset_bytes + buffer.type.nbytes
        raw = self._blocks[buffer.space][buffer.offset_bytes : end]
        return raw.view(buffer.type.dtype.numpy).reshape(buffer.type.shape)

    def _run(self, call: Call) -> None:
        kernel = call.kernel
        inputs = [None if b is None else self._view(b) for b in call.inputs]
        match kernel:
            case RecurrentKernel() | DenseKernel():
                results = run_layer(kernel, inputs)
            case OpKernel():
                results = apply(*executed(kernel.op, inputs), inputs)
            case ScanKernel():
                results = run_scan(kernel, inputs, ProgramRunner(kernel.body).step_from)
            case CopyKernel():
                results = [inputs[0].copy()] if inputs[0] is not None else []
            case _:
                raise TypeError(f"no evaluation of {kernel.kind}")
        # Copies first: a result may be a view of an input that an output overwrites in place.
        results = [np.array(result) for result in results]
        if call.workspace is not None:
            # All bits set: NaN where it is read as floating point.
            self._view(call.workspace).view(np.uint8)[...] = 0xFF
        for buffer, result in zip(call.outputs, results, strict=True):
            if buffer is not None:
                self._view(buffer)[...] = result.reshape(buffer.type.shape)
