"""Windows in exported C: the bits of the Python session, whatever the hop, on every processor."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from edgelstm.artifact import Artifact
from edgelstm.cli import cli
from edgelstm.container import Container
from edgelstm.errors import ArtifactFormatError, CapabilityError
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.renaming import rename_symbols
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests.arm.c_project import (
    STRICT,
    USER_MODE,
    build,
    export,
    link_for_board,
    run,
    run_board,
    tool,
)
from tests.arm.elf_account import symbol_sizes
from tests.arm.window_driver import Told, read_driver, told_by_session, write_driver
from tests.models import gru_model, lstm_model, rnn_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

W, FRAMES = 12, 47
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")


@pytest.fixture(autouse=True)
def same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions run what is exported: the least demanding code."""
    monkeypatch.setenv("EDGELSTM_ISA", "x86-64-v2")


def windows(model: onnx.ModelProto, target: str = "host", **options: Any) -> Artifact:
    return compile_model(model, target=target, name="net", check=False, **options)


def recording(artifact: Artifact, *bad: int) -> dict[str, np.ndarray]:
    """Frames of every input, NaN in the first element of some of them."""
    rng = np.random.default_rng(7)
    frames = {}
    for spec in artifact.signature.inputs:
        values = rng.standard_normal((FRAMES, *spec.shape))
        if not spec.dtype.is_float:
            values = values * 6000
        frames[spec.name] = values.astype(spec.dtype.numpy)
        for step in bad:
            frames[spec.name][step].reshape(-1)[0] = np.nan
    return frames


def told_by_c(artifact: Artifact, frames: dict[str, np.ndarray], folder: Path) -> list[Told]:
    """On this machine, the self-test first."""
    export(artifact, folder)
    main = write_driver(artifact, frames, folder / "example" / "driver.c")
    return read_driver(run(build(folder, *SANITIZE, main=main)).stdout)


def told_on_board(artifact: Artifact, frames: dict[str, np.ndarray], folder: Path) -> list[Told]:
    """On an emulated board, the self-test first."""
    isa, board = artifact.manifest["target"]["name"], "mps2-an386"
    if isa == "cortex-m0plus":
        board = "microbit"
    export(artifact, folder)
    main = write_driver(artifact, frames, folder / "example" / "driver.c")
    return read_driver(run_board(link_for_board(folder, isa, board, main), board))


@pytest.mark.parametrize(
    ("options", "hop"),
    [
        ({"outputs": ("Y_h", "Y_c")}, 1),
        ({"outputs": ("Y_h",), "initial_h": "constant"}, 5),
        ({"outputs": ("Y_h",)}, 17),
        ({"outputs": ("Y_h",), "direction": "bidirectional"}, 1),
        ({"outputs": ("Y", "Y_h")}, 12),
        ({"outputs": ("Y_h",), "direction": "bidirectional"}, 17),
    ],
    ids=str,
)
def test_the_bits_of_a_session(options: dict[str, Any], hop: int, tmp_path: Path) -> None:
    """Answers with their steps and first frames, and the windows that are open.

    NaN is refused alone, also between two windows and in the frame that closes one.
    """
    artifact = windows(lstm_model(steps=W, hidden=5, **options), hop=hop)
    frames = recording(artifact, 3, W, 13, 14, 15, 40)
    found = told_by_c(artifact, frames, tmp_path)
    assert found == told_by_session(artifact, frames)
    assert sum(each.code > 0 for each in found) == (FRAMES - 6 - W) // hop + 1
    assert sum(each.code == -1 for each in found) == 6


@pytest.mark.parametrize("smooth", ["vote:3", "mean:9"])
def test_smoothed_answers(smooth: str, tmp_path: Path) -> None:
    """In floats, and of the index of a class."""
    artifact = windows(_classifier(), hop=3, smooth=smooth)
    frames = recording(artifact)
    assert told_by_c(artifact, frames, tmp_path) == told_by_session(artifact, frames)


def _classifier() -> onnx.ModelProto:
    """Scores (1, 4) and the index of the largest, after a window."""
    model = lstm_model(steps=W, hidden=4, outputs=("Y_h",))
    graph = model.graph
    graph.node.append(helper.make_node("ArgMax", ["Y_h"], ["best"], axis=2, keepdims=0))
    graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, None))
    return model


