"""Many streams on Cortex-A: what steps them together gives what single steps give, in QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm_compiler import compile_model
from tests.arm.c_project import USER_MODE, run, tool
from tests.models import stacked_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

STREAMS, FRAMES, FEATURES = 9, 3, 5
CASES = {
    "fp32": ("aarch64", None, "aarch64"),
    "w4": ("aarch64", "w4", "aarch64"),
    "int8-full": ("aarch64", "int8-full", "aarch64"),
    "int8-full by dot products": ("aarch64", "int8-full", "aarch64-dotprod"),
    "int8 by dot products": ("rpi5", "int8", "cortex-a76"),
    "fp32 in 32 bits": ("armv7", None, "armv7-vfpv4"),
    "int8-full in 32 bits": ("armv7", "int8-full", "armv7-neon"),
}
"""Target, scheme and instruction set."""

MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { N = %(streams)d, T = %(frames)d, STATE = %(state)d, IN = %(input)d, OUT = %(output)d,
       STRIDE = (STATE + 127) / 64 * 64, SCRATCH = %(scratch)d, WEIGHTS = %(weights)d };
int32_t net_run(const void *, void *, void *, const void *, void *, int64_t);
int64_t net_batch(const void *, void *, void *, const void *, void *, const int32_t *, int32_t *,
                  int64_t, int64_t, const int64_t *);
extern const int64_t net_batch_sizes[7];
static void *room(size_t size) {
  void *block = aligned_alloc(64, (size + 63) / 64 * 64);
  memset(block, 0, size);
  return block;
}
static void *load(const char *path, size_t size) {
  void *block = room(size);
  FILE *file = fopen(path, "rb");
  if (file == NULL || fread(block, 1, size, file) != size) exit(1);
  fclose(file);
  return block;
}
int main(int argc, char **argv) {
  if (argc != 4) return 2;
  void *weights = load(argv[1], WEIGHTS), *scratch = room(SCRATCH);
  char *init = load(argv[2], STATE), *x = load(argv[3], N * T * IN);
  char *states = room(N * STRIDE), *y = room(N * T * OUT);
  char *one = room(T * IN), *own = room(T * OUT);
  int32_t places[N], codes[N];
  const int64_t strides[5] = {STRIDE, IN, N * IN, OUT, N * OUT};
  for (int i = 0; i < N; i++) {
    places[i] = i;
    memcpy(states + i * STRIDE, init, STATE);
  }
  void *large = room(net_batch_sizes[1]);
  if (net_batch(weights, states, large, x, y, places, codes, N, T, strides) != 0) return 3;
  double most = 0;
  for (int i = 0; i < N; i++) {
    char *state = load(argv[2], STATE);
    for (int t = 0; t < T; t++) memcpy(one + t * IN, x + (t * N + i) * IN, IN);
    if (net_run(weights, state, scratch, one, own, T) != 0) return 4;
    for (int t = 0; t < T; t++)
      for (int k = 0; k < OUT / 4; k++) {
        double d = ((float *)(own + t * OUT))[k] - (double)((float *)(y + (t * N + i) * OUT))[k];
        most = d > most ? d : -d > most ? -d : most;
      }
  }
  printf("%%g\n", most);
  return 0;
}
"""


def made(case: str) -> tuple[Artifact, str, str]:
    """The artifact of a case, its scheme and instruction set."""
    target, scheme, isa = CASES[case]
    model = stacked_model(
        steps=None, ops=("GRU", "LSTM"), features=FEATURES, hidden=19, head="sequence"
    )
    frames = np.random.default_rng(0).standard_normal((60, FEATURES)).astype(np.float32)
    options = {} if scheme is None else {"quantize": scheme, "calibration": [frames]}
    artifact = compile_model(
        model,
        target=target,
        name="net",
        check=False,
        target_options={"streams": "yes"},
        **options,  # type: ignore[arg-type]
    )
    return artifact, scheme or "fp32", isa


@pytest.mark.parametrize("case", CASES)
def test_streams_are_as_single_steps(case: str, tmp_path: Path) -> None:
    """Nine streams, so that the last tile is not full: within 1e-6, int8 schemes to the bit."""
    artifact, scheme, isa = made(case)
    container, signature = artifact.container, artifact.signature
    for section in ("weights", "state_init", f"code/{isa}", f"streams/{isa}"):
        (tmp_path / section.replace("/", "_")).write_bytes(container.section(section))
    frames = np.random.default_rng(1).standard_normal((FRAMES, STREAMS, FEATURES))
    (tmp_path / "frames").write_bytes(frames.astype(np.float32).tobytes())
    sizes = {
        "streams": STREAMS,
        "frames": FRAMES,
        "state": len(container.section("state_init")),
        "input": signature.input_bytes,
        "output": signature.output_bytes,
        "scratch": artifact.manifest["memory"]["scratch_bytes"],
        "weights": len(container.section("weights")),
    }
    (tmp_path / "main.c").write_text(MAIN % sizes)
    machine = "aarch64" if isa.startswith(("aarch64", "cortex")) else "arm"
    compiler, emulator = map(tool, USER_MODE[machine])
    folder = {"aarch64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf"}[machine]
    code, many = tmp_path / f"code_{isa}", tmp_path / f"streams_{isa}"
    run(compiler, "-O1", f"{tmp_path}/main.c", code, many, "-o", f"{tmp_path}/program")
    result = run(
        emulator,
        "-cpu",
        "max",
        "-L",
        f"/usr/{folder}",
        f"{tmp_path}/program",
        *(tmp_path / name for name in ("weights", "state_init", "frames")),
    )
    assert float(result.stdout) <= (0.0 if scheme.startswith("int8") else 1e-6)
