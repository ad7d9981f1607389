"""The function of a Scan: the functions of its body once a frame, on frames that move along."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from edgelstm.signature import TensorSpec
from edgelstm_compiler.ir.program import Buffer as ProgramBuffer
from edgelstm_compiler.ir.program import ScanKernel, Space
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.streams import PlannedCall
from edgelstm_targets.tvm_cpu.copying import copy_function
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter


def scan_functions(
    name: str, kernel: ScanKernel, steps: Sequence[PlannedCall], isa: InstructionSet
) -> tuple[Function, ...]:
    """The function of a Scan, and those that copy its states; the last one is called.

    Its parameters are the call's inputs, its outputs and its workspace, each as bytes.

    Args:
        name: its symbol.
        kernel: the Scan.
        steps: what its body does in a frame.
        isa: the instruction set.
    """
    signature = kernel.body.signature
    copies = {
        spec.nbytes: copy_function(f"{name}_copy{spec.nbytes}", spec.nbytes, singly=isa.is_bare)
        for spec in signature.states
    }
    inputs = kernel.states + len(signature.inputs) + 1
    outputs = kernel.states + len(signature.outputs)

    def body(*arguments: Buffer) -> None:
        given, made, workspace = arguments[:inputs], arguments[inputs:-1], arguments[-1]
        state = tir.behind(workspace, 0)
        scratch = tir.behind(workspace, kernel.state_bytes)
        for number, spec in enumerate(signature.states):
            tir.call(
                f"{name}_copy{spec.nbytes}",
                tir.address(given[number], 0),
                tir.address(state, spec.offset_bytes),
            )
        blocks = {Space.WEIGHTS: given[-1], Space.STATE: state, Space.SCRATCH: scratch}
        frames = given[kernel.states : -1]
        rows = made[kernel.states :]
        with tir.loop(tirx.const(kernel.length, "int64")) as frame:

            def pointer(operand: ProgramBuffer) -> Expr:
                if operand.space in blocks:
                    return tir.address(blocks[operand.space], operand.offset_bytes)
                is_input = operand.space is Space.INPUT
                specs, tensors = (
                    (signature.inputs, frames) if is_input else (signature.outputs, rows)
                )
                index = _index(specs, operand.offset_bytes)
                if is_input and index >= kernel.sequences:
                    return tir.address(tensors[index], 0)
                stride = tirx.const(specs[index].nbytes, "int64")
                return tir.address(tensors[index], frame * stride)

            for planned in steps:
                turn = [] if planned.arguments is None else [tirx.Cast("int32", frame)]
                tir.call(planned.symbol, *(pointer(operand) for operand in planned.operands), *turn)
        for number, spec in enumerate(signature.states):
            tir.call(
                f"{name}_copy{spec.nbytes}",
                tir.address(state, spec.offset_bytes),
                tir.address(made[number], 0),
            )

    parameters = [
        *(Parameter(f"input{k}", "uint8") for k in range(inputs)),
        *(Parameter(f"output{k}", "uint8") for k in range(outputs)),
        Parameter("workspace", "uint8"),
    ]
    return (*copies.values(), tir.define(name, parameters, body))


def _index(specs: Sequence[TensorSpec], offset: int) -> int:
    """Which tensor of a block stands there."""
    return next(k for k, spec in enumerate(specs) if spec.offset_bytes == offset)