def test_a_state_that_goes_on_across_windows(tmp_path: Path) -> None:
    """As stateful layers do."""
    artifact = windows(
        lstm_model(steps=W, hidden=5, outputs=("Y_h",), initial_c="constant"),
        carry_across_windows=True,
    )
    frames = recording(artifact)
    assert told_by_c(artifact, frames, tmp_path) == told_by_session(artifact, frames)


def test_an_overflow_in_one_window_undoes_the_frame_in_all(tmp_path: Path) -> None:
    """A relu cell that doubles: its older windows overflow first."""
    model = rnn_model(steps=W, hidden=2, features=3, outputs=("Y_h",), activations=("Relu",))
    artifact = windows(model, hop=4)
    assert artifact.signature.checks_states
    frames = recording(artifact)
    frames["X"][20:26] *= np.float32(1e38)
    found = told_by_c(artifact, frames, tmp_path)
    assert found == told_by_session(artifact, frames)
    assert any(each.code == -(1 << 31) for each in found)


@pytest.mark.parametrize(
    ("make", "target", "hop", "options"),
    [
        (lstm_model, "cortex-m4", 5, {"outputs": ("Y_h",)}),
        (gru_model, "cortex-m0plus", 5, {"outputs": ("Y_h",)}),
        (gru_model, "cortex-m3", 17, {"outputs": ("Y_h",), "direction": "bidirectional"}),
        (lstm_model, "cortex-m7", 3, {"outputs": ("Y", "Y_h")}),
    ],
)
def test_integers_on_a_board(
    make: Any, target: str, hop: int, options: dict[str, Any], tmp_path: Path
) -> None:
    """int8-full from the reset vector: the bits of the session on this machine."""
    model = make(steps=W, hidden=6, features=4, **options)
    asked: dict[str, Any] = {"hop": hop, "mode": "window", "name": "net"}
    board, here = (_in_integers(model, each, **asked) for each in (target, "host"))
    frames = recording(here)
    found = told_on_board(board, frames, tmp_path)
    assert found == told_by_session(here, frames)
    assert any(each.answer.strip(b"\0") for each in found)


def is_computed_whole(model: onnx.ModelProto) -> bool:
    node = model.graph.node[0]
    direction = [each.s for each in node.attribute if each.name == "direction"]
    return direction == [b"bidirectional"] or node.output[0] == "Y"


def _in_integers(model: onnx.ModelProto, target: str, **options: Any) -> Artifact:
    rng, is_whole = np.random.default_rng(1), is_computed_whole(model)
    shape = (W, 1, 4) if is_whole else (60, 4)  # a program of whole windows takes whole windows
    calibration = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
    return compile_model(
        model,
        target=target,
        quantize="int8-full",
        calibration=calibration,
        quantize_options=QuantizeOptions(integer_io=True),
        check=False,
        **options,
    )


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33"])
def test_floats_on_a_board(target: str, tmp_path: Path) -> None:
    """The self-test, which the reference engine told, and the steps of the answers."""
    artifact = windows(lstm_model(steps=W, hidden=5, outputs=("Y_h",)), target, hop=5)
    folder = export(artifact, tmp_path)
    board = {"cortex-m4": "mps2-an386", "cortex-m33": "mps2-an505"}[target]
    assert run_board(link_for_board(folder, target, board), board) == "net: PASS\n"


@pytest.mark.parametrize(("target", "machine"), [("aarch64", "aarch64"), ("armv7", "arm")])
def test_floats_on_a_cortex_a(target: str, machine: str, tmp_path: Path) -> None:
    """A Linux program in QEMU: the driver's answers within the tolerance of the session's."""
    artifact = windows(lstm_model(steps=W, hidden=5, outputs=("Y_h",)), target, hop=5)
    here = windows(lstm_model(steps=W, hidden=5, outputs=("Y_h",)), hop=5)
    folder = export(artifact, tmp_path)
    main = write_driver(artifact, recording(here, 9), folder / "example" / "driver.c")
    compiler, emulator = map(tool, USER_MODE[machine])
    sources = [*sorted(folder.glob("*.c")), main]
    library = next(folder.glob("lib*_kernels.a"))
    run(compiler, *STRICT, "-O1", "-static", f"-I{folder}", *sources, library, "-o", folder / "p")
    found = read_driver(run(emulator, "-cpu", "max", folder / "p").stdout)
    wanted = told_by_session(here, recording(here, 9))
    assert [replace(each, answer=b"") for each in found] == [
        replace(each, answer=b"") for each in wanted
    ]
    values, exact = (
        np.frombuffer(b"".join(each.answer for each in told), "f4") for told in (found, wanted)
    )
    np.testing.assert_allclose(values, exact, atol=2e-6)


