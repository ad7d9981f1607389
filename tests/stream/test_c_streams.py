"""A late and slower model in C: the mask of new outputs, the end, and the numbers of a session."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgelstm.cli import cli
from edgelstm_compiler.driver import compile_model
from tests.fuzz.stream_replay import frames_of, replay

CC = shutil.which("cc") or shutil.which("gcc")
FRAMES = 21

DRIVER = """
#include <stdio.h>
#include "net.h"
static net_state state;
static net_scratch scratch;
static net_input in;
static net_output out;
static const float frames[][3] = {%s};
static void show(int32_t new) {
  if (new < 0) printf("refused %%ld\\n", (long)new);
  if ((new >> NET_SEQ_BIT) & 1) printf("seq %%.9g %%.9g\\n", out.seq[0], out.seq[1]);
  if ((new >> NET_LAST_BIT) & 1) printf("last %%.9g %%.9g\\n", out.last[0], out.last[1]);
}
int main(void) {
  int i, k;
  if (net_selftest(&state, &scratch) != 0) return 1;
  net_init(&state, &scratch);
  for (i = 0; i < %d; ++i) {
    for (k = 0; k < 3; ++k) in.x[k] = frames[i][k];
    show(net_step(net_weights, &state, &scratch, &in, &out));
  }
  for (i = 0; i < NET_TAIL; ++i) show(net_finish(net_weights, &state, &scratch, &in, &out));
  return NET_SEQ_STRIDE == 2 && NET_SEQ_DELAY == 3 && NET_FRAMES == 1 ? 0 : 2;
}
"""


def late_model() -> onnx.ModelProto:
    """Conv that looks two frames ahead, pooling by two, LSTM: seq every other frame, and last."""
    rng = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 2).astype(np.float32), name)

    stored = [weights("k", 4, 3, 5), weights("b", 4), weights("W", 1, 8, 4), weights("R", 1, 8, 2)]
    stored.append(numpy_helper.from_array(np.array([1]), "one"))
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["c"], "front", pads=[2, 2]),
        helper.make_node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[2], strides=[2]),
        helper.make_node("Transpose", ["p"], ["t"], "frames", perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "W", "R"], ["y", "h"], "cell", hidden_size=2),
        helper.make_node("Squeeze", ["y", "one"], ["seq"]),
        helper.make_node("Squeeze", ["h", "one"], ["last"]),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "T"])]
    shown = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("seq", "last")]
    graph = helper.make_graph(nodes, "net", given, shown, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return model


@pytest.mark.tvm
@pytest.mark.skipif(CC is None, reason="needs a C compiler")
def test_c_code_says_which_outputs_are_new_and_finishes(tmp_path: Path) -> None:
    """Every row that a session gives, in the same steps, and those behind the last frame."""
    artifact = compile_model(late_model(), name="net")
    artifact.save(tmp_path / "net.edgelstm")
    made = CliRunner().invoke(
        cli, ["export-c", str(tmp_path / "net.edgelstm"), "-o", str(tmp_path / "c")]
    )
    assert made.exit_code == 0, made.output
    x = np.random.default_rng(5).standard_normal((1, 3, FRAMES)).astype(np.float32)
    rows = ", ".join(
        "{" + ", ".join(f"{value:.9g}f" for value in frame) + "}"
        for frame in frames_of(artifact.signature, x)
    )
    (tmp_path / "c" / "main.c").write_text(DRIVER % (rows.replace(".f", ".0f"), FRAMES))
    command = [str(CC), "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", "run", "main.c"]
    command += ["net.c", "net_weights.c", "net_selftest.c", "libnet_kernels.a"]
    built = subprocess.run(command, cwd=tmp_path / "c", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([tmp_path / "c" / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    expected = replay(artifact, x, 0)
    for name, wanted in expected.items():
        lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith(name)]
        found = np.array(lines, np.float32).reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, 1e-6, 1e-7)
