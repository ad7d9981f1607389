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


PRODUCT = """
	ld.global.u32 %r3, [%rd4];
	ld.global.u32 %r4, [%rd4+256];
	ld.global.u32 %r5, [%rd4+512];
	ld.global.u32 %r6, [%rd4+768];
	ld.global.u32 %r7, [%rd4+1024];
	ld.global.u32 %r8, [%rd4+1280];
	ld.global.KIND SUM1, [%rd4+1536];
	ld.global.KIND SUM2, [%rd4+1792];
	ld.global.KIND SUM3, [%rd4+2048];
	ld.global.KIND SUM4, [%rd4+2304];
	mma.sync.aligned.SHAPE {SUM1, SUM2, SUM3, SUM4}, {%r3, %r4, %r5, %r6}, {%r7, %r8}, SUMS;
	st.global.KIND [%rd5], SUM1;
	st.global.KIND [%rd5+256], SUM2;
	st.global.KIND [%rd5+512], SUM3;
	st.global.KIND [%rd5+768], SUM4;
"""


@pytest.mark.parametrize(
    ("shape", "left", "right", "sums"),
    [
        ("m16n8k16.row.col.f32.f16.f16.f32", np.float16, np.float16, np.float32),
        ("m16n8k32.row.col.s32.s8.s8.s32", np.int8, np.int8, np.int32),
        ("m16n8k32.row.col.s32.u8.s8.s32", np.uint8, np.int8, np.int32),
    ],
)
def test_matrix_product_of_a_warp(shape: str, left: Any, right: Any, sums: Any) -> None:
    """Every element stands where PTX ISA says, "Matrix fragments for mma.m16n8k16", "... k32"."""
    rng = np.random.default_rng(3)
    each = 4 // np.dtype(left).itemsize
    a, b = (rng.integers(0, 256, (k, 64, 4)).astype(np.uint8) for k in (4, 2))
    if left is np.float16:
        a, b = (
            rng.normal(size=(k, 64, 2)).astype(left).view(np.uint8).reshape(k, 64, 4)
            for k in (4, 2)
        )
    c = rng.integers(-9, 9, (4, 64)).astype(sums)
    x = np.concatenate([a.reshape(-1), b.reshape(-1), c.view(np.uint8).reshape(-1)])
    y = np.zeros(256, np.float32)
    kind, register = ("f32", "%f") if sums is np.float32 else ("u32", "%r1")
    body = PRODUCT.replace("SUMS", "{SUM1, SUM2, SUM3, SUM4}").replace("SHAPE", shape)
    launch(body.replace("KIND", kind).replace("SUM", register), x.view(np.float32), y)
    found = y.view(sums).reshape(4, 2, 32)
    for warp in range(2):
        lanes = slice(32 * warp, 32 * warp + 32)
        a_parts = a[:, lanes].copy().view(left).reshape(4, 32, each)
        b_parts = b[:, lanes].copy().view(right).reshape(2, 32, each)
        exact = np.float64 if sums is np.float32 else np.int64
        matrix_a, matrix_b = np.zeros((16, 8 * each), exact), np.zeros((8 * each, 8), exact)
        for lane in range(32):
            group, member = lane >> 2, lane % 4
            for i in range(4 * each):
                row = group if i < each or 2 * each <= i < 3 * each else group + 8
                column = member * each + i % each + (4 * each if i >= 2 * each else 0)
                matrix_a[row, column] = a_parts[i // each, lane, i % each]
            for i in range(2 * each):
                row = member * each + i % each + (4 * each if i >= each else 0)
                matrix_b[row, group] = b_parts[i // each, lane, i % each]
        product = matrix_a @ matrix_b
        for lane in range(32):
            for i in range(4):
                row = (lane >> 2) + (8 if i >= 2 else 0)
                wanted = product[row, 2 * (lane % 4) + (i & 1)] + c[i, 32 * warp + lane]
                assert found[i, warp, lane] == pytest.approx(wanted, rel=1e-6)


def test_sums_of_bytes_wrap() -> None:
    """Beyond int32 they go on at the other end, as on the device."""
    a, b = np.full((4, 64), 0x7F7F7F7F, np.uint32), np.full((2, 64), 0x7F7F7F7F, np.uint32)
    c = np.full((4, 64), 0x7FFFFFFF, np.uint32)
    x, y = np.concatenate([part.reshape(-1) for part in (a, b, c)]), np.zeros(256, np.float32)
    body = PRODUCT.replace("SUMS", "{SUM1, SUM2, SUM3, SUM4}").replace("KIND", "u32")
    body = body.replace("SHAPE", "m16n8k32.row.col.s32.s8.s8.s32").replace("SUM", "%r1")
    launch(body, x.view(np.float32), y)
    np.testing.assert_array_equal(y.view(np.int32), -(2**31) - 1 + 32 * 127 * 127)


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