def test_self_tests_see_a_wrong_window(tmp_path: Path) -> None:
    """One that begins with what another left, and one that answers a frame late."""
    artifact = windows(lstm_model(steps=W, hidden=5, outputs=("Y_h",)), hop=W)
    folder = export(artifact, tmp_path)
    source = (folder / "net.c").read_text()
    for right, wrong in (
        ("slot[i] = 0;", "slot[i] = slot[i];"),
        ("(state->answered + HOP) < WINDOW)", "(state->answered + HOP) <= WINDOW)"),
        ("return NEW_OUTPUTS", "return 0"),
    ):
        assert right in source
        (folder / "net.c").write_text(source.replace(right, wrong))
        done = subprocess.run([build(folder, "-O1")], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "FAIL: step" in done.stdout


def test_ram_to_the_byte(tmp_path: Path) -> None:
    """What `inspect` prints is what the linker lays out, and each slot takes what it says."""
    printed = []
    for hop in (4, 3):
        artifact = windows(lstm_model(steps=W, outputs=("Y_h",)), "cortex-m4", hop=hop)
        artifact.save(tmp_path / "net.edgelstm")
        done = CliRunner().invoke(cli, ["inspect", str(tmp_path / "net.edgelstm"), "--json"])
        printed += json.loads(done.stdout)["devices"]
        folder = export(artifact, tmp_path / str(hop))
        sizes = symbol_sizes(link_for_board(folder, "cortex-m4", "mps2-an386"))
        assert sizes["first"] == printed[-1]["state"]
        assert sizes["scratch"] == printed[-1]["scratch"]
        assert printed[-1]["slots"] == W // hop
    assert printed[1]["ram"] - printed[0]["ram"] == printed[0]["slot"] == printed[1]["slot"] > 0


def test_what_does_not_fit_is_refused_with_the_hop_that_does() -> None:
    """And that hop compiles; one less does not."""
    model = lstm_model(steps=W, hidden=20, outputs=("Y_h",))
    with pytest.raises(CapabilityError, match=r"--hop 3 fits, with 4 windows at once"):
        windows(model, "cortex-m4", hop=1, target_options={"ram": "2K"})
    windows(model, "cortex-m4", hop=3, target_options={"ram": "2K"})
    with pytest.raises(CapabilityError, match="--hop 3 fits"):
        windows(model, "cortex-m4", hop=2, target_options={"ram": "2K"})
    with pytest.raises(CapabilityError, match="no hop fits; a smaller model"):
        windows(model, "cortex-m4", hop=2, target_options={"ram": "512"})
    whole = lstm_model(steps=W, hidden=20, outputs=("Y_h",), direction="bidirectional")
    with pytest.raises(CapabilityError, match="a shorter window"):
        windows(whole, "cortex-m4", hop=2, target_options={"ram": "512"})
    streamed = lstm_model(steps=None, hidden=20)
    with pytest.raises(CapabilityError, match=r"takes \d+ bytes .* a smaller model, or --quant"):
        windows(streamed, "cortex-m4", target_options={"ram": "300"})
    with pytest.raises(CapabilityError, match="expected bytes, such as 65536 or 64K"):
        windows(streamed, "cortex-m4", target_options={"ram": "much"})


def test_half_precision_is_not_smoothed(tmp_path: Path) -> None:
    """By name; without smoothing it is exported."""
    model = lstm_model(steps=W, hidden=4, outputs=("Y_h",))
    model.graph.node.append(helper.make_node("Cast", ["Y_h"], ["half"], to=TensorProto.FLOAT16))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("half", TensorProto.FLOAT16, None))
    artifact = windows(model, hop=4)
    frames = recording(artifact)
    assert told_by_c(artifact, frames, tmp_path / "plain") == told_by_session(artifact, frames)
    with pytest.raises(CapabilityError, match="without --smooth"):
        export(windows(model, hop=4, smooth="mean:2"), tmp_path / "smoothed")


