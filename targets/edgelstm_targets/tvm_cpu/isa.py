"""The instruction sets that kernels are written against, and what a processor needs to run them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """What a kernel has to know of a processor.

    Args:
        name: as in the artifact's section `code/NAME`.
        triple: LLVM target triple.
        mcpu: LLVM processor name.
        lanes: fp32 elements of a vector register.
        registers: vector registers.
        near_bytes: weights up to this size stay in the first-level cache.
        requires: flags in /proc/cpuinfo without which the code must not be run.
        features: LLVM features beyond those of `mcpu`.
        dot: how bytes are multiplied (`dot`): "madd" (pmaddubsw), "vnni" (vpdpbusd), "sdot",
            "neon" (smull, smlal), "dsp" (smlad), "helium" (vmladava), "multiply" one by one, "" by
            plain multiplications of vectors.
        gather: reads from tables: "avx2", "avx512", or "" one by one.
        has_half: converts vectors of half to float32 (F16C).
        float_abi: "hard" where floats are passed in registers of their own; "" where LLVM knows.
        vector_bits: width of a vector register for TVM; 0 where TVM knows.
    """

    name: str
    triple: str
    mcpu: str
    lanes: int
    registers: int
    near_bytes: int
    requires: tuple[str, ...]
    features: tuple[str, ...] = ()
    dot: str = ""
    gather: str = ""
    has_half: bool = False
    float_abi: str = ""
    vector_bits: int = 0

    @property
    def is_bare(self) -> bool:
        """For a processor without an operating system."""
        return "-none-" in self.triple

    def units(self, accumulators: int, unit_block: int) -> int:
        """Units that are computed at once: as many as leave half of the registers free."""
        units = unit_block
        while units > self.lanes and accumulators * units // self.lanes > self.registers // 2:
            units //= 2
        return units

    def splits(self, accumulators: int, units: int) -> int:
        """Sums per accumulator that are computed side by side, to hide the latency of an addition.

        Eight independent chains keep two pipes of latency four busy; where registers allow for
        more, shorter sums are nearer to the exact ones.
        """
        chains = max(1, accumulators * units // self.lanes)
        splits = 1
        while splits * chains < max(8, self.registers // 2):
            splits *= 2
        return splits


_NEAR = 24 * 1024
_TRIPLE = "x86_64-unknown-linux-gnu"
_V2 = ("cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2")
_V3 = (*_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
X86_64_V2 = InstructionSet("x86-64-v2", _TRIPLE, "x86-64-v2", 4, 16, _NEAR, _V2, dot="madd")
X86_64_V3 = InstructionSet(
    "x86-64-v3", _TRIPLE, "x86-64-v3", 8, 16, _NEAR, _V3, dot="madd", gather="avx2", has_half=True
)
X86_64_V4 = InstructionSet(
    "x86-64-v4",
    _TRIPLE,
    "x86-64-v4",
    16,
    32,
    _NEAR,
    _V4,
    dot="madd",
    gather="avx512",
    has_half=True,
)
X86_64_V4_VNNI = replace(
    X86_64_V4,
    name="x86-64-v4-vnni",
    requires=(*_V4, "avx512_vnni"),
    features=("+avx512vnni",),
    dot="vnni",
)
X86_64_V3_VNNI = replace(
    X86_64_V3,
    name="x86-64-v3-vnni",
    requires=(*_V3, "avx_vnni"),
    features=("+avxvnni",),
    dot="vnni",
)
X86_64_DOT = (X86_64_V4_VNNI, X86_64_V4, X86_64_V3_VNNI, X86_64_V3, X86_64_V2)
"""Best first, for programs with products of bytes."""

X86_64 = (X86_64_V4, X86_64_V3, X86_64_V2)
"""Best first."""

# Further flags of processors that LLVM may make use of when it is told the processor's name.
_NATIVE_FLAGS = frozenset(
    [
        "adx",
        "aes",
        "avx512_bf16",
        "avx512_bitalg",
        "avx512_fp16",
        "avx512_vbmi2",
        "avx512_vnni",
        "avx512_vp2intersect",
        "avx512_vpopcntdq",
        "avx512ifma",
        "avx512vbmi",
        "avx_vnni",
        "clzero",
        "fma4",
        "fsgsbase",
        "gfni",
        "movdir64b",
        "movdiri",
        "pclmulqdq",
        "prfchw",
        "rdpid",
        "rdrand",
        "rdseed",
        "sha_ni",
        "sse4a",
        "tbm",
        "vaes",
        "vpclmulqdq",
        "xop",
        "xsavec",
        "xsaveopt",
        "xsaves",
    ]
)


def host_flags() -> frozenset[str]:
    """The flags of this machine's processor; empty where they cannot be read."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def native(mcpu: str) -> InstructionSet | None:
    """This machine's own instruction set under its LLVM processor name, or None if it has none."""
    flags = host_flags()
    for base in X86_64:
        if flags.issuperset(base.requires):
            requires = (*base.requires, *sorted(flags & _NATIVE_FLAGS))
            vnni = {16: "avx512_vnni", 8: "avx_vnni"}.get(base.lanes)
            dot = "vnni" if vnni in flags else base.dot
            return replace(base, name="native", mcpu=mcpu, requires=requires, dot=dot)
    return None
