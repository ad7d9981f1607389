"""The engine against the mock driver: its calls in order, errors by name, memory given back."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgelstm import pace
from edgelstm.artifact import Artifact
from edgelstm.commands.inspect import describe_artifact, inspect_command
from edgelstm.container import Container
from edgelstm.engines import cuda_streams
from edgelstm.engines.cuda_driver import DRIVER_VARIABLE, open_device
from edgelstm.errors import (
    ArtifactFormatError,
    CapabilityError,
    NonFiniteSampleError,
    NonFiniteStateError,
    StreamError,
    TargetUnavailableError,
    ToolchainError,
)
from tests import models
from tests.cuda.emulated import Compiled, EmulatedGpu, compile_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A small model for two chips."""
    folder = tmp_path_factory.mktemp("small")
    model = models.stacked_model(ops=("LSTM",), hidden=8, features=3, steps=None)
    return compile_for(model, "cuda:sm_90", folder)


ZERO = np.zeros(3, np.float32)


def notes_of(gpu: EmulatedGpu, action: Callable[[], object]) -> list[str]:
    """The calls of the driver that an action makes."""
    gpu.clear()
    action()
    return gpu.notes()


@pytest.fixture
def artifact(compiled: Compiled, gpu: EmulatedGpu) -> Artifact:
    """A fresh artifact on the emulated GPU: nothing of it is loaded yet."""
    gpu.ptx = compiled.ptx
    return Artifact(compiled.artifact.container)


def test_the_calls_of_loading_and_of_a_step(artifact: Artifact, gpu: EmulatedGpu) -> None:
    """Load once, record once; a step is one graph and one wait, its state stays on the device."""
    session = artifact.session()
    setup = [note.split()[0] for note in gpu.notes()]
    assert setup[:5] == [
        "cuInit",
        "cuDeviceGet",
        "cuDevicePrimaryCtxRetain",
        "cuModuleLoadData",
        "cuModuleGetFunction",
    ]
    assert setup[setup.index("cuStreamBeginCapture") :] == [
        "cuStreamBeginCapture",
        "cuLaunchKernel",
        "cuStreamEndCapture",
        "cuGraphInstantiate",
        "cuGraphDestroy",
    ]
    assert notes_of(gpu, lambda: session.step(ZERO)) == [
        "cuMemcpyHtoD",
        "cuGraphLaunch tiny_many",
        "cuStreamSynchronize",
    ]
    assert notes_of(gpu, lambda: session.step(ZERO)) == [
        "cuGraphLaunch tiny_many",
        "cuStreamSynchronize",
    ]
    assert notes_of(gpu, session.snapshot) == ["cuMemcpyDtoH", "cuStreamSynchronize"]
    assert notes_of(gpu, session.reset) == []


