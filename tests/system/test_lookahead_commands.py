"""Look-ahead on the command line: compiled, told, run, verified, timed, refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgelstm
from edgelstm_compiler import compile_model
from tests.lookahead_models import make_stack, whole
from tests.stream.test_lookahead import answers, recording
from tests.unit.runtime.command_line import invoke

REFERENCE = ("--target", "reference")
STACK = (("LSTM", "bidirectional"), ("GRU", "bidirectional"))
SPAN = ("--lookahead", "3", "--chunk", "4")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A bidirectional model, its artifact and a recording."""
    folder = tmp_path_factory.mktemp("lookahead")
    model, artifact, walk = (folder / name for name in ("bi.onnx", "bi.edgelstm", "walk.csv"))
    onnx.save(make_stack(STACK), model)
    np.savetxt(walk, recording(50), delimiter=",", header="ax,ay,az", comments="")
    done = invoke(
        *("compile", model, "-o", artifact, *REFERENCE, *SPAN, "--rate", "100"),
        *("--calibrate", walk, "--columns", "ax,ay,az", "--check-input", walk),
    )
    assert done.exit_code == 0, done.stderr
    assert "answers come 3 to 6 (60 ms at most) frames late" in done.stdout
    assert "computed 1.75 times" in done.stdout
    assert "distance from the model over whole recordings (told, not judged: 3 frames ahead" in (
        done.stdout
    )
    return model, artifact, walk


def test_the_artifact_tells_chunk_delay_and_distance(made: tuple[Path, Path, Path]) -> None:
    """In the signature, the manifest and `inspect`."""
    _, path, walk = made
    artifact = edgelstm.load(path)
    plan = artifact.signature.lookahead
    assert artifact.signature.mode == "lookahead"
    assert plan is not None
    assert (plan.chunk, plan.ahead, plan.span, plan.delay) == (4, 3, 7, 6)
    assert [(spec.shape, spec.delay) for spec in artifact.signature.outputs] == [((2,), 6)]
    found = artifact.manifest["check"]["deviation"]["y"]
    model = make_stack(STACK)
    x = np.loadtxt(walk, delimiter=",", skiprows=1, dtype=np.float32)
    difference = answers(artifact.session(), x) - whole(model, x[:, None])[:, 0]
    assert found["max_error"] == pytest.approx(float(np.abs(difference).max()), rel=1e-3)
    assert found["rms_error"] == pytest.approx(
        float(np.sqrt(np.square(difference).mean())), rel=1e-3
    )
    report = json.loads(invoke("inspect", path, "--json").stdout)
    assert (report["lookahead"]["chunk"], report["lookahead"]["ahead"]) == (4, 3)
    assert [c["name"] for c in report["description"]["inputs"]["x"]] == ["ax", "ay", "az"]
    shown = invoke("inspect", path).stdout
    assert "answers come 3 to 6 (60 ms at most) frames late" in shown
    assert "6 frames late (60 ms)" in shown


