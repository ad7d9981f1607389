"""Streams whose step takes several frames: the same numbers as frame by frame, to the bit."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.errors import (
    ArtifactError,
    CapabilityError,
    ModelError,
    NonFiniteSampleError,
    NonFiniteStateError,
    SampleShapeError,
    StreamError,
)
from edgelstm_compiler.chunk_verification import expect_chunks
from edgelstm_compiler.driver import compile_model
from tests.carried_models import make_case
from tests.fuzz.stream_replay import (
    expected_outputs,
    frames_of,
    recording,
    replay,
    rows_of_model,
)
from tests.models import lstm_model, rnn_model
from tests.stream.test_c_streams import late_model
from tests.stream.test_random_networks import compiled
from tests.unit.runtime.command_line import invoke

CC = shutil.which("cc") or shutil.which("gcc")
Array = Any


def in_chunks(artifact: Artifact, frames: Array, seed: int) -> dict[str, Array]:
    """All rows of outputs along time, every value seen of others; by `step`, `run`, `finish`."""
    rng, signature = np.random.default_rng(seed), artifact.signature
    chunk = signature.chunk
    rows: dict[str, list[Array]] = defaultdict(list)
    timed = {spec.name for spec in signature.outputs if spec.time_axis is not None}
    with artifact.session() as session:
        at = 0
        while at < len(frames):
            is_step = at + chunk <= len(frames) and rng.random() < 0.7
            count = chunk if is_step else min(int(rng.integers(1, 6)), len(frames) - at)
            block = frames[at : at + count]
            result = session.step(block) if is_step else session.run(block)
            for name, found in by_name(artifact, result).items():
                if found is not None:
                    is_rows = name in timed or not is_step
                    rows[name].append(np.array(found if is_rows else found[None]))
            at += count
        for name, found in by_name(artifact, session.finish()).items():
            rows[name].append(found)
    return {
        spec.name: np.concatenate([np.empty((0, *spec.shape), spec.dtype.numpy), *rows[spec.name]])
        for spec in signature.outputs
    }


def by_name(artifact: Artifact, result: Any) -> dict[str, Any]:
    """What a session gave, by name."""
    return result if isinstance(result, dict) else {artifact.signature.outputs[0].name: result}


def fitting_chunk(artifact: Artifact, rng: np.random.Generator) -> int:
    """A length that all strides divide."""
    strides = [spec.stride for spec in artifact.signature.outputs if spec.time_axis is not None]
    return lcm(*strides) * int(rng.integers(2 if lcm(*strides) == 1 else 1, 5))


def expect_the_sequence(seed: int, target: str) -> int:
    """A random network in random chunks beside ONNX Runtime on the whole; rows compared."""
    found = compiled(seed, target)
    if found is None:
        return 0
    plain, model, frames = found
    assert isinstance(model, onnx.ModelProto)
    rng = np.random.default_rng(seed)
    chunk = fitting_chunk(plain, rng)
    artifact = compile_model(model, target=target, mode="stream", check=False, chunk=chunk)
    assert artifact.signature.chunk == chunk
    x = recording(model, frames, seed)
    wanted = expected_outputs(model, x)
    if wanted is None:
        return 0
    rows, single = (
        in_chunks(artifact, frames_of(artifact.signature, x), seed),
        replay(plain, x, seed),
    )
    compared = 0
    for spec in artifact.signature.outputs:
        expected = rows_of_model(wanted[spec.name], spec)
        mine = rows[spec.name] if spec.time_axis is not None else rows[spec.name][-1:]
        assert mine.shape == expected.shape, spec
        np.testing.assert_allclose(mine, expected, 1e-4, 1e-5, err_msg=str(spec))
        np.testing.assert_array_equal(mine, single[spec.name][-len(mine) :])
        compared += len(mine)
    return compared


@pytest.mark.parametrize("first", [0, 8, 16])
def test_random_chunks_are_the_sequence(first: int) -> None:
    """Rings, clocks, strides, delays and reductions, in chunks and pieces, to the last row."""
    assert sum(expect_the_sequence(seed, "reference") for seed in range(first, first + 8))


@pytest.mark.tvm
@pytest.mark.parametrize("seed", [100_000, 100_004])
def test_compiled_code_in_chunks_is_the_sequence(seed: int) -> None:
    """The same in machine code; single frames give the same bits."""
    expect_the_sequence(seed, "host")


@pytest.mark.parametrize("target", ["reference", pytest.param("host", marks=pytest.mark.tvm)])
@pytest.mark.parametrize("scheme", ["int8-full", "int8"])
def test_integers_in_chunks_are_the_same_bits(target: str, scheme: str) -> None:
    """A chunk is as many steps of the quantized stream."""
    model = lstm_model(hidden=8)
    x = np.sin(np.random.default_rng(1).standard_normal((60, 3)).cumsum(0)).astype(np.float32)
    options: Any = {"quantize": scheme, "calibration": [x], "target": target, "check": False}
    if target == "host":
        options["target_options"] = {"cpu": "native", "streams": "no"}
    plain = compile_model(model, **options)
    artifact = compile_model(model, chunk=6, **options)
    wanted = by_name(plain, plain.session().run(x))
    found = in_chunks(artifact, x, 3)
    for spec in artifact.signature.outputs:
        if spec.time_axis is not None:
            np.testing.assert_array_equal(found[spec.name], wanted[spec.name])
        else:
            np.testing.assert_array_equal(found[spec.name][-1], wanted[spec.name][-1])


def test_a_model_with_states_as_inputs_steps_in_chunks() -> None:
    """A call for each frame of a chunk, its states hidden."""
    checked = 0
    for seed in range(12):
        case = make_case(seed)
        plain = compile_model(case.model, target="reference", check=False)
        if any(spec.chunk_axis is not None for spec in plain.signature.inputs):
            continue
        artifact = compile_model(case.model, target="reference", check=False, chunk=4)
        frames = {
            spec.name: case.frames(12, seed)[spec.name].reshape(12, *spec.shape)
            for spec in plain.signature.inputs
        }
        expect_chunks(artifact, frames)
        checked += 1
    assert checked


def test_a_model_that_takes_several_frames_a_call_has_its_own_chunks() -> None:
    """Another number is refused by name with what to do, its own is what it has anyway."""
    case = make_case(14)
    with pytest.raises(ModelError, match=r"takes 5 frames of 'x' already\. Leave --chunk out"):
        compile_model(case.model, target="reference", check=False, chunk=10)
    same = compile_model(case.model, target="reference", check=False, chunk=5)
    assert same.signature.chunk == 1


def test_a_stride_that_does_not_divide_is_refused_with_what_fits() -> None:
    """By the output and its stride; both suggestions compile."""
    with pytest.raises(ModelError, match=r"'seq' comes every 2 frames.*--chunk 4 or --chunk 6\."):
        compile_model(late_model(), target="reference", chunk=5)
    for chunk in (4, 6):
        made = compile_model(late_model(), target="reference", chunk=chunk, check=False)
        assert made.signature.chunk == chunk


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ({"mode": "call", "shapes": {"x": (1, 3, 9)}}, "the frames of --shape"),
        ({"mode": "window", "window": 9, "hop": 3}, "any number of frames"),
    ],
)
def test_other_modes_have_no_chunks(options: dict[str, Any], way_out: str) -> None:
    """The message says what to do."""
    with pytest.raises(ModelError, match=f"--chunk 4 is for --mode stream.*{way_out}"):
        compile_model(late_model(), target="reference", chunk=4, **options)


@pytest.fixture(scope="module")
def simple() -> Artifact:
    """A causal model with an output along time and an any-time one, four frames a step."""
    return compile_model(lstm_model(outputs=("Y", "Y_h")), target="reference", chunk=4)


def test_a_refused_chunk_leaves_the_state_as_it_was(simple: Artifact) -> None:
    """A frame that no input takes, and a chunk of another length; the message says which."""
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    bad = x[:4].copy()
    bad[2, 1] = np.nan
    with simple.session() as session, simple.session() as other:
        for wrong, kind, text in (
            (bad, NonFiniteSampleError, r"in frame 2, element \[1\] is nan"),
            (x[:3], SampleShapeError, r"\(4, 3\), got \(3, 3\): a step .* takes 4 frames; run"),
            (x[0], SampleShapeError, "takes 4 frames"),
        ):
            session.step(x[:4])
            before = session.snapshot()
            with pytest.raises(kind, match=text):
                session.step(wrong)
            assert session.snapshot() == before
        session.reset()
        for start in (0, 4):
            mine, wanted = session.step(x[start : start + 4]), other.run(x[start : start + 4])
            np.testing.assert_array_equal(mine["Y"], wanted["Y"])
            np.testing.assert_array_equal(mine["Y_h"], wanted["Y_h"][-1])


def test_a_chunk_after_which_a_state_would_overflow_is_taken_back() -> None:
    """Also what its first frames did."""
    model = rnn_model(activations=("Relu",), gain=3.0, hidden=4)
    artifact = compile_model(model, target="reference", check=False, chunk=3)
    assert artifact.signature.checks_states
    session = artifact.session()
    calm = np.ones((3, 3), np.float32)
    wild = np.stack([calm[0], 3e37 * calm[0], 3e37 * calm[0]])
    states = [session.snapshot()]

    def feed() -> None:
        for _ in range(50):
            session.step(wild)
            states.append(session.snapshot())

    session.step(calm)
    states.append(session.snapshot())
    with pytest.raises(NonFiniteStateError, match=r"frame [12] of the chunk"):
        feed()
    assert session.snapshot() == states[-1]


def test_late_rows_come_when_they_are_new() -> None:
    """Nothing in the first chunk, a row in each later one, an end, and no frame behind it."""
    artifact = compile_model(late_model(), target="reference", check=False, chunk=2)
    x = recording(late_model(), 9, 0)
    frames = frames_of(artifact.signature, x)
    session = artifact.session()
    assert session.step(frames[:2]) == {"seq": None, "last": None}
    shapes = [session.step(frames[at : at + 2])["seq"].shape for at in (2, 4, 6)]
    assert shapes == [(1, 2)] * 3
    rest = session.run(frames[8:])
    assert len(rest["seq"]) == 0
    wanted = expected_outputs(late_model(), x)
    assert wanted is not None
    end = session.finish()
    np.testing.assert_allclose(end["last"][-1], wanted["last"].reshape(2), 1e-5, 1e-6)
    with pytest.raises(StreamError, match="has ended"):
        session.step(frames[:2])


def test_snapshots_fit_with_chunks_and_without(simple: Artifact, tmp_path: Path) -> None:
    """Of one model and the same states; the file says how many frames a step takes."""
    plain = compile_model(lstm_model(outputs=("Y", "Y_h")), target="reference")
    x = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    simple.save(tmp_path / "a.edgelstm")
    loaded = Artifact.load(tmp_path / "a.edgelstm")
    assert loaded.signature == simple.signature
    one, other = plain.session(), loaded.session()
    one.run(x[:5])
    other.restore(one.snapshot())
    np.testing.assert_array_equal(other.step(x[5:9])["Y"], one.run(x[5:9])["Y"])


def test_many_streams_of_a_chunk_model_are_refused(simple: Artifact) -> None:
    """By name, with what to do."""
    with pytest.raises(CapabilityError, match=r"takes 4 frames.*without --chunk"):
        simple.session(streams=3)


def test_a_chunk_that_no_memory_holds_is_refused(simple: Artifact, tmp_path: Path) -> None:
    """A file may say anything; whole numbers from 1 on are taken."""
    for chunk, kind in ((0, ArtifactError), (1 << 40, ArtifactError), ("4", ArtifactError)):
        manifest = {**simple.manifest}
        manifest["signature"] = {**manifest["signature"], "chunk": chunk}
        changed = Container(manifest, dict(simple.container.sections))
        with pytest.raises(kind, match="chunk"):
            Artifact(changed)


def test_verify_replays_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And fails where a chunk is not what its frames are."""
    model = late_model()
    onnx.save(model, tmp_path / "net.onnx")
    made = invoke(
        "compile", tmp_path / "net.onnx", "-o", tmp_path / "net.edgelstm",
        "--target", "reference", "--chunk", "4",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    verify = ("verify", tmp_path / "net.edgelstm", "--model", tmp_path / "net.onnx")
    done = invoke(*verify, "--frames", 60)
    assert done.exit_code == 0, done.output
    monkeypatch.setattr(
        "edgelstm.sessions.chunked.due_rows", lambda spec, first, count, end: slice(0, count, 2)
    )
    broken = invoke(*verify, "--frames", 60)
    assert broken.exit_code == 3
    assert "in chunks of 4 frames" in broken.output + broken.stderr


DRIVER = """
#include <stdio.h>
#include "net.h"
static net_state state;
static net_scratch scratch;
static net_output out[NET_FRAMES];
static net_input frames[%(count)d] = {%(rows)s};
static net_output last;
int main(void) {
  int i, row, skip = NET_SEQ_DELAY / NET_SEQ_STRIDE;
  if (net_selftest(&state, &scratch) != 0) return 1;
  net_init(&state, &scratch);
  for (i = 0; i + NET_FRAMES <= %(count)d; i += NET_FRAMES) {
    int32_t new = net_chunk(net_weights, &state, &scratch, frames + i, out);
    if (new < 0) return 2;
    for (row = NET_SEQ_ROW; row < NET_FRAMES; row += NET_SEQ_STRIDE) {
      if (skip > 0) { --skip; continue; }
      if (!((new >> NET_SEQ_BIT) & 1)) return 3;
      printf("seq %%.9g %%.9g\\n", out[row].seq[0], out[row].seq[1]);
    }
    if ((new >> NET_LAST_BIT) & 1)
      printf("last %%.9g %%.9g\\n", out[NET_FRAMES - 1].last[0], out[NET_FRAMES - 1].last[1]);
  }
  for (; i < %(count)d; ++i) {
    int32_t new = net_step(net_weights, &state, &scratch, &frames[i], &last);
    if ((new >> NET_SEQ_BIT) & 1) printf("seq %%.9g %%.9g\\n", last.seq[0], last.seq[1]);
  }
  return 0;
}
"""


@pytest.mark.tvm
@pytest.mark.skipif(CC is None, reason="needs a C compiler")
def test_c_code_takes_chunks(tmp_path: Path) -> None:
    """Rows where the macros say, the bits of what is new, and the rest frame by frame."""
    options = {"cpu": "native", "streams": "no"}
    artifact = compile_model(late_model(), name="net", chunk=4, target_options=options)
    artifact.save(tmp_path / "net.edgelstm")
    made = invoke("export-c", tmp_path / "net.edgelstm", "-o", tmp_path / "c")
    assert made.exit_code == 0, made.output
    assert "#define NET_FRAMES 4\n" in (tmp_path / "c" / "net.h").read_text()
    x = recording(late_model(), 22, 5)
    frames = frames_of(artifact.signature, x)
    rows = ", ".join("{{" + ", ".join(f"{v:.9e}f" for v in frame) + "}}" for frame in frames)
    (tmp_path / "c" / "main.c").write_text(DRIVER % {"rows": rows, "count": len(frames)})
    command = [str(CC), "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", "run", "main.c"]
    command += ["net.c", "net_weights.c", "net_selftest.c", "libnet_kernels.a"]
    built = subprocess.run(command, cwd=tmp_path / "c", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([tmp_path / "c" / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    session = artifact.session()
    wanted: dict[str, list[Array]] = {"seq": [], "last": []}
    for at in range(0, 20, 4):
        result = session.step(frames[at : at + 4])
        wanted["seq"] += [] if result["seq"] is None else list(np.array(result["seq"]))
        wanted["last"] += [] if result["last"] is None else [np.array(result["last"])]
    wanted["seq"] += list(session.run(frames[20:])["seq"])
    for name, lines in wanted.items():
        found = [x.split()[1:] for x in done.stdout.splitlines() if x.startswith(name)]
        np.testing.assert_allclose(np.array(found, np.float32), np.stack(lines), 1e-6, 1e-7)