def test_the_calls_of_a_block_of_frames(
    artifact: Artifact, gpu: EmulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One launch for all frames between two copies, and no memory is taken from the second on."""
    monkeypatch.setattr("edgelstm.pace.STRETCH_NS", 10**15)  # the emulator is slow
    session = artifact.session()
    for _ in range(2):  # the first run is cut, for nobody knows yet how long a step takes
        session.run(np.zeros((3, 3), np.float32))
    notes = notes_of(gpu, lambda: session.run(np.zeros((3, 3), np.float32)))
    assert [note.split()[0] for note in notes] == [
        "cuMemcpyHtoD",  # the state
        "cuStreamSynchronize",
        "cuMemcpyHtoD",
        "cuLaunchKernel",
        "cuMemcpyDtoH",
        "cuStreamSynchronize",
        "cuMemcpyDtoH",  # the state
        "cuStreamSynchronize",
    ]


def test_the_calls_of_many_streams(artifact: Artifact, gpu: EmulatedGpu) -> None:
    """A frame of all streams is one graph; who joins, leaves or is reset costs one small copy."""
    streams = artifact.session(streams=3)
    frames = np.zeros((3, 3), np.float32)
    streams.step(frames)
    assert notes_of(gpu, lambda: streams.step(frames)) == [
        "cuGraphLaunch to device, tiny_many, to host",
        "cuStreamSynchronize",
    ]
    copy = ["cuMemcpyHtoD", "cuStreamSynchronize"]
    assert notes_of(gpu, lambda: streams.leave(1)) == copy
    assert notes_of(gpu, lambda: streams.reset(2)) == copy
    assert notes_of(gpu, streams.join) == 2 * copy
    assert notes_of(gpu, lambda: streams.snapshot(0)) == ["cuMemcpyDtoH", "cuStreamSynchronize"]


def test_long_blocks_go_in_pieces(
    artifact: Artifact, gpu: EmulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinned memory is bounded; the results are those of one piece."""
    frames = np.random.default_rng(5).standard_normal((7, 2, 3)).astype(np.float32)
    whole = artifact.session(streams=2).run(frames)
    monkeypatch.setattr(cuda_streams, "PIECE_BYTES", 3 * 2 * 8 * 4)
    monkeypatch.setattr(pace, "_FIRST", len(frames))  # how long stretches are is a matter of time
    gpu.clear()
    np.testing.assert_array_equal(artifact.session(streams=2).run(frames), whole)
    launches = [note for note in gpu.notes() if note.startswith(("cuLaunch", "cuGraphLaunch"))]
    assert len(launches) == 4  # 3 + 3 + 1 frames, and the one that records the graph


def test_an_exchange_is_launched_as_one_cooperative_grid(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """All blocks that wait for each other are on the chip at once, or the plain kernel runs."""
    gpu.prepare((8, 7), 8)
    model = models.stacked_model(ops=("LSTM",), hidden=32, features=3, steps=None)
    compiled = compile_for(model, "cuda:sm_87", tmp_path, shape="exchange")
    gpu.ptx = compiled.ptx
    team = compiled.kernels[0]["team"]
    streams = compiled.artifact.session(streams=8 // team)
    streams.run(np.zeros((1, 8 // team, 3), np.float32))
    launches = [note for note in gpu.notes() if note.startswith("cuLaunch")]
    assert "cuLaunchKernelEx tiny_one grid=8" in launches[0]
    assert "cooperative=1" in launches[0]
    gpu.clear()
    compiled.artifact.session(streams=8).run(np.zeros((1, 8, 3), np.float32))
    assert any(note.startswith("cuLaunchKernel tiny_many grid=8") for note in gpu.notes())


def test_streams_join_and_leave(artifact: Artifact) -> None:
    """Each place has its own state; one that left stands still until it is taken again."""
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((3, 3, 3)).astype(np.float32)
    streams = artifact.session(streams=3)
    first = streams.step(frames[0])
    streams.leave(1)
    assert streams.active.tolist() == [True, False, True]
    second = streams.step(frames[1])
    np.testing.assert_array_equal(second[1], np.zeros_like(second[1]))
    kept = streams.snapshot(1)
    assert streams.join() == 1
    streams.restore(1, kept)
    third = streams.step(np.stack([frames[2][0], frames[1][1], frames[2][2]]))
    single = artifact.session()
    single.step(frames[0][1])
    np.testing.assert_array_equal(third[1], single.step(frames[1][1]))
    streams.reset(0)
    np.testing.assert_array_equal(streams.step(frames[0])[0], first[0])
    with pytest.raises(StreamError, match="places are taken"):
        streams.join()


def test_samples_that_are_refused(artifact: Artifact) -> None:
    """NaN, wrong shapes: named, and no state is changed."""
    streams, single = artifact.session(streams=2), artifact.session()
    before = streams.snapshot(1), single.snapshot()
    bad = np.zeros((2, 3), np.float32)
    bad[1, 2] = np.nan
    with pytest.raises(NonFiniteSampleError, match="stream 1"):
        streams.step(bad)
    with pytest.raises(NonFiniteSampleError):
        single.step(bad[1])
    with pytest.raises(NonFiniteSampleError):
        single.run(bad)
    with pytest.raises(StreamError, match="expected"):
        streams.step(np.zeros((3, 3), np.float32))
    assert (streams.snapshot(1), single.snapshot()) == before


def test_magnitudes_beyond_the_limit_are_refused(artifact: Artifact) -> None:
    """The limit of the manifest, in single sessions and in sets of streams."""
    limit = np.float32(artifact.signature.inputs[0].limit)
    assert limit < np.inf
    bad = np.zeros((2, 3), np.float32)
    bad[1, 2] = np.nextafter(limit, np.float32(np.inf))
    with pytest.raises(NonFiniteSampleError, match=r"stream 1, element \[2\].*beyond"):
        artifact.session(streams=2).step(bad)
    single = artifact.session()
    with pytest.raises(NonFiniteSampleError, match=r"element \[2\].*beyond"):
        single.step(bad[1])
    with pytest.raises(NonFiniteSampleError, match=r"frame 1, element \[2\].*beyond"):
        single.run(bad)


def test_states_that_overflow_are_kept_out(
    gpu: EmulatedGpu, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Step and run see every new state on the host; what would not is refused by name."""
    model = models.rnn_model(features=3, steps=None, activations=("Relu",), outputs=("Y",), gain=9)
    compiled = compile_for(model, "cuda:sm_90", tmp_path_factory.mktemp("relu"))
    gpu.ptx = compiled.ptx
    artifact = compiled.artifact
    assert artifact.signature.checks_states
    frames = np.zeros((4, 3), np.float32)
    frames[2] = [1e36, -1e36, 1e36]
    session, other = artifact.session(), artifact.session()
    with pytest.raises(NonFiniteStateError, match="frame 2 of the block") as caught:
        session.run(frames)
    assert caught.value.frames_done == 2
    np.testing.assert_array_equal(caught.value.outputs, other.run(frames[:2]))
    assert session.snapshot() == other.snapshot()
    with pytest.raises(NonFiniteStateError):
        session.step(frames[2])
    assert session.snapshot() == other.snapshot()
    with pytest.raises(CapabilityError, match="checked on the host"):
        artifact.session(streams=2)


def test_all_is_given_back(compiled: Compiled, gpu: EmulatedGpu) -> None:
    """When sessions end only what the kernels share stays, and with the artifact that goes too."""
    gpu.ptx = compiled.ptx
    gc.collect()
    before = gpu.live_pieces(), gpu.live_handles()
    artifact = Artifact(compiled.artifact.container)
    single = artifact.session()
    single.run(np.zeros((2, 3), np.float32))  # memory for blocks of frames is kept
    single.close()
    shared = gpu.live_pieces(), gpu.live_handles()
    for _ in range(3):
        with artifact.session(streams=4) as streams:
            streams.run(np.zeros((2, 4, 3), np.float32))
            streams.step(np.zeros((4, 3), np.float32))
        session = artifact.session()
        session.step(ZERO)
        session.close()
        assert (gpu.live_pieces(), gpu.live_handles()) == shared
    del artifact, single, session, streams
    gc.collect()
    assert (gpu.live_pieces(), gpu.live_handles()) == before


@pytest.mark.parametrize(
    ("call", "code", "error", "words"),
    [
        ("cuInit", 100, TargetUnavailableError, "CUDA_ERROR_NO_DEVICE"),
        ("cuModuleLoadData", 209, ToolchainError, "CUDA_ERROR_NO_BINARY_FOR_GPU.*cuda=12"),
        (
            "cuMemAlloc",
            2,
            ToolchainError,
            r"cuMemAlloc_v2 says CUDA_ERROR_OUT_OF_MEMORY \(2, out of memory\): close sessions",
        ),
        ("cuGraphLaunch", 700, ToolchainError, "CUDA_ERROR_ILLEGAL_ADDRESS.*start it again"),
        ("cuGraphInstantiate", 999, ToolchainError, "an error without a name \\(999\\)"),
        ("cuInit", 803, TargetUnavailableError, "SYSTEM_DRIVER_MISMATCH.*start the machine again"),
    ],
)
def test_errors_of_the_driver_are_named(
    artifact: Artifact, gpu: EmulatedGpu, call: str, code: int, error: type, words: str
) -> None:
    """What the driver refuses is said by the call and the error's name."""
    gpu.fail(call, code)
    with pytest.raises(error, match=words):
        artifact.session().step(np.zeros(3, np.float32))


def changed(
    artifact: Artifact, entry: Callable[[dict[str, Any]], None], **sections: bytes
) -> Artifact:
    """The artifact with its kernels' entries, or sections, changed."""
    manifest = copy.deepcopy(artifact.manifest)
    for kernel in manifest["target"]["facts"]["kernels"]:
        entry(kernel)
    return Artifact(Container(manifest, {**artifact.container.sections, **sections}))


def test_parameters_are_checked_against_the_code(artifact: Artifact, gpu: EmulatedGpu) -> None:
    """A kernel that wants other parameters than it would get is never started."""
    gpu.prepare((12, 0))  # takes the PTX
    text = bytes(artifact.container.section("ptx/sm_90/many")).decode()
    narrow = text.replace(".param .u64 tiny_many_param_5", ".param .u32 tiny_many_param_5")
    assert narrow != text
    other = changed(artifact, lambda _: None, **{"ptx/sm_90/many": narrow.encode()})
    with pytest.raises(ArtifactFormatError, match=r"\(8, 8, 8, 8, 8, 4, 4, 4\) bytes"):
        other.session()


def test_names_are_checked_against_the_code(artifact: Artifact, gpu: EmulatedGpu) -> None:
    """A kernel that the cubin does not hold is named before the driver is asked."""
    other = changed(artifact, lambda kernel: kernel.update(entry="stranger"))
    with pytest.raises(ArtifactFormatError, match=r"'stranger' is not in its cubin"):
        other.session()
    assert not any(note.startswith("cuModuleLoadData") for note in gpu.notes())


def test_a_gpu_that_the_artifact_has_no_code_for(artifact: Artifact, gpu: EmulatedGpu) -> None:
    """An older chip is refused by name; a newer one gets the PTX."""
    gpu.prepare((8, 6))
    with pytest.raises(TargetUnavailableError, match=r"sm_86.*--target cuda:sm_86"):
        artifact.session()


def test_a_machine_without_the_driver(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The artifact can be read and inspected there; a session says what is missing."""
    monkeypatch.setenv(DRIVER_VARIABLE, "/nowhere/libcuda.so.1")
    open_device.cache_clear()
    artifact = Artifact(compiled.artifact.container)
    with pytest.raises(TargetUnavailableError, match=r"no CUDA driver here.*another target"):
        artifact.session()
    report = describe_artifact(artifact)
    assert report["runs_here"] is False
    (kernel,) = (each for each in report["kernels"] if each["form"] == "cubin")
    assert (kernel["chip"], kernel["shape"], kernel["streams"]) == ("sm_90", "block", "many")
    assert kernel["registers"] > 0
    assert kernel["shared_bytes"] > 0
    assert "in registers" in kernel["why"]


def test_inspect_explains_the_kernels(compiled: Compiled, tmp_path: Path) -> None:
    """The command shows what each kernel takes, and why it has its shape."""
    path = tmp_path / "model.edgelstm"
    compiled.artifact.save(path)
    shown = CliRunner().invoke(inspect_command, [str(path)]).output
    assert "kernels:" in shown
    assert "registers" in shown
    assert "sm_90 many" in shown.split("why these shapes:")[1]


def test_a_newer_gpu_takes_the_ptx(artifact: Artifact, gpu: EmulatedGpu) -> None:
    """PTX of the newest chip is in the artifact for chips to come."""
    gpu.prepare((12, 0))
    artifact.session()
    assert "cuModuleLoadData ptx" in gpu.notes()


def test_loading_takes_no_package_of_cuda(
    compiled: Compiled, mock_path: Path, tmp_path: Path
) -> None:
    """A device needs NumPy and the driver: no numba, no cuda packages, no compiler."""
    path = tmp_path / "model.edgelstm"
    compiled.artifact.save(path)
    code = (
        "import sys, numpy, edgelstm\n"
        f"session = edgelstm.load({str(path)!r}).session()\n"
        "session.step(numpy.zeros(3, numpy.float32))\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"EDGELSTM_CUDA_DRIVER": str(mock_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    strangers = {"numba", "numba_cuda", "llvmlite", "cuda", "edgelstm_compiler", "edgelstm_targets"}
    assert not loaded & strangers
