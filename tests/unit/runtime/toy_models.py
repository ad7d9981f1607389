"""Tiny models made by hand: a leaky sum as C code and as a reference program.

`leaky`: one input x (2,), one output y (2,), state s (2,): s = 0.5 * s + w * x, y = s.
`pair`: inputs a (2,) f32 and k () i32, outputs total (2,) f32 and count () i32, with a gap in both
blocks; states sum (2,) f32 and n () i32: sum += a, n += k.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.signature import Signature, StateSpec, TensorSpec

C_COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_cc = pytest.mark.skipif(
    C_COMPILER is None or not sys.platform.startswith("linux"),
    reason="needs a C compiler on Linux (the toy models' native code)",
)

WEIGHTS = np.array([2.0, -1.0], np.float32)

LEAKY_C = """
#include <stdint.h>
#include <string.h>
static int finite_f(const float *p, int n) {
  for (int i = 0; i < n; ++i) {
    uint32_t bits;
    memcpy(&bits, p + i, 4);
    if ((bits & 0x7f800000u) == 0x7f800000u) return 0;
  }
  return 1;
}
static void advance(const float *w, float *s, const float *x, float *y) {
  for (int i = 0; i < 2; ++i) s[i] = y[i] = GAIN * s[i] + w[i] * x[i];
}
int32_t leaky_step(const void *w, void *s, void *t, const void *x, void *y) {
  (void)t;
  if (!finite_f(x, 2)) return -1;
  advance(w, s, x, y);
  return 1;
}
int32_t leaky_run(const void *w, void *s, void *t, const void *x, void *y, int64_t n) {
  (void)t;
  if (!finite_f(x, 2 * (int)n)) return -1;
  for (int64_t i = 0; i < n; ++i) advance(w, s, (const float *)x + 2 * i, (float *)y + 2 * i);
  return 0;
}
int64_t leaky_read(const void *w, int64_t bytes, int64_t repeats) {
  const volatile unsigned char *p = w;
  int64_t sum = 0;
  for (int64_t r = 0; r < repeats; ++r) for (int64_t i = 0; i < bytes; ++i) sum += p[i];
  return sum;
}
int64_t leaky_alignment(const void *w, void *s, void *t) {
  return ((intptr_t)w | (intptr_t)s | (intptr_t)t) % 64;
}
"""

PAIR_C = """
#include <stdint.h>
struct in { int32_t k; int32_t gap; float a[2]; };
struct out { float total[2]; int32_t count; int32_t gap; };
struct state { float sum[2]; int32_t n; };
static int bad(const struct in *x) {
  for (int i = 0; i < 2; ++i) if (!(x->a[i] - x->a[i] == 0)) return 1;
  return 0;
}
static void advance(struct state *s, const struct in *x, struct out *y) {
  for (int i = 0; i < 2; ++i) y->total[i] = s->sum[i] += x->a[i];
  y->count = s->n += x->k;
}
int32_t pair_step(const void *w, void *s, void *t, const void *x, void *y) {
  (void)w; (void)t;
  if (bad(x)) return -2;
  advance(s, x, y);
  return 3;
}
int32_t pair_run(const void *w, void *s, void *t, const void *x, void *y, int64_t n) {
  (void)w; (void)t;
  for (int64_t i = 0; i < n; ++i) if (bad((const struct in *)x + i)) return -2;
  for (int64_t i = 0; i < n; ++i)
    advance(s, (const struct in *)x + i, (struct out *)y + i);
  return 0;
}
"""

F32, I32 = DType.F32, DType.I32

LEAKY = Signature(
    name="leaky",
    mode="stream",
    inputs=(TensorSpec("x", F32, (2,), 0, (1, 1, 2), time_axis=0),),
    outputs=(TensorSpec("y", F32, (2,), 0, (1, 1, 2), time_axis=0),),
    states=(StateSpec("s", F32, (2,), 0),),
    input_bytes=8,
    output_bytes=8,
)
PAIR = Signature(
    name="pair",
    mode="stream",
    inputs=(TensorSpec("k", I32, (), 0, ()), TensorSpec("a", F32, (2,), 8, (1, 2))),
    outputs=(TensorSpec("total", F32, (2,), 0, (2,)), TensorSpec("count", I32, (), 8, ())),
    states=(StateSpec("sum", F32, (2,), 0), StateSpec("n", I32, (), 8)),
    input_bytes=16,
    output_bytes=16,
)


@lru_cache
def compile_c(source: str, *flags: str) -> bytes:
    """A shared object made by the system's C compiler."""
    assert C_COMPILER is not None
    with TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "code.c").write_text(source)
        options = ["-O2", "-shared", "-fPIC", "-nostdlib", *flags]
        command = [C_COMPILER, *options, "-o", str(path / "code.so"), str(path / "code.c")]
        subprocess.run(command, check=True, capture_output=True)
        return (path / "code.so").read_bytes()


