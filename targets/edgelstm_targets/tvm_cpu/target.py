"""The target `host`: x86-64 code for several instruction sets in one artifact."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.engines.cpu_features import cpu_flags
from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm_compiler import elf
from edgelstm_compiler.ir.columns import MOST_COLUMNS
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.target import Capabilities, Probe, Stage, TargetOptions
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.processors.x86 import HOST, native
from edgelstm_targets.tvm_cpu.link import find_linkers, no_linker
from edgelstm_targets.tvm_cpu.option_default import chosen
from edgelstm_targets.tvm_cpu.pipeline import NO_TVM, code_stages, multiplies_bytes
from edgelstm_targets.tvm_cpu.stream_option import OPTION, has_streams

_CPUS = ("generic", "best", "native")
_ENVIRONMENT = "EDGELSTM_CPU"
"""Environment variable with the default: "best" is a third of the work and of the code."""


@dataclass(frozen=True, slots=True)
class HostOptions(TargetOptions):
    """Options of the target.

    Args:
        cpu: "generic" for all instruction sets, "best" for the best of them that this machine
            has, "native" for all that this machine has.
        streams: also code that steps many streams at once.
    """

    cpu: str = "generic"
    streams: bool = True

    def to_json(self) -> dict[str, Any]:
        """What goes into the manifest."""
        return {"cpu": self.cpu}


class HostTarget:
    """x86-64 by TVM and LLVM."""

    name = HOST.target

    def probe(self) -> Probe:
        """Whether TVM and a linker are here, and whether this is an x86-64 Linux."""
        can_run = platform.system() == "Linux" and any(
            cpu_flags().issuperset(isa.requires) for isa in HOST.sets
        )
        if importlib.util.find_spec("tvm") is None:
            return Probe(False, can_run, NO_TVM)
        linkers = find_linkers()
        if not linkers:
            return Probe(False, can_run, no_linker(elf.X86_64))
        found = f"linker: {linkers[0].name}"
        return Probe(True, can_run, found if can_run else f"{found}; code runs on x86-64 Linux")

    def capabilities(self) -> Capabilities:
        """Blocks of 16 units, both modes."""
        return Capabilities(HOST.unit_block, weight_offset=HOST.weight_offset, columns=MOST_COLUMNS)

    def options(self, raw: Mapping[str, str]) -> HostOptions:
        """Parse options given as text.

        Raises:
            CapabilityError: an unknown option or value.
        """
        unknown = sorted(set(raw) - {"cpu", OPTION})
        if unknown:
            raise CapabilityError(
                f"target host has no option {unknown[0]!r}; it has: cpu, {OPTION}"
            )
        return HostOptions(chosen(raw, "cpu", _ENVIRONMENT, _CPUS), has_streams(raw))

    def stages(self, options: TargetOptions) -> tuple[Stage, ...]:
        """Program -> TensorIR -> objects -> shared objects with header and facts."""
        assert isinstance(options, HostOptions)
        return code_stages(
            lambda program: _instruction_sets(options, program), streams=options.streams
        )


def _instruction_sets(options: HostOptions, program: Program) -> tuple[InstructionSet, ...]:
    public = HOST.byte_sets if multiplies_bytes(program) else HOST.sets
    if options.cpu == "generic":
        return public
    if options.cpu == "best":
        own = next((isa for isa in public if cpu_flags().issuperset(isa.requires)), None)
    else:
        from edgelstm_targets.tvm_cpu.build import native_cpu

        own = native(native_cpu())
    if own is None:
        raise TargetUnavailableError(
            f"option cpu={options.cpu}: this machine is no x86-64 with SSE4.2; leave the option out"
        )
    return (own,)