def test_blocks_of_an_older_version_are_refused(tmp_path: Path) -> None:
    """Frames stood at their places in a whole window once."""
    model = lstm_model(steps=W, hidden=4, outputs=("Y_h",), direction="bidirectional")
    artifact = windows(model, hop=4)
    signature = artifact.signature
    assert signature.window is not None
    old = replace(signature, input_bytes=signature.window.kernel.input_bytes).to_json()
    container = Container(
        {**artifact.manifest, "signature": old}, dict(artifact.container.sections)
    )
    with pytest.raises(ArtifactFormatError, match="compile the model again"):
        export(Artifact(container), tmp_path)


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_other_names_for_symbols(target: str, tmp_path: Path) -> None:
    """As binutils see them; nothing else changes."""
    artifact = compile_model(lstm_model(steps=None), target=target, name="net", check=False)
    (section,) = [name for name in artifact.sizes if name.startswith("object/")][-1:]
    code = bytes(artifact.container.section(section))
    made = rename_symbols(code, {"net_step": "another_name_step"})
    nm = tool("nm" if target == "host" else "arm-none-eabi-nm")
    listed = []
    for each in (code, made):
        (tmp_path / "x.o").write_bytes(each)
        lines = run(nm, tmp_path / "x.o").stdout.splitlines()
        listed.append({line.split()[-1]: line.split()[:-1] for line in lines})
    before, after = listed
    assert after.pop("another_name_step") == before.pop("net_step")
    assert after == before
    with pytest.raises(ValueError, match="no symbol absent"):
        rename_symbols(code, {"absent": "x"})


@pytest.mark.parametrize("way", ["slots", "whole"])
@pytest.mark.parametrize("agent", ["C", "Python"])
def test_validated_on_a_device(agent: str, way: str, tmp_path: Path) -> None:
    """The answers of two windows, by the agent in C and by the one in Python."""
    direction = "forward" if way == "slots" else "bidirectional"
    model = lstm_model(steps=W, hidden=5, outputs=("Y_h",), direction=direction)
    artifact = windows(model, hop=5)
    path = tmp_path / "net.edgelstm"
    artifact.save(path)
    command = f"{sys.executable} -m edgelstm.agent"
    if agent == "C":
        folder = export(artifact, tmp_path / "c", agent=True)
        main = folder / "example" / "agent.c"
        command = str(build(folder, "-O1", main=main))
    (tmp_path / "ssh").write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    (tmp_path / "ssh").chmod(0o755)
    asked = ["validate", str(path), "--on", "ssh://board", "--ssh-command", str(tmp_path / "ssh")]
    done = CliRunner().invoke(cli, [*asked, "--agent-command", command, "--steps", "1"])
    assert done.exit_code == 0, done.output
    assert "17 steps" in done.output
    count = 10 if way == "slots" else 20
    assert f"{count} values: PASS" in done.output


def test_known_answers_from_the_model_and_a_recording(tmp_path: Path) -> None:
    """`--model`, `--input`; a recording that holds no window is refused."""
    model = lstm_model(steps=W, hidden=5, outputs=("Y_h",))
    onnx.save(model, tmp_path / "net.onnx")
    artifact = compile_model(tmp_path / "net.onnx", name="net", hop=5, smooth="mean:2", check=False)
    artifact.save(tmp_path / "net.edgelstm")
    np.save(tmp_path / "long.npy", recording(artifact)["X"])
    np.save(tmp_path / "short.npy", recording(artifact)["X"][: W - 1])
    asked = ["export-c", str(tmp_path / "net.edgelstm"), "-o", str(tmp_path / "c"), "--model"]
    asked += [str(tmp_path / "net.onnx"), "--input"]
    done = CliRunner().invoke(cli, [*asked, str(tmp_path / "long.npy"), "--steps", "40"])
    assert done.exit_code == 0, done.output
    assert "as NumPy computes them" in done.output
    assert run(build(tmp_path / "c", *SANITIZE)).stdout == "net: PASS\n"
    assert "40 steps of a recording" in (tmp_path / "c" / "net_selftest.c").read_text()
    refused = CliRunner().invoke(cli, [*asked, str(tmp_path / "short.npy")])
    assert refused.exit_code != 0
    assert "a recording of at least one window" in refused.stderr
