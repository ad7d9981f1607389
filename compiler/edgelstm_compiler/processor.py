"""What the compiler's rooms may ask of a processor: the types; the facts stand in the targets.

Exported projects need what other people's tools call it, emulation a model of it, reports a rule
for its speed. No room of the compiler knows a processor by name: it asks `target.find_processor`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What tools for microcontrollers call a processor.

    Args:
        gcc: flags for arm-none-eabi-gcc.
        arduino: names of Arduino's architectures (cores) with such processors.
        zephyr: symbols of Zephyr's Kconfig that say that this is the processor.
        zephyr_float: further ones where the model computes in floating point.
    """

    gcc: str
    arduino: tuple[str, ...]
    zephyr: tuple[str, ...]
    zephyr_float: tuple[str, ...] = ("CPU_HAS_FPU",)


@dataclass(frozen=True, slots=True)
class Emulator:
    """The model of a processor that runs its code on any machine.

    Args:
        machine: "arm", "aarch64" or "x86_64", as `edgelstm.engines.cpu_features` names them.
        model: Unicorn's name of the model, without its prefix.
        is_microcontroller: an M-profile: Thumb only.
    """

    machine: str
    model: str
    is_microcontroller: bool = False


@dataclass(frozen=True, slots=True)
class SpeedRule:
    """Rough rates of one family of processors.

    Args:
        name: for the report.
        macs: multiply-accumulates a cycle by scheme.
        read_bytes: weights read a cycle.
        activation: cycles per activation of a unit, by scheme where it differs from fp32.
        integer_activation: the same in int8-full.
        overhead: cycles that quantizing the operands of a layer costs.
        requires: flags in /proc/cpuinfo without which the rule does not hold; (): it always does.
    """

    name: str
    macs: Mapping[str, float]
    read_bytes: float
    activation: float
    integer_activation: float
    overhead: float
    requires: tuple[str, ...] = ()


class Processor(Protocol):
    """A processor that a target compiles for."""

    @property
    def target(self) -> str:
        """The target's name."""
        ...

    @property
    def code_names(self) -> tuple[str, ...]:
        """Its instruction sets, as sections of artifacts are named: NAME of `code/NAME`."""
        ...

    @property
    def toolchain(self) -> Toolchain | None:
        """For microcontrollers."""
        ...

    @property
    def emulator(self) -> Emulator | None:
        """None where there is none."""
        ...

    @property
    def without_emulator(self) -> str:
        """What to do where there is none."""
        ...

    @property
    def speed(self) -> tuple[SpeedRule, ...]:
        """Rules of thumb; the first one holds whose flags the machine has."""
        ...