def leaky_native(gain: float = 0.5, weights: np.ndarray = WEIGHTS, **changes: Any) -> Artifact:
    """The leaky sum as native code."""
    isa = platform.machine().replace("_", "-")
    settings: dict[str, Any] = {
        "signature": LEAKY,
        "engine": "native",
        "target": "host",
        "weights": weights.tobytes(),
        "state_init": bytes(8),
        "scratch_bytes": 0,
        "sections": {f"code/{isa}": compile_c(LEAKY_C, f"-DGAIN={gain}f")},
        "header": "/* leaky */\n",
        "facts": {"isas": [{"section": f"code/{isa}", "requires": []}]},
        "source": {"sha256": "ab" * 32, "file": "leaky.onnx"},
        "macs": 2,
        "layers": [{"name": "sum", "kind": "Leaky", "params": 2, "macs": 2}],
    }
    return Artifact.create(**{**settings, **changes})


def leaky_program() -> dict[str, Any]:
    """The leaky sum as a reference program."""
    binary = [("mul", ["s0", "gain"], "fading"), ("mul", ["x", "w"], "fresh")]
    nodes = [
        {"op": "Binary", "fields": {"arithmetic": fn}, "inputs": inputs, "outputs": [output]}
        for fn, inputs, output in [*binary, ("add", ["fading", "fresh"], "s1")]
    ]
    return {
        "inputs": [{"name": "x", "value": "x"}],
        "states": [{"name": "s", "read": "s0", "write": "s1"}],
        "outputs": [{"name": "y", "value": "s1"}],
        "constants": [
            {"value": "w", "dtype": "f32", "shape": [2], "offset_bytes": 0},
            {"value": "gain", "dtype": "f32", "shape": [], "offset_bytes": 8},
        ],
        "nodes": nodes,
    }


def leaky_reference(**changes: Any) -> Artifact:
    """The leaky sum as a reference program."""
    settings: dict[str, Any] = {
        "signature": LEAKY,
        "engine": "reference",
        "target": "reference",
        "weights": WEIGHTS.tobytes() + np.float32(0.5).tobytes(),
        "state_init": bytes(8),
        "scratch_bytes": 0,
        "sections": {"program": json.dumps(leaky_program()).encode()},
        "source": {"sha256": "ab" * 32, "file": "leaky.onnx"},
        "macs": 2,
    }
    return Artifact.create(**{**settings, **changes})


def pair_native() -> Artifact:
    """Two inputs and two outputs as native code."""
    return Artifact.create(
        signature=PAIR,
        engine="native",
        target="host",
        weights=b"",
        state_init=np.array([1, 1], np.float32).tobytes() + np.int32(7).tobytes(),
        scratch_bytes=0,
        sections={"code/any": compile_c(PAIR_C)},
    )


def pair_reference() -> Artifact:
    """Two inputs and two outputs as a reference program."""
    add = {"op": "Binary", "fields": {"arithmetic": "add"}}
    program = {
        "inputs": [{"name": "k", "value": "k"}, {"name": "a", "value": "a"}],
        "states": [
            {"name": "sum", "read": "sum0", "write": "sum1"},
            {"name": "n", "read": "n0", "write": "n1"},
        ],
        "outputs": [{"name": "total", "value": "sum1"}, {"name": "count", "value": "n1"}],
        "constants": [],
        "nodes": [
            {**add, "inputs": ["sum0", "a"], "outputs": ["sum1"]},
            {**add, "inputs": ["n0", "k"], "outputs": ["n1"]},
        ],
    }
    return Artifact.create(
        signature=PAIR,
        engine="reference",
        target="reference",
        weights=b"",
        state_init=np.array([1, 1], np.float32).tobytes() + np.int32(7).tobytes(),
        scratch_bytes=0,
        sections={"program": json.dumps(program).encode()},
    )


def double_call() -> Artifact:
    """A call-mode model: y (3, 2) = x + x."""
    add = {"op": "Binary", "fields": {"arithmetic": "add"}}
    program = {
        "inputs": [{"name": "x", "value": "x"}],
        "states": [],
        "outputs": [{"name": "y", "value": "y"}],
        "constants": [],
        "nodes": [
            {**add, "inputs": ["x", "x"], "outputs": ["y"]},
        ],
    }
    signature = Signature(
        name="double",
        mode="call",
        inputs=(TensorSpec("x", F32, (3, 2), 0, (3, 2)),),
        outputs=(TensorSpec("y", F32, (3, 2), 0, (3, 2)),),
        states=(),
        input_bytes=24,
        output_bytes=24,
    )
    return Artifact.create(
        signature=signature,
        engine="reference",
        target="reference",
        weights=b"",
        state_init=b"",
        scratch_bytes=0,
        sections={"program": json.dumps(program).encode()},
    )


def leaky_expected(frames: np.ndarray, state: np.ndarray | None = None) -> np.ndarray:
    """What the leaky sum gives for a sequence."""
    s = np.zeros(2, np.float32) if state is None else state
    rows = []
    for frame in frames:
        s = (np.float32(0.5) * s + WEIGHTS * frame).astype(np.float32)
        rows.append(s)
    return np.array(rows, np.float32).reshape(len(frames), 2)
