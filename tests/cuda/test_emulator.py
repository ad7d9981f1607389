"""The emulator itself: what it computes, and what it does not let pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cuda.emulator.machine import DeadlockError, EndlessError, Launch, Machine
from tests.cuda.emulator.memory import MemoryFaultError

Array = NDArray[Any]
HEAD = """
.extern .shared .align 128 .b8 area[];
.visible .entry k(
	.param .u64 p0,
	.param .u64 p1
)
.maxntid 64, 1, 1
{
	.reg .pred %p<4>;
	.reg .f32 %f<8>;
	.reg .b32 %r<16>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [p0];
	ld.param.u64 %rd2, [p1];
	mov.u32 %r1, %tid.x;
	mul.wide.u32 %rd3, %r1, 4;
	add.s64 %rd4, %rd1, %rd3;
	add.s64 %rd5, %rd2, %rd3;
"""


def launch(body: str, x: Array, y: Array, seed: int | None = None, **sizes: int) -> None:
    """Run a body on x and y, one block of 64 threads unless sizes say otherwise."""
    shape = Launch(**{"grid": 1, "block": 64, "shared_bytes": 512, **sizes})
    Machine(HEAD + body + "\n\tret;\n}\n", "k", shape, [x, y], seed).run(limit=2000)


def test_arithmetic_and_memory() -> None:
    """Loads, a fused multiply-add, a predicated store."""
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    launch(
        """
	ld.global.f32 %f1, [%rd4];
	fma.rn.f32 %f2, %f1, %f1, 0f3F800000;
	setp.lt.u32 %p1, %r1, 32;
	@%p1 st.global.f32 [%rd5], %f2;
""",
        x,
        y,
    )
    np.testing.assert_array_equal(y, np.where(np.arange(64) < 32, x * x + 1, 0))


def test_shuffle_within_warps() -> None:
    """A butterfly exchanges neighbours."""
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    launch(
        """
	ld.global.f32 %f1, [%rd4];
	shfl.sync.bfly.b32 %f2, %f1, 1, 31, -1;
	st.global.f32 [%rd5], %f2;
""",
        x,
        y,
    )
    np.testing.assert_array_equal(y, np.arange(64) ^ 1)


SWAP = """
	ld.global.f32 %f1, [%rd4];
	mov.u64 %rd6, area;
	add.s64 %rd7, %rd6, %rd3;
	st.shared.f32 [%rd7], %f1;
	BARRIER
	xor.b32 %r2, %r1, 32;
	mul.wide.u32 %rd3, %r2, 4;
	add.s64 %rd7, %rd6, %rd3;
	bra.uni $L1;
$L1:
	ld.shared.f32 %f2, [%rd7];
	st.global.f32 [%rd5], %f2;
"""


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_a_barrier_joins_warps(seed: int | None) -> None:
    """With a barrier, each warp reads what the other wrote, in any order."""
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    launch(SWAP.replace("BARRIER", "barrier.sync.aligned 0, 64;"), x, y, seed)
    np.testing.assert_array_equal(y, np.arange(64) ^ 32)


def test_a_missing_barrier_shows() -> None:
    """Without it, some order reads what is not there yet."""
    results = []
    for seed in range(4):
        x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
        launch(SWAP.replace("BARRIER", ""), x, y, seed)
        results.append(np.array_equal(y, np.arange(64) ^ 32))
    assert not all(results)


def test_a_barrier_that_not_all_reach_is_a_deadlock() -> None:
    """One warp waits, the other has ended."""
    body = """
	setp.lt.u32 %p1, %r1, 32;
	@%p1 bra $L1;
	ret;
$L1:
	barrier.sync.aligned 0, 64;
"""
    with pytest.raises(DeadlockError, match="32 threads at barriers"):
        launch(body, np.zeros(64, np.float32), np.zeros(64, np.float32))


def test_a_word_that_nobody_writes_is_endless() -> None:
    """Polling for ever is reported."""
    body = """
$L1:
	ld.relaxed.gpu.global.u32 %r3, [%rd1];
	setp.eq.s32 %p1, %r3, 0;
	@%p1 bra $L1;
"""
    with pytest.raises(EndlessError):
        launch(body, np.zeros(64, np.float32), np.zeros(64, np.float32))


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("ld.global.f32 %f1, [%rd4+256];", "outside of the arrays"),
        ("ld.global.f32 %f1, [%rd4+2];", "misaligned"),
        ("st.shared.f32 [%rd3+512], %f1;", "shared address"),
        ("ld.global.v4.f32 {%f1,%f2,%f3,%f4}, [%rd4+4];", "misaligned"),
    ],
)
def test_memory_faults_are_trapped(instruction: str, message: str) -> None:
    """Accesses out of bounds or not aligned stop the run."""
    x = np.zeros(64, np.float32)
    with pytest.raises(MemoryFaultError, match=message):
        launch(f"\t{instruction}", x, np.zeros(64, np.float32))


def test_peers_of_a_cluster() -> None:
    """A store into the other block's shared memory arrives at the cluster's barrier."""
    y = np.zeros(128, np.float32)
    body = """
	mov.u32 %r5, %ctaid.x;
	mov.u64 %rd6, area;
	cvt.u32.u64 %r6, %rd6;
	xor.b32 %r7, %r5, 1;
	cvt.rn.f32.u32 %f1, %r5;
	{ .reg .pred p; .reg .u32 a; setp.ne.u32 p, 1, 0; mapa.shared::cluster.u32 a, %r6, %r7; """
    body += """@p st.shared::cluster.f32 [a], %f1; }
	barrier.cluster.arrive.release.aligned;
	barrier.cluster.wait.acquire.aligned;
	ld.shared.f32 %f2, [%rd6];
	mul.wide.u32 %rd3, %r5, 256;
	add.s64 %rd5, %rd5, %rd3;
	st.global.f32 [%rd5], %f2;
"""
    launch(body, np.zeros(64, np.float32), y, 1, grid=2, cluster=2)
    np.testing.assert_array_equal(y, np.repeat([1.0, 0.0], 64))


def test_matrix_product_of_a_warp() -> None:
    """Ones times ones: each sum is the depth of the product."""
    y = np.zeros(64, np.float32)
    ones = "%r3, %r3, %r3, %r3"
    body = f"""
	mov.u32 %r3, 1006648320;
	mov.f32 %f1, 0f3F800000;
	mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{%f2, %f3, %f4, %f5}}, {{{ones}}}, """
    body += """{%r3, %r3}, {%f1, %f1, %f1, %f1};
	st.global.f32 [%rd5], %f5;
