"""x86-64 with Linux: several instruction sets in one artifact, chosen where it is loaded."""

from __future__ import annotations

from dataclasses import replace

from edgelstm.engines.cpu_features import cpu_flags
from edgelstm_compiler.processor import Emulator, SpeedRule
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.processors.processor import Processor

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
    features=("+avx512vnni", "+fast-dpwssd"),
    dot="vnni",
)
X86_64_V3_VNNI = replace(
    X86_64_V3,
    name="x86-64-v3-vnni",
    requires=(*_V3, "avx_vnni"),
    features=("+avxvnni", "+fast-dpwssd"),
    dot="vnni",
)
X86_64_DOT = (X86_64_V4_VNNI, X86_64_V4, X86_64_V3_VNNI, X86_64_V3, X86_64_V2)
"""Best first, for programs with products of bytes."""

X86_64 = (X86_64_V4, X86_64_V3, X86_64_V2)
"""Best first."""

_VNNI = SpeedRule(
    "x86-64 with VNNI",
    {"fp32": 32, "fp16": 16, "w8": 16, "w4": 12, "int8": 128, "int8-full": 128},
    32,
    1.0,
    1.5,
    30,
    requires=("avx512_vnni",),
)
_AVX2 = SpeedRule(
    "x86-64 with AVX2",
    {"fp32": 16, "fp16": 8, "w8": 8, "w4": 6, "int8": 24, "int8-full": 24},
    32,
    1.2,
    2.5,
    40,
)
HOST = Processor(
    "host",
    "x86-64 with Linux",
    X86_64,
    16,
    "x86_64",
    byte_sets=X86_64_DOT,
    other_sets=("native",),
    weight_offset=128,  # vpdpbusd takes unsigned bytes
    emulator=Emulator("x86_64", "NEHALEM"),
    speed=(_VNNI, replace(_VNNI, requires=("avx_vnni",)), _AVX2),
)

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


def native(mcpu: str) -> InstructionSet | None:
    """This machine's own instruction set under its LLVM processor name, or None if it has none."""
    flags = cpu_flags()
    for base in X86_64:
        if flags.issuperset(base.requires):
            requires = (*base.requires, *sorted(flags & _NATIVE_FLAGS))
            vnni = {16: "avx512_vnni", 8: "avx_vnni"}.get(base.lanes)
            dot = "vnni" if vnni in flags else base.dot
            return replace(base, name="native", mcpu=mcpu, requires=requires, dot=dot)
    return None
