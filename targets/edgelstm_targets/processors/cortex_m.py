"""ARM microcontrollers: no operating system, no cache in front of the weights, little stack."""

from __future__ import annotations

from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_compiler.processor import Emulator, SpeedRule, Toolchain
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.processors.processor import Processor

# Vectors are never put together there.
_ALWAYS_NEAR = 1 << 40
# Weights of int8-full one unit at a time, as the ways in `tvm_cpu/dot` want them: `multiply.py` on
# a Cortex-M0+, on an M3, `dsp.py`, `helium.py`. Without a cache there is no use in wider lines.
_UNSIGNED = BytePacking(1, (128,), line=4, vector_bytes=4)
_SIGNED = BytePacking(1, (0,), line=4, vector_bytes=2)
_PAIRS = BytePacking(1, (128, 0), line=4, vector_bytes=2)
_REGISTERS = BytePacking(1, (0,), group=16, line=4, vector_bytes=2)

_DSP = SpeedRule(
    "Cortex-M with FPU and DSP",
    {"fp32": 0.5, "fp16": 0.3, "w8": 0.3, "w4": 0.25, "int8": 1.0, "int8-full": 1.0},
    4,
    40,
    20,
    200,
)
_SMALL = SpeedRule(
    "Cortex-M without FPU",
    {"fp32": 0.015, "fp16": 0.012, "w8": 0.012, "w4": 0.01, "int8": 0.1, "int8-full": 0.2},
    2,
    1500,
    40,
    2000,
)


def _set(
    name: str,
    architecture: str,
    lanes: int,
    registers: int,
    dot: str,
    features: tuple[str, ...] = (),
) -> InstructionSet:
    has_float = architecture not in ("thumbv6m", "thumbv7m")
    return InstructionSet(
        name,
        f"{architecture}-none-{'eabihf' if has_float else 'eabi'}",
        name,
        lanes,
        registers,
        _ALWAYS_NEAR,
        (),
        features=features,
        dot=dot,
        float_abi="hard" if has_float else "soft",
        vector_bits=32 * lanes,
    )


CORTEX_M0PLUS = _set("cortex-m0plus", "thumbv6m", 1, 8, "multiply")
CORTEX_M3 = _set("cortex-m3", "thumbv7m", 1, 12, "multiply")
# FPv4-SP and FPv5-SP: 32 registers of one float. Many M7 lack double precision.
CORTEX_M4 = _set("cortex-m4", "thumbv7em", 1, 32, "dsp")
CORTEX_M7 = _set("cortex-m7", "thumbv7em", 1, 32, "dsp", ("-fp64",))
CORTEX_M33 = _set("cortex-m33", "thumbv8m.main", 1, 32, "dsp")
# Helium (MVE): eight registers of four floats, one of them multiplied with a core register.
CORTEX_M55 = _set("cortex-m55", "thumbv8.1m.main", 4, 8, "helium")


def _processor(
    summary: str,
    isa: InstructionSet,
    packing: BytePacking,
    toolchain: Toolchain,
    model: str,
    *,
    has_float: bool = True,
    without_emulator: str = "",
) -> Processor:
    return Processor(
        isa.name,
        summary,
        (isa,),
        4,
        "",
        has_float,
        packing=packing,
        toolchain=toolchain,
        emulator=Emulator("arm", model, is_microcontroller=True) if model else None,
        without_emulator=without_emulator,
        speed=(_DSP if has_float else _SMALL,),
    )


CORTEX_M = (
    _processor(
        "ARMv6-M, integers only",
        CORTEX_M0PLUS,
        _UNSIGNED,
        Toolchain(
            "-mcpu=cortex-m0plus -mthumb", ("samd", "rp2040", "mbed_rp2040"), ("CPU_CORTEX_M0PLUS",)
        ),
        "CORTEX_M0",
        has_float=False,
    ),
    _processor(
        "ARMv7-M, integers only",
        CORTEX_M3,
        _SIGNED,
        Toolchain("-mcpu=cortex-m3 -mthumb", ("sam", "stm32"), ("CPU_CORTEX_M3",)),
        "CORTEX_M3",
        has_float=False,
    ),
    _processor(
        "ARMv7E-M with FPU",
        CORTEX_M4,
        _PAIRS,
        Toolchain(
            "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
            ("samd", "nrf52", "mbed_nano", "stm32", "renesas_uno"),
            ("CPU_CORTEX_M4",),
        ),
        "CORTEX_M4",
    ),
    _processor(
        "ARMv7E-M with FPU",
        CORTEX_M7,
        _PAIRS,
        Toolchain(
            "-mcpu=cortex-m7 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
            ("mbed_portenta", "mbed_giga", "stm32", "imxrt1062"),
            ("CPU_CORTEX_M7",),
        ),
        "CORTEX_M7",
    ),
    _processor(
        "ARMv8-M with FPU",
        CORTEX_M33,
        _PAIRS,
        Toolchain(
            "-mcpu=cortex-m33 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
            ("rp2040", "stm32"),
            ("CPU_CORTEX_M33",),
        ),
        "CORTEX_M33",
    ),
    _processor(
        "ARMv8.1-M with Helium",
        CORTEX_M55,
        _REGISTERS,
        Toolchain(
            "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
            ("*",),
            ("CPU_CORTEX_M55",),
            ("ARMV8_1_M_MVEF",),
        ),
        "",
        without_emulator="Unicorn does not know Helium instructions: run the exported C on "
        "qemu-system-arm (board mps3-an547)",
    ),
)
"""The entries."""
