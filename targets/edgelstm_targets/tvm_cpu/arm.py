"""The ARM processors that there are targets for: what kernels know of them, what they need to run.

A further processor is one more entry in `PROCESSORS` and one line in pyproject.toml. Further levels
of one processor (dot products of bytes, half precision) are further instruction sets, best first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_targets.tvm_cpu.isa import InstructionSet

_LINUX_64 = "aarch64-unknown-linux-gnu"
_LINUX_32 = "armv7a-unknown-linux-gnueabihf"
_NEAR_32K, _NEAR_64K = 24 * 1024, 48 * 1024
# No cache in front of the weights, and little stack: vectors are never put together there.
_ALWAYS_NEAR = 1 << 40
# Weights of int8-full one unit at a time, as the ways in `dot` want them: `multiply.py` on a
# Cortex-M0+, on an M3, `dsp.py`, `helium.py`. Without a cache there is no use in wider lines.
_UNSIGNED = BytePacking(1, (128,), line=4, vector_bytes=4)
_SIGNED = BytePacking(1, (0,), line=4, vector_bytes=2)
_PAIRS = BytePacking(1, (128, 0), line=4, vector_bytes=2)
_REGISTERS = BytePacking(1, (0,), group=16, line=4, vector_bytes=2)
_V8 = ("fp", "asimd")
_V8_CRC = (*_V8, "crc32")
_V8_2 = (*_V8_CRC, "atomics", "asimdrdm", "fphp", "asimdhp", "lrcpc", "dcpop", "asimddp")


def _cortex_a(name: str, mcpu: str, requires: tuple[str, ...], near: int) -> InstructionSet:
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


def _cortex_m(
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


AARCH64 = _cortex_a("aarch64", "generic", _V8, _NEAR_32K)
CORTEX_A53 = _cortex_a("cortex-a53", "cortex-a53", _V8_CRC, _NEAR_32K)
# LLVM's model of the A53 unrolls loops over bytes, and spills in them; the generic one is in order
# too, and does neither.
CORTEX_A53_BYTES = replace(CORTEX_A53, mcpu="generic")
CORTEX_A72 = _cortex_a("cortex-a72", "cortex-a72", _V8_CRC, _NEAR_32K)
CORTEX_A76 = _cortex_a("cortex-a76", "cortex-a76", _V8_2, _NEAR_64K)
# Scheduled as for the A76, the first of its kind, without what dot products do not imply.
AARCH64_DOT = replace(
    CORTEX_A76,
    name="aarch64-dotprod",
    near_bytes=_NEAR_32K,
    requires=(*_V8, "asimddp"),
    features=(*CORTEX_A76.features, "-crc", "-lse", "-rdm", "-fullfp16", "-rcpc", "-ccpp"),
)
CORTEX_A78 = _cortex_a("cortex-a78ae", "cortex-a78ae", _V8_2, _NEAR_64K)
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
CORTEX_M0PLUS = _cortex_m("cortex-m0plus", "thumbv6m", 1, 8, "multiply")
CORTEX_M3 = _cortex_m("cortex-m3", "thumbv7m", 1, 12, "multiply")
# FPv4-SP and FPv5-SP: 32 registers of one float. Many M7 lack double precision.
CORTEX_M4 = _cortex_m("cortex-m4", "thumbv7em", 1, 32, "dsp")
CORTEX_M7 = _cortex_m("cortex-m7", "thumbv7em", 1, 32, "dsp", ("-fp64",))
CORTEX_M33 = _cortex_m("cortex-m33", "thumbv8m.main", 1, 32, "dsp")
# Helium (MVE): eight registers of four floats, one of them multiplied with a core register.
CORTEX_M55 = _cortex_m("cortex-m55", "thumbv8.1m.main", 4, 8, "helium")


@dataclass(frozen=True, slots=True)
class Processor:
    """What a target compiles for.

    Args:
        target: the target's name.
        summary: what it is, for people.
        sets: instruction sets, best first.
        unit_block: units per block of packed weights, so that sums fill half of the registers.
        machine: as in `edgelstm.engines.cpu_features.machine()`; "" without an operating system.
        has_float: it has a floating-point unit.
        byte_sets: in place of `sets`, for programs with products of bytes; (): the same.
        packing: of the weights of int8-full; None: in blocks of unit_block.
    """

    target: str
    summary: str
    sets: tuple[InstructionSet, ...]
    unit_block: int
    machine: str
    has_float: bool = True
    byte_sets: tuple[InstructionSet, ...] = ()
    packing: BytePacking | None = None

    @property
    def is_emulated(self) -> bool:
        """Whether `verify --emulate` runs its code: Unicorn does not know Helium."""
        return all(isa.dot != "helium" for isa in self.sets)


def _microcontroller(
    summary: str, isa: InstructionSet, packing: BytePacking, has_float: bool = True
) -> Processor:
    return Processor(isa.name, summary, (isa,), 4, "", has_float, packing=packing)


PROCESSORS = {
    processor.target: processor
    for processor in (
        Processor(
            "aarch64",
            "any 64-bit ARM with Linux",
            (AARCH64,),
            16,
            "aarch64",
            byte_sets=(AARCH64_DOT, AARCH64),
        ),
        Processor(
            "rpi3",
            "Raspberry Pi 3, Zero 2 W (64-bit)",
            (CORTEX_A53,),
            16,
            "aarch64",
            byte_sets=(CORTEX_A53_BYTES,),
        ),
        Processor("rpi4", "Raspberry Pi 4 (64-bit)", (CORTEX_A72,), 16, "aarch64"),
        Processor("rpi5", "Raspberry Pi 5", (CORTEX_A76,), 16, "aarch64"),
        Processor("jetson-orin", "Jetson Orin", (CORTEX_A78,), 16, "aarch64"),
        Processor("armv7", "32-bit ARM with NEON and Linux", (ARMV7_VFPV4, ARMV7_NEON), 8, "arm"),
        _microcontroller("ARMv6-M, whole numbers only", CORTEX_M0PLUS, _UNSIGNED, False),
        _microcontroller("ARMv7-M, whole numbers only", CORTEX_M3, _SIGNED, False),
        _microcontroller("ARMv7E-M with FPU", CORTEX_M4, _PAIRS),
        _microcontroller("ARMv7E-M with FPU", CORTEX_M7, _PAIRS),
        _microcontroller("ARMv8-M with FPU", CORTEX_M33, _PAIRS),
        _microcontroller("ARMv8.1-M with Helium", CORTEX_M55, _REGISTERS),
    )
}
"""By name of the target."""
