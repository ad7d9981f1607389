"""What other people's tools call the processors that projects are exported for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cpu:
    """A microcontroller's core.

    Args:
        flags: for arm-none-eabi-gcc.
        arduino: names of Arduino's architectures (cores) with such processors.
        zephyr: symbols of Zephyr's Kconfig that say that this is the processor.
        zephyr_float: further ones where the model computes in floating point.
    """

    flags: str
    arduino: tuple[str, ...]
    zephyr: tuple[str, ...]
    zephyr_float: tuple[str, ...] = ("CPU_HAS_FPU",)


CPUS: Mapping[str, Cpu] = {
    "cortex-m0plus": Cpu(
        "-mcpu=cortex-m0plus -mthumb", ("samd", "rp2040", "mbed_rp2040"), ("CPU_CORTEX_M0PLUS",)
    ),
    "cortex-m3": Cpu("-mcpu=cortex-m3 -mthumb", ("sam", "stm32"), ("CPU_CORTEX_M3",)),
    "cortex-m4": Cpu(
        "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
        ("samd", "nrf52", "mbed_nano", "stm32", "renesas_uno"),
        ("CPU_CORTEX_M4",),
    ),
    "cortex-m7": Cpu(
        "-mcpu=cortex-m7 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
        ("mbed_portenta", "mbed_giga", "stm32", "imxrt1062"),
        ("CPU_CORTEX_M7",),
    ),
    "cortex-m33": Cpu(
        "-mcpu=cortex-m33 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
        ("rp2040", "stm32"),
        ("CPU_CORTEX_M33",),
    ),
    "cortex-m55": Cpu(
        "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
        ("*",),
        ("CPU_CORTEX_M55",),
        ("ARMV8_1_M_MVEF",),
    ),
}
"""By name of the instruction set."""


def compiler_flags(isa: str) -> str:
    """What arm-none-eabi-gcc has to be told to make code that fits; "" where nothing."""
    return CPUS[isa].flags if isa in CPUS else ""
