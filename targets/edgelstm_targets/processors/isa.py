"""What kernels have to know of an instruction set, and what a processor needs to run their code."""

from __future__ import annotations

from dataclasses import dataclass


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
        dot: how bytes are multiplied (`tvm_cpu/dot`): "madd" (pmaddubsw), "vnni" (vpdpbusd),
            "sdot", "neon" (smull, smlal), "dsp" (smlad), "helium" (vmladava), "multiply" one by
            one, "" by plain multiplications of vectors.
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

    @property
    def keeps_vectors(self) -> bool:
        """Whether prepared vectors stand in the workspace, those of many columns at once."""
        return False

    @property
    def has_fma(self) -> bool:
        """Whether a*b + c of floats is rounded once: since AVX2 and VFPv4."""
        flag = {"x86_64": "fma", "armv7a": "vfpv4"}.get(self.triple.partition("-")[0])
        return flag is None or flag in self.requires

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
