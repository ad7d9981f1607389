"""The target `host`: x86-64 code for several instruction sets in one artifact."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.target import Capabilities, Emission, Probe, Stage, TargetOptions

from edgelstm_targets.tvm_cpu.header import c_header
from edgelstm_targets.tvm_cpu.isa import X86_64, InstructionSet, host_flags, native
from edgelstm_targets.tvm_cpu.link import find_linkers, link

if TYPE_CHECKING:
    from edgelstm_targets.tvm_cpu.build import Compiled

UNIT_BLOCK = 16
_NO_TVM = "apache-tvm is not installed: pip install 'edgelstm[compiler]'"


@dataclass(frozen=True, slots=True)
class HostOptions(TargetOptions):
    """Options of the target.

    Args:
        cpu: "generic" for all instruction sets, "native" for this machine's only.
    """

    cpu: str = "generic"

    def to_json(self) -> dict[str, Any]:
        """What goes into the manifest."""
        return {"cpu": self.cpu}


@dataclass(frozen=True, slots=True)
class Lowered:
    """TensorIR functions of a program for each instruction set."""

    program: Program
    functions: tuple[tuple[InstructionSet, tuple[Any, ...]], ...]


@dataclass(frozen=True, slots=True)
class Objects:
    """Machine code of a program for each instruction set."""

    program: Program
    compiled: tuple[Compiled, ...]


class HostTarget:
    """x86-64 by TVM and LLVM."""

    name = "host"

    def probe(self) -> Probe:
        """Whether TVM and a linker are here, and whether this is an x86-64 Linux."""
        can_run = platform.system() == "Linux" and any(
            host_flags().issuperset(isa.requires) for isa in X86_64
        )
        if importlib.util.find_spec("tvm") is None:
            return Probe(False, can_run, _NO_TVM)
        linkers = find_linkers()
        if not linkers:
            return Probe(
                False, can_run, "no linker for ELF: install binutils or lld, or pip install ziglang"
            )
        found = f"linker: {linkers[0].name}"
        return Probe(True, can_run, found if can_run else f"{found}; code runs on x86-64 Linux")

    def capabilities(self) -> Capabilities:
        """Blocks of 16 units, both modes."""
        return Capabilities(unit_block=UNIT_BLOCK)

    def options(self, raw: Mapping[str, str]) -> HostOptions:
        """Parse options given as text.

        Raises:
            CapabilityError: an unknown option or value.
        """
        unknown = sorted(set(raw) - {"cpu"})
        if unknown:
            raise CapabilityError(f"target host has no option {unknown[0]!r}; it has: cpu")
        cpu = raw.get("cpu", "generic")
        if cpu not in ("generic", "native"):
            raise CapabilityError(f"option cpu is {cpu!r}; expected 'generic' or 'native'")
        return HostOptions(cpu)

    def stages(self, options: TargetOptions) -> tuple[Stage, ...]:
        """Program -> TensorIR -> objects -> shared objects with header and facts."""
        assert isinstance(options, HostOptions)
        return (
            Stage("tir", lambda program: _lower(program, options), _tir_text),
            Stage("object", _compile, _object_text),
            Stage("shared", _link),
        )


def _instruction_sets(options: HostOptions) -> tuple[InstructionSet, ...]:
    if options.cpu == "generic":
        return X86_64
    from edgelstm_targets.tvm_cpu.build import native_cpu

    own = native(native_cpu())
    if own is None:
        raise TargetUnavailableError(
            "option cpu=native: this machine is no x86-64 with SSE4.2; leave the option out"
        )
    return (own,)


def _lower(program: Program, options: HostOptions) -> Lowered:
    if importlib.util.find_spec("tvm") is None:
        raise TargetUnavailableError(_NO_TVM)
    from edgelstm_targets.tvm_cpu.codegen import program_functions

    sets = _instruction_sets(options)
    return Lowered(program, tuple((isa, program_functions(program, isa)) for isa in sets))


def _tir_text(lowered: Lowered) -> str:
    from edgelstm_targets.tvm_cpu.build import script

    return "\n".join(f"# {isa.name}\n{script(fs)}" for isa, fs in lowered.functions)


def _compile(lowered: Lowered) -> Objects:
    from edgelstm_targets.tvm_cpu.build import compile_functions
    from edgelstm_targets.tvm_cpu.entry import stubs

    entries = stubs(lowered.program.signature.name)
    compiled = tuple(compile_functions(fs, entries, isa) for isa, fs in lowered.functions)
    return Objects(lowered.program, compiled)


def _object_text(objects: Objects) -> str:
    return "\n".join(f"# {each.isa.name}\n{each.assembly}" for each in objects.compiled)


def _link(objects: Objects) -> Emission:
    from edgelstm_targets.tvm_cpu.build import tvm_version
    from edgelstm_targets.tvm_cpu.entry import stubs

    symbols = [stub.name for stub in stubs(objects.program.signature.name)]
    linkers = find_linkers()
    sections: dict[str, bytes] = {}
    isas = []
    linker = ""
    for each in objects.compiled:
        section = f"code/{each.isa.name}"
        sections[section], used = link(each.objects, symbols, linkers)
        isas.append({"section": section, "requires": list(each.isa.requires)})
        linker = used.name
    return Emission(
        engine="native",
        sections=sections,
        header=c_header(objects.program),
        facts={"isas": isas, "linker": linker, "tvm": tvm_version()},
    )