def test_run_writes_a_line_for_every_frame(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Beside what passes through of the same frame, to the end of the recording."""
    _, path, _ = made
    x, output = recording(23, 5), tmp_path / "out.csv"
    rows = [f"{n},{a},{b},{c}" for n, (a, b, c) in enumerate(x.tolist())]
    walk = tmp_path / "numbered.csv"
    walk.write_text("n,ax,ay,az\n" + "\n".join(rows) + "\n", encoding="utf-8")
    done = invoke("run", path, "-i", walk, "-o", output, "--keep", "n")
    assert done.exit_code == 0, done.stderr
    found = np.loadtxt(output, delimiter=",", skiprows=1)
    assert found[:, 0].tolist() == list(range(23))
    wanted = answers(edgelstm.load(path).session(), x)
    assert np.allclose(found[:, 1:], wanted, rtol=1e-6)


def test_verify_judges_the_chunks_and_tells_the_distance(made: tuple[Path, Path, Path]) -> None:
    """PASS says that it is the look-ahead that was asked for, not that it is the sequence."""
    model, path, walk = made
    for source in ((), ("--input", walk, "--frames", "40")):
        done = invoke("verify", path, "--model", model, *source)
        assert done.exit_code == 0, done.stderr
        assert "against the same chunks of 4 frames and 3 ahead in float64" in done.stdout
        assert "\nPASS\n" in done.stdout
        assert "told, not judged: 3 frames ahead are an approximation" in done.stdout
    report = json.loads(invoke("verify", path, "--model", model, "--input", walk, "--json").stdout)
    assert report["passed"]
    assert report["distance_to_whole"]["y"]["max_error"] > 0.01
    assert report["outputs"][0]["max_error"] < 1e-5


def test_verify_finds_another_weight(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Of a model whose weights changed nothing passes."""
    model, path, _ = made
    artifact = edgelstm.load(path)
    weights = bytearray(artifact.container.section("weights"))
    numbers = np.frombuffer(weights, np.float32)
    place = int(np.argmax(np.abs(numbers)))
    numbers[place] *= 1.01
    sections = {**artifact.container.sections, "weights": bytes(weights)}
    other = tmp_path / "other.edgelstm"
    edgelstm.Artifact(type(artifact.container)(artifact.manifest, sections)).save(other)
    done = invoke("verify", other, "--model", model)
    assert done.exit_code == 3
    assert "FAIL" in done.stdout


def test_bench_times_a_frame(made: tuple[Path, Path, Path]) -> None:
    """A native step computes a chunk, which is four frames."""
    _, path, _ = made
    words = ("bench", path, "--rounds", "1", "--seconds", "0.01", "--frames", "40", "--json")
    report = json.loads(invoke(*words).stdout)
    assert report["mode"] == "lookahead"
    assert report["native"]["p50_ns"] > 0
    assert report["python_run_ns"] > 0


def test_quantized_by_recordings_of_frames(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """`calibrate`, `compile --calibration` and `verify` of int8, all by the same options."""
    model, _, walk = made
    calibration, path = tmp_path / "bi.json", tmp_path / "bi8.edgelstm"
    done = invoke("calibrate", model, "--input", walk, "-o", calibration, *SPAN)
    assert done.exit_code == 0, done.stderr
    assert "11 chunks" in done.stdout
    done = invoke(
        *("compile", model, "-o", path, *REFERENCE, *SPAN),
        *("--quantize", "int8-full", "--calibration", calibration, "--force"),
    )
    assert done.exit_code == 0, done.stderr
    done = invoke("verify", path, "--model", model, "--input", walk)
    assert done.exit_code == 0, done.stdout + done.stderr
    assert "quantized step graph, 11 steps" in done.stdout
    assert "distance to the float32 model" in done.stdout
    words = ("report", path, "--model", model, "--input", walk, "--drift-steps", "8")
    report = json.loads(invoke(*words, "--seconds", "0", "--json").stdout)
    assert report["scheme"] == "int8-full"
    assert report["drift"]["steps"] == 8  # frames, two chunks


def test_a_model_of_fixed_length_looks_ahead(tmp_path: Path) -> None:
    """As in a stream its length is lifted, with the warning that says so."""
    model, path = tmp_path / "fixed.onnx", tmp_path / "fixed.edgelstm"
    onnx.save(make_stack(STACK, time=12), model)
    done = invoke("compile", model, "-o", path, *REFERENCE, *SPAN)
    assert done.exit_code == 0, done.stderr
    assert "trained on windows of 12 frames" in done.stderr
    free = compile_model(
        make_stack(STACK).SerializeToString(), lookahead=3, chunk=4, target="reference"
    )
    x = recording(30)
    assert np.array_equal(answers(edgelstm.load(path).session(), x), answers(free.session(), x))
    done = invoke("verify", path, "--model", model)
    assert done.exit_code == 0, done.stderr


REFUSED = {
    "no length": (("--mode", "lookahead"), "--lookahead L"),
    "windows": ((*SPAN, "--hop", "3"), "--mode window, not for lookahead"),
    "another mode": (("--lookahead", "3", "--mode", "stream"), "--mode lookahead, not for stream"),
    "states": ((*SPAN, "--carry", "x=y"), "--carry and --overlap are for --mode stream"),
    "CUDA": ((*SPAN, "--target", "cuda"), "has no mode 'lookahead'; it has stream"),
    "bare metal": ((*SPAN, "--target", "cortex-m4"), "has no mode 'lookahead'"),
    "a chunk too long": (("--lookahead", "70000"), "at most 65536 frames"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused_with_a_way_out(
    name: str, made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """One line, no traceback, nothing written."""
    if name == "CUDA":
        pytest.importorskip("numba", reason="pip install 'edgelstm-targets[cuda]'")
    words, reason = REFUSED[name]
    path = tmp_path / "none.edgelstm"
    done = invoke("compile", made[0], "-o", path, *words)
    assert done.exit_code in (2, 3, 4)
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not path.exists()


def test_a_causal_model_is_sent_to_the_stream(tmp_path: Path) -> None:
    """With the command, which compiles it."""
    model, path = tmp_path / "forward.onnx", tmp_path / "forward.edgelstm"
    onnx.save(make_stack((("LSTM", "forward"),)), model)
    done = invoke("compile", model, "-o", path, *REFERENCE, *SPAN)
    assert done.exit_code == 3
    assert "no layer of the model runs backward" in done.stderr
    (command,) = [
        line.split("#")[0] for line in done.stderr.splitlines() if "edgelstm compile" in line
    ]
    assert "--lookahead" not in command
    assert "--chunk" not in command
    done = invoke(*command.split()[1:])
    assert done.exit_code == 0, done.stderr
    assert edgelstm.load(path).signature.mode == "stream"


def test_c_and_many_streams_are_refused_by_name(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """The way out is a call of whole windows, or a session for each stream."""
    _, path, _ = made
    done = invoke("export-c", path, "-o", tmp_path / "c")
    assert done.exit_code == 4
    assert "looks ahead, which the C export does not have" in done.stderr
    with pytest.raises(edgelstm.EdgeLSTMError, match="a session for each stream"):
        edgelstm.load(path).session(streams=2)