"""
    launch(body, np.zeros(64, np.float32), y)
    np.testing.assert_array_equal(y, np.full(64, 17.0))


WORDS = """
	ld.global.u32 %r3, [%rd4];
	mul.wide.u32 %rd6, %r1, 4;
	add.s64 %rd7, %rd1, %rd6;
	ld.global.u32 %r4, [%rd7+256];
	INSTRUCTION
	st.global.u32 [%rd5], %r5;
"""


def of_words(instruction: str, a: Array, b: Array) -> Array:
    """What an instruction makes of 64 words a in %r3 and b in %r4, in %r5, as int32."""
    y = np.zeros(64, np.float32)
    x = np.concatenate([a.view(np.uint8).reshape(-1), b.view(np.uint8).reshape(-1)]).view(
        np.float32
    )
    launch(WORDS.replace("INSTRUCTION", instruction), x, y)
    return y.view(np.int32)


def test_dot_products_of_bytes_and_pairs() -> None:
    """dp4a: four bytes; dp2a: two int16 with the lower, or the upper, two bytes, of either sign."""
    rng = np.random.default_rng(0)
    a8, b8 = (rng.integers(-128, 128, (64, 4)).astype(np.int8) for _ in range(2))
    a16 = rng.integers(-32768, 32768, (64, 2)).astype(np.int16)
    four = of_words("dp4a.s32.s32 %r5, %r3, %r4, 7;", a8, b8)
    low = of_words("dp2a.lo.s32.s32 %r5, %r3, %r4, 0;", a16, b8)
    high = of_words("dp2a.hi.s32.s32 %r5, %r3, %r4, -1;", a16, b8)
    positive = of_words("dp2a.lo.s32.u32 %r5, %r3, %r4, 64;", a16, b8)
    wide, pairs = b8.astype(np.int32), a16.astype(np.int32)
    np.testing.assert_array_equal(four, (a8.astype(np.int32) * wide).sum(1) + 7)
    np.testing.assert_array_equal(low, (pairs * wide[:, :2]).sum(1))
    np.testing.assert_array_equal(high, (pairs * wide[:, 2:]).sum(1) - 1)
    np.testing.assert_array_equal(positive, (pairs * (wide[:, :2] & 255)).sum(1) + 64)


def test_bytes_are_permuted() -> None:
    """Digits of the selector choose among the bytes of both words; bit 3 spreads a sign."""
    a, b = np.full(64, 0x8544_3322, np.uint32), np.full(64, 0x0011_AABB, np.uint32)
    found = of_words("prmt.b32 %r5, %r3, %r4, 0x7B50;", a, b).view(np.uint32)
    np.testing.assert_array_equal(found, 0x00FF_AA22)


def test_halves_of_a_word() -> None:
    """Two half-precision numbers become float32."""
    a = np.tile(np.array([1.5, -0.25], np.float16), (64, 1))
    halves = "{ .reg .b16 low; .reg .b16 high; mov.b32 {low,high}, %r3; cvt.f32.f16 %f1, high; }"
    found = of_words(f"{halves}\n\tmov.b32 %r5, %f1;", a, a).view(np.float32)
    np.testing.assert_array_equal(found, -0.25)


def test_halves_and_coarse_tangents() -> None:
    """Two values in one word, the first one above; tanh.approx keeps 11 bits and no more."""
    x, y = np.linspace(-3, 3, 64, dtype=np.float32), np.zeros(64, np.float32)
    pack = "\tld.global.f32 %f1, [%rd4];\n\tcvt.rn.f16x2.f32 %r3, 0f3F800000, %f1;\n"
    launch(pack + "\tst.global.b32 [%rd5], %r3;", x, y)
    halves = y.view(np.float16).reshape(64, 2)
    np.testing.assert_array_equal(halves[:, 0], x.astype(np.float16))
    np.testing.assert_array_equal(halves[:, 1], np.ones(64))
    tangent = "\tld.global.f32 %f1, [%rd4];\n\ttanh.approx.f32 %f2, %f1;\n"
    launch(tangent + "\tst.global.f32 [%rd5], %f2;", x, y)
    error = np.max(np.abs(y / np.tanh(x.astype(np.float64)) - 1))
    assert 2**-13 < error <= 2**-11
