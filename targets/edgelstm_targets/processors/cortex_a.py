"""ARM processors with Linux. Further levels (dot products, half precision) are further sets."""

from __future__ import annotations

from dataclasses import replace

from edgelstm_compiler.processor import Emulator, SpeedRule
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.processors.processor import Processor

_LINUX_64 = "aarch64-unknown-linux-gnu"
_LINUX_32 = "armv7a-unknown-linux-gnueabihf"
_NEAR_32K, _NEAR_64K = 24 * 1024, 48 * 1024
_V8 = ("fp", "asimd")
_V8_CRC = (*_V8, "crc32")
_V8_2 = (*_V8_CRC, "atomics", "asimdrdm", "fphp", "asimdhp", "lrcpc", "dcpop", "asimddp")


def _set(name: str, mcpu: str, requires: tuple[str, ...], near: int) -> InstructionSet:
    has_dot = "asimddp" in requires
    return InstructionSet(
        name,
        _LINUX_64,
        mcpu,
        4,
        32,
        near,
        requires,
        # Out of order: loads that come early only take registers.
        features=("+disable-latency-sched-heuristic",) if has_dot else (),
        dot="sdot" if has_dot else "neon",
    )


AARCH64 = _set("aarch64", "generic", _V8, _NEAR_32K)
CORTEX_A53 = _set("cortex-a53", "cortex-a53", _V8_CRC, _NEAR_32K)
# LLVM's model of the A53 unrolls loops over bytes, and spills in them; the generic one is in order
# too, and does neither.
CORTEX_A53_BYTES = replace(CORTEX_A53, mcpu="generic")
CORTEX_A72 = _set("cortex-a72", "cortex-a72", _V8_CRC, _NEAR_32K)
CORTEX_A76 = _set("cortex-a76", "cortex-a76", _V8_2, _NEAR_64K)
# Scheduled as for the A76, the first of its kind, without what dot products do not imply.
AARCH64_DOT = replace(
    CORTEX_A76,
    name="aarch64-dotprod",
    near_bytes=_NEAR_32K,
    requires=(*_V8, "asimddp"),
    features=(*CORTEX_A76.features, "-crc", "-lse", "-rdm", "-fullfp16", "-rcpc", "-ccpp"),
)
CORTEX_A78 = _set("cortex-a78ae", "cortex-a78ae", _V8_2, _NEAR_64K)
ARMV7_VFPV4 = InstructionSet(
    "armv7-vfpv4",
    _LINUX_32,
    "cortex-a7",
    4,
    16,
    _NEAR_32K,
    ("neon", "vfpv4", "idiva"),
    features=("+neon", "+vfp4", "-slowfpvfmx", "-slowfpvmlx"),
    dot="neon",
    float_abi="hard",
)
ARMV7_NEON = replace(
    ARMV7_VFPV4,
    name="armv7-neon",
    mcpu="cortex-a9",
    requires=("neon",),
    features=("+neon", "-slowfpvmlx"),
)

_EMULATOR_64 = Emulator("aarch64", "MAX")
_EMULATOR_32 = Emulator("arm", "CORTEX_A7")
_NEON = SpeedRule(
    "Cortex-A with NEON",
    {"fp32": 8, "fp16": 6, "w8": 5, "w4": 4, "int8": 24, "int8-full": 24},
    12,
    3.0,
    4.0,
    40,
)


def _processor(
    target: str, summary: str, *sets: InstructionSet, byte_sets: tuple[InstructionSet, ...] = ()
) -> Processor:
    return Processor(
        target,
        summary,
        sets,
        16,
        "aarch64",
        byte_sets=byte_sets,
        emulator=_EMULATOR_64,
        speed=(_NEON,),
    )


CORTEX_A = (
    _processor("aarch64", "any 64-bit ARM with Linux", AARCH64, byte_sets=(AARCH64_DOT, AARCH64)),
    _processor(
        "rpi3", "Raspberry Pi 3, Zero 2 W (64-bit)", CORTEX_A53, byte_sets=(CORTEX_A53_BYTES,)
    ),
    _processor("rpi4", "Raspberry Pi 4 (64-bit)", CORTEX_A72),
    _processor("rpi5", "Raspberry Pi 5", CORTEX_A76),
    _processor("jetson-orin", "Jetson Orin", CORTEX_A78),
    Processor(
        "armv7",
        "32-bit ARM with NEON and Linux",
        (ARMV7_VFPV4, ARMV7_NEON),
        8,
        "arm",
        emulator=_EMULATOR_32,
        speed=(_NEON,),
    ),
)
"""The entries."""
