"""The ARM targets: one class, one processor each; built on any machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelstm.dtypes import DType
from edgelstm.engines.cpu_features import cpu_flags, machine
from edgelstm.errors import CapabilityError
from edgelstm_compiler import elf
from edgelstm_compiler.ir.columns import MOST_COLUMNS
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.target import Capabilities, Probe, Stage, TargetOptions
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.processors.processor import Processor
from edgelstm_targets.tvm_cpu import ram_option, stream_option
from edgelstm_targets.tvm_cpu.pipeline import code_stages, missing_tool, multiplies_bytes


@dataclass(frozen=True, slots=True)
class ArmOptions(TargetOptions):
    """Options of a target.

    Args:
        streams: also code that steps many streams at once.
    """

    streams: bool


class ArmTarget:
    """Code for one ARM processor by TVM and LLVM.

    Args:
        processor: its entry.
    """

    def __init__(self, processor: Processor) -> None:
        self.name = processor.target
        self.processor = processor

    def probe(self) -> Probe:
        """Whether TVM and a linker are here, and whether this machine is such a processor."""
        processor = self.processor
        can_run = (
            platform.system() == "Linux"
            and machine() == processor.machine
            and any(cpu_flags().issuperset(isa.requires) for isa in processor.sets)
        )
        missing = missing_tool(elf.AARCH64 if processor.machine == "aarch64" else elf.ARM)
        if missing:
            return Probe(False, can_run, missing)
        if can_run:
            return Probe(True, True, processor.summary)
        ways = ["verify --emulate"] if processor.emulator else []
        ways += [] if processor.machine else ["export-c, validate --on DEVICE"]
        way = ", ".join(ways)
        return Probe(True, False, f"{processor.summary}; here: {way}")

    def capabilities(self) -> Capabilities:
        """Blocks of as many units as the registers hold."""
        processor = self.processor
        return Capabilities(
            processor.unit_block,
            modes=("stream", "call", "window", *(("lookahead",) if processor.machine else ())),
            packing=processor.packing,
            has_float=processor.has_float,
            columns=MOST_COLUMNS if processor.machine else 1,
        )

    def options(self, raw: Mapping[str, str]) -> ArmOptions:
        """Parse options given as text: `streams`, of microcontrollers `ram`.

        Raises:
            CapabilityError: an unknown option or value.
        """
        known = stream_option.OPTION if self.processor.machine else ram_option.OPTION
        unknown = sorted(set(raw) - {known})
        if unknown:
            raise CapabilityError(
                f"target {self.name} has no option {unknown[0]!r}; it has: {known}"
            )
        if not self.processor.machine:
            return ArmOptions(streams=False, ram_bytes=ram_option.ram_bytes(raw))
        return ArmOptions(streams=stream_option.has_streams(raw))

    def stages(self, options: TargetOptions) -> tuple[Stage, ...]:
        """Program -> TensorIR -> objects -> shared objects with header and facts."""
        assert isinstance(options, ArmOptions)
        return code_stages(self._choose, streams=options.streams)

    def _choose(self, program: Program) -> Sequence[InstructionSet]:
        """The instruction sets, unless the program computes what the processor cannot.

        Raises:
            CapabilityError: floats without a floating-point unit, doubles on a Cortex-M.
        """
        if self.processor.machine:
            has_bytes = bool(self.processor.byte_sets) and multiplies_bytes(program)
            return self.processor.byte_sets if has_bytes else self.processor.sets
        for call in program.calls:
            for buffer in (*call.inputs, *call.outputs):
                if buffer is None or not buffer.type.dtype.is_float:
                    continue
                found = f"{call.origin} computes in {buffer.type.dtype.value}"
                if not self.processor.has_float:
                    raise CapabilityError(
                        f"target {self.name} has no floating-point unit, and {found}: compile with "
                        "--quantize int8-full (initial states must not be inputs), or for "
                        "cortex-m4, m7, m33 or m55"
                    )
                # A conversion from or to bfloat16 moves bits.
                if buffer.type.dtype not in (DType.F32, DType.BF16):
                    raise CapabilityError(
                        f"target {self.name} has single precision only, and {found}: "
                        "convert the model to float32"
                    )
        return self.processor.sets
