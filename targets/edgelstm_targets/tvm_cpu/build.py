"""From TensorIR functions to an object file: TVM's lowering passes and its LLVM back end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.target import Target

from edgelstm.errors import ToolchainError
from edgelstm_compiler import elf
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu.bare_object import for_any_linker
from edgelstm_targets.tvm_cpu.compact import NEAR_PAIRS, OTHER_PROFILE, compacted
from edgelstm_targets.tvm_cpu.stubs import Stub, Table, complete_module, is_provided
from edgelstm_targets.tvm_cpu.tensorir import Function

_TIR = tirx.transform


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code of one instruction set.

    Args:
        isa: the instruction set.
        code: the bytes of the object file; it shows the stubs and wants nothing.
        module: TVM's module, for listings.
    """

    isa: InstructionSet
    code: bytes
    module: Any

    @property
    def assembly(self) -> str:
        """The assembler text."""
        return str(self.module.inspect_source("asm"))


def llvm_target(isa: InstructionSet) -> Any:
    """TVM's description of the instruction set."""
    description: dict[str, Any] = {
        "kind": "llvm",
        "mtriple": isa.triple,
        "mcpu": isa.mcpu,
        # Level 3 unrolls the loop over blocks completely: many times the code for no speed.
        "opt-level": 2,
        # TVM names types after buffers: wrong as soon as a function is inlined in another.
        "cl-opt": ["-enable-tbaa:bool=0", *(NEAR_PAIRS if isa.is_bare else ())],
    }
    features = [*isa.features, *([OTHER_PROFILE] if isa.is_bare else [])]
    if features:
        description["mattr"] = features
    if isa.float_abi:
        description["mfloat-abi"] = isa.float_abi
    if isa.vector_bits:
        description["vector-width"] = isa.vector_bits
    return Target(description)


def compile_functions(
    functions: Sequence[Function],
    stubs: Sequence[Stub],
    isa: InstructionSet,
    table: Table | None = None,
) -> Compiled:
    """One object file with all functions and the stubs in front of them, and a table of numbers.

    TVM optimizes the functions; the stubs join them as text, and everything else becomes internal.

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
        listing = str(code.inspect_source("ll"))
        if isa.is_bare:
            listing = compacted(listing, has_vectors=isa.lanes > 1)
        whole = _assemble(listing, stubs, table, ())
        wanted = [name for name in elf.undefined(whole[1]) if is_provided(name)]
        if wanted:
            whole = _assemble(listing, stubs, table, wanted, is_wide=elf.is_wide(whole[1]))
    except Exception as error:  # TVM raises whatever its C++ side names
        raise ToolchainError(f"TVM could not compile for {isa.name}: {error}") from error
    return Compiled(isa, for_any_linker(whole[1]) if isa.is_bare else whole[1], whole[0])


def _assemble(
    listing: str,
    stubs: Sequence[Stub],
    table: Table | None,
    wanted: Sequence[str],
    *,
    is_wide: bool = True,
) -> tuple[Any, bytes]:
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        source, result = Path(folder, "code.ll"), Path(folder, "code.o")
        text = complete_module(listing, stubs, table, wanted, is_wide=is_wide)
        source.write_text(text, "utf-8")
        module = tvm.runtime.load_module(str(source))
        module.write_to_file(str(result))
        return module, result.read_bytes()


def script(functions: Sequence[Function]) -> str:
    """TensorIR as TVM prints it."""
    return "\n".join(f.script() for f in functions)


def native_cpu() -> str:
    """LLVM's name of this machine's processor."""
    return str(tvm.get_global_func("target.llvm_get_system_cpu")())


def tvm_version() -> str:
    """TVM's version."""
    return str(tvm.__version__)
