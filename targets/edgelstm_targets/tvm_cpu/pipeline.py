"""The stages of every CPU target: Program -> TensorIR -> object files -> shared objects."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm.install_hint import install_hint
from edgelstm_compiler import elf
from edgelstm_compiler.ir.columns import MOST_COLUMNS
from edgelstm_compiler.ir.kernels import LayerKernel
from edgelstm_compiler.ir.numerics import Int8, Integer
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.target import Emission, Stage
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu.header import c_header
from edgelstm_targets.tvm_cpu.link import find_linkers, link, no_linker
from edgelstm_targets.tvm_cpu.stack import stack_bound

if TYPE_CHECKING:
    from edgelstm_targets.tvm_cpu.build import Compiled
    from edgelstm_targets.tvm_cpu.codegen import StreamCode

NO_TVM = f"apache-tvm is not installed: {install_hint('compiler')}"
CODE_PREFIX, OBJECT_PREFIX = "code/", "object/"
"""Sections of the artifact: shared objects, and the object files that they were linked from."""
STREAMS_PREFIX = "streams/"
"""Shared objects that step many streams at once: they are loaded when a session asks for that."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """TensorIR functions of a program for each instruction set.

    Args:
        program: the program.
        functions: of steps.
        streams: of steps of many streams, for those that have them.
    """

    program: Program
    functions: tuple[tuple[InstructionSet, tuple[Any, ...]], ...]
    streams: tuple[tuple[InstructionSet, StreamCode], ...] = ()


@dataclass(frozen=True, slots=True)
class Objects:
    """Machine code of a program for each instruction set.

    Args:
        program: the program.
        compiled: of steps.
        streams: of steps of many streams, and what it was compiled from.
    """

    program: Program
    compiled: tuple[Compiled, ...]
    streams: tuple[tuple[Compiled, StreamCode], ...] = ()


def code_stages(
    choose: Callable[[Program], Sequence[InstructionSet]],
    *,
    streams: bool = False,
) -> tuple[Stage, ...]:
    """The stages of a target.

    Args:
        choose: the instruction sets that a program is compiled for, best first; raises a
            CapabilityError if the target does not take the program.
        streams: also code that steps many streams at once.
    """
    return (
        Stage("tir", lambda program: _lower(program, choose, streams=streams), _tir_text),
        Stage("object", _compile, _object_text),
        Stage("shared", _link),
    )


def multiplies_bytes(program: Program) -> bool:
    """Whether instructions for products of bytes are of any use."""
    return any(
        isinstance(call.kernel, LayerKernel) and isinstance(call.kernel.numerics, (Int8, Integer))
        for call in program.calls
    )


def missing_tool(machine: str) -> str:
    """What is missing to build for a processor, and how to get it; "" if nothing is.

    Args:
        machine: the processor, as `elf.machine` names it.
    """
    if importlib.util.find_spec("tvm") is None:
        return NO_TVM
    return "" if find_linkers(machine) else no_linker(machine)


def _lower(
    program: Program, choose: Callable[[Program], Sequence[InstructionSet]], *, streams: bool
) -> Lowered:
    if importlib.util.find_spec("tvm") is None:
        raise TargetUnavailableError(NO_TVM)
    from edgelstm_targets.tvm_cpu.codegen import program_functions, stream_code

    sets = choose(program)
    single = tuple((isa, program_functions(program, isa)) for isa in sets)
    many = [(isa, stream_code(program, isa)) for isa in sets] if streams else []
    return Lowered(program, single, tuple((isa, code) for isa, code in many if code is not None))


def _tir_text(lowered: Lowered) -> str:
    from edgelstm_targets.tvm_cpu.build import script

    listed = [(isa.name, fs) for isa, fs in lowered.functions]
    listed += [(f"{isa.name}, many streams", code.functions) for isa, code in lowered.streams]
    return "\n".join(f"# {name}\n{script(fs)}" for name, fs in listed)


def _compile(lowered: Lowered) -> Objects:
    from edgelstm_targets.tvm_cpu.build import compile_functions
    from edgelstm_targets.tvm_cpu.entry import stubs, table_of_sizes

    program = lowered.program
    name = program.signature.name
    compiled = tuple(
        compile_functions(fs, stubs(name, isa), isa, table_of_sizes(program, isa))
        for isa, fs in lowered.functions
    )
    streams = tuple(
        (
            compile_functions(code.functions, [code.stub], isa, code.table),
            code,
        )
        for isa, code in lowered.streams
    )
    return Objects(lowered.program, compiled, streams)


def _object_text(objects: Objects) -> str:
    listed = [(each.isa.name, each) for each in objects.compiled]
    listed += [(f"{each.isa.name}, many streams", each) for each, _ in objects.streams]
    return "\n".join(f"# {name}\n{each.assembly}" for name, each in listed)


def _link(objects: Objects) -> Emission:
    from edgelstm_targets.tvm_cpu.build import tvm_version
    from edgelstm_targets.tvm_cpu.codegen import frames_ahead
    from edgelstm_targets.tvm_cpu.entry import stubs, table_of_sizes

    name = objects.program.signature.name
    linkers = find_linkers(elf.machine(objects.compiled[0].code))
    sections: dict[str, bytes] = {}
    isas = []
    linker = ""
    for each in objects.compiled:
        _expect_no_library(each)
        symbols = [stub.name for stub in stubs(name, each.isa)]
        section = f"{CODE_PREFIX}{each.isa.name}"
        table = table_of_sizes(objects.program, each.isa)
        shown = [*symbols, *([] if table is None else [table.name])]
        sections[section], used = link(each.code, shown, linkers)
        sections[f"{OBJECT_PREFIX}{each.isa.name}"] = each.code
        facts = _facts(each, section, symbols[:2])
        ahead = frames_ahead(objects.program, each.isa)
        isas.append(facts | ({"ahead": ahead} if ahead > 1 else {}))
        linker = used.name
    for each, code in objects.streams:
        _expect_no_library(each)
        section = f"{STREAMS_PREFIX}{each.isa.name}"
        sections[section], _ = link(each.code, [code.stub.name, code.table.name], linkers)
        facts = next(facts for facts in isas if facts["section"].endswith(f"/{each.isa.name}"))
        facts["streams"] = {
            "section": section,
            "most": MOST_COLUMNS,
            "together": list(code.together),
            **elf.memory_of_code(each.code),
        }
    return Emission(
        engine="native",
        sections=sections,
        header=c_header(objects.program),
        facts={
            "isas": isas,
            "linker": linker,
            "tvm": tvm_version(),
            **_columns(objects.program),
            **_counted(objects),
        },
    )


def _columns(program: Program) -> dict[str, Any]:
    """Which layers take how many elements of a batch, or rows, at once; nothing where none does."""
    columns = {
        call.name: call.kernel.columns
        for call in program.calls
        if isinstance(call.kernel, LayerKernel) and call.kernel.columns > 1
    }
    return {"columns": columns} if columns else {}


def _counted(objects: Objects) -> dict[str, Any]:
    """Names of what the code counts saturated values of; nothing where it does not."""
    from edgelstm_targets.tvm_cpu.counting import counters

    hosted = [each.isa for each in objects.compiled if not each.isa.is_bare]
    names = [counter.name for counter in counters(objects.program)] if hosted else []
    return {"counted": names} if names else {}


def _expect_no_library(compiled: Compiled) -> None:
    """Refuse what a processor has no instructions for, and LLVM takes from a library.

    Raises:
        CapabilityError: such as 64-bit division or half precision on a 32-bit processor.
    """
    helpers = [name for name in elf.undefined(compiled.code) if name.startswith("__")]
    if helpers:
        raise CapabilityError(
            f"{compiled.isa.name} has no instructions for what the model computes (LLVM would call "
            f"{', '.join(sorted(helpers))}): avoid 64-bit integers, float64 and float16 in it"
        )


def _facts(compiled: Compiled, section: str, entries: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of one instruction set."""
    isa = compiled.isa
    facts: dict[str, Any] = {
        "section": section,
        "requires": list(isa.requires),
        "cpu": isa.mcpu,
        **elf.memory_of_code(compiled.code),
    }
    if isa.is_bare:
        facts |= {"bare": True, "stack_bytes": stack_bound(compiled.assembly, entries)}
    return facts
