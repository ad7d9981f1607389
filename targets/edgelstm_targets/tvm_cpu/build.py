"""From TensorIR functions to an object file: TVM's lowering passes and its LLVM back end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from edgelstm.errors import ToolchainError
from tvm import tirx
from tvm.target import Target

from edgelstm_targets.tvm_cpu import elf
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.stubs import MEMORY_FUNCTIONS, Stub, stub_module
from edgelstm_targets.tvm_cpu.tensorir import Function

_TIR = tirx.transform


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code of one instruction set.

    Args:
        isa: the instruction set.
        objects: the bytes of the object files.
        module: TVM's module, for listings.
    """

    isa: InstructionSet
    objects: tuple[bytes, ...]
    module: Any

    @property
    def assembly(self) -> str:
        """The assembler text."""
        return str(self.module.inspect_source("asm"))


def llvm_target(isa: InstructionSet) -> Any:
    """TVM's description of the instruction set."""
    return Target(
        {
            "kind": "llvm",
            "mtriple": isa.triple,
            "mcpu": isa.mcpu,
            # Level 3 unrolls the loop over blocks completely: many times the code for no speed.
            "opt-level": 2,
            # TVM names types after buffers: wrong as soon as a function is inlined in another.
            "cl-opt": ["-enable-tbaa:bool=0"],
        }
    )


def compile_functions(
    functions: Sequence[Function], stubs: Sequence[Stub], isa: InstructionSet
) -> Compiled:
    """Object files with all functions and the stubs in front of them.

    Raises:
        ToolchainError: TVM or LLVM failed.
    """
    try:
        target = llvm_target(isa)
        module = tvm.IRModule({f.attrs["global_symbol"]: f for f in functions})
        # No StmtSimplify: it puts named vectors in place of their names, thousands of times. No
        # LowerIntrin: its analyzer spends longer on every name than LLVM, and fails on vectors of
        # bool. The kernels are written so that they need neither.
        module = _TIR.BindTarget(target)(module)
        code = tvm.get_global_func("target.build.llvm")(module, target)
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
            path = Path(folder, "code.o")
            code.write_to_file(str(path))
            kernels = path.read_bytes()
            listing = Path(folder, "stubs.ll")
            memory = [name for name in elf.undefined(kernels) if name in MEMORY_FUNCTIONS]
            listing.write_text(stub_module(stubs, memory, str(target), isa.triple), "ascii")
            tvm.runtime.load_module(str(listing)).write_to_file(str(path))
            return Compiled(isa, (kernels, path.read_bytes()), code)
    except Exception as error:  # TVM raises whatever its C++ side names
        raise ToolchainError(f"TVM could not compile for {isa.name}: {error}") from error


def script(functions: Sequence[Function]) -> str:
    """TensorIR as TVM prints it."""
    return "\n".join(f.script() for f in functions)


def native_cpu() -> str:
    """LLVM's name of this machine's processor."""
    return str(tvm.get_global_func("target.llvm_get_system_cpu")())


def tvm_version() -> str:
    """TVM's version."""
    return str(tvm.__version__)
