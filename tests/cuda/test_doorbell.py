"""The kernel that waits for frames: its results, its end, and what must not be missing."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.engines import cuda_doorbell
from edgelstm.errors import CapabilityError, EdgeLSTMError, NonFiniteSampleError, ToolchainError
from edgelstm_compiler.driver import compile_model
from tests import models
from tests.cuda.emulated import Compiled, EmulatedGpu, compile_for
from tests.cuda.test_parity import FP32, assert_near, expected_outputs
from tests.gpu.sections import doorbell_parity, parity

FEATURES = 5


def layers(*ops: str, **options: Any) -> Any:
    """A small stack over free time."""
    return models.stacked_model(ops=ops, hidden=16, features=FEATURES, steps=None, **options)


MODEL = layers("LSTM", head="sequence")
X = np.random.default_rng(11).standard_normal((6, FEATURES)).astype(np.float32)


def waiting(folder: Path, gpu: EmulatedGpu, model: Any = MODEL, shape: str = "block") -> Compiled:
    """A model with the kernel that waits, ready on the emulated GPU."""
    compiled = compile_for(model, "cuda:sm_90", folder, shape=shape, doorbell="yes")
    gpu.ptx, gpu.limit = compiled.ptx, 2_000_000
    return compiled


def take_steps(artifact: Artifact, x: Any = X) -> Any:
    """Frames one by one through a session with a doorbell."""
    with artifact.session(latency="doorbell") as session:
        return np.array([session.step(frame).copy() for frame in x])


@pytest.mark.parametrize(
    ("shape", "model", "seed"),
    [
        ("block", MODEL, None),
        ("block", MODEL, 1),
        ("cluster", layers("LSTM"), 2),
        ("exchange", layers("GRU"), 3),
    ],
)
def test_frames_in_sequence(
    gpu: EmulatedGpu, tmp_path: Path, shape: str, model: Any, seed: int | None
) -> None:
    """Each shape answers frame after frame as the reference does."""
    compiled = waiting(tmp_path, gpu, model, shape)
    gpu.seed = seed
    found = take_steps(compiled.artifact)
    assert gpu.failure is None
    name = compiled.artifact.signature.outputs[0].name
    assert_near(found, {name: expected_outputs(model, X[:, None])[name][:, 0]})
    (entry,) = (k for k in compiled.kernels if k["streams"] == "doorbell" and k["form"] == "cubin")
    assert entry["shape"] == shape


def test_the_parity_of_the_session_for_gpus(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """What `tests.gpu.session` checks on a GPU holds in the emulator."""
    artifact = waiting(tmp_path, gpu).artifact
    reference = compile_model(MODEL, target="reference", check=False)
    assert parity(artifact, reference) <= FP32
    assert doorbell_parity(artifact, reference) <= FP32


def test_states_are_kept_set_and_run_on(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Snapshot, reset, restore and blocks of frames between steps, as in any session."""
    compiled = waiting(tmp_path, gpu)
    plain, session = compiled.artifact.session(), compiled.artifact.session(latency="doorbell")
    expected = np.array([plain.step(frame).copy() for frame in X])
    found = [session.step(frame).copy() for frame in X[:2]]
    kept = session.snapshot()
    found.append(session.step(X[2]).copy())
    found.extend(session.run(X[3:5]))
    found.append(session.step(X[5]).copy())
    np.testing.assert_array_equal(np.array(found), expected)
    assert session.snapshot() == plain.snapshot()
    session.restore(kept)
    np.testing.assert_array_equal(session.step(X[2]), expected[2])
    session.reset()
    np.testing.assert_array_equal(session.step(X[0]), expected[0])
    session.close()


def test_the_calls_of_a_doorbell(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """One launch at the first step, nothing at the next, one wait when it ends; all given back."""
    artifact = waiting(tmp_path, gpu).artifact
    shared = artifact.kernel, gpu.live_pieces(), gpu.live_handles()
    session = artifact.session(latency="doorbell")
    assert "cuMemHostAlloc flags=2" in gpu.notes()
    gpu.clear()
    session.step(X[0])
    (launch,) = gpu.notes()
    assert launch.startswith("cuLaunchKernel tiny_doorbell grid=1 ")
    gpu.clear()
    session.step(X[1])
    assert gpu.notes() == []
    session.close()
    assert gpu.notes()[0] == "cuStreamSynchronize"
    assert sorted(gpu.notes()[2:]) == ["cuMemFree", "cuMemFreeHost", "cuStreamDestroy"]
    assert (gpu.live_pieces(), gpu.live_handles()) == shared[1:]


def test_a_session_that_is_dropped_ends_its_kernel(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Without close, the kernel is stopped before its memory goes."""
    artifact = waiting(tmp_path, gpu).artifact
    shared = artifact.kernel, gpu.live_pieces()
    session = artifact.session(latency="doorbell")
    session.step(X[0])
    del session
    assert gpu.live_pieces() == shared[1]
    assert gpu.failure is None


def test_a_kernel_that_hears_nothing_ends(
    gpu: EmulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its state, and the next step starts another that goes on from there."""
    monkeypatch.setattr(cuda_doorbell, "IDLE_US", 0)
    compiled = waiting(tmp_path, gpu)
    kernel = compiled.artifact.kernel.with_doorbell(idle_us=300)  # type: ignore[attr-defined]
    session = compiled.artifact.on(kernel).session()
    found = [session.step(frame).copy() for frame in X[:3]]
    gpu.await_idle()
    found += [session.step(frame).copy() for frame in X[3:]]
    assert sum(note.startswith("cuLaunchKernel tiny_doorbell") for note in gpu.notes()) >= 2
    expected = expected_outputs(MODEL, X[:, None])["Z"][:, 0]
    assert_near(np.array(found), {"Z": expected})


def test_a_kernel_that_fails_is_named(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """The host does not wait for an answer that cannot come, nor goes on with what is lost."""
    artifact = waiting(tmp_path, gpu).artifact
    expected = take_steps(artifact, X[:1])
    limit, gpu.limit = gpu.limit, 20
    session = artifact.session(latency="doorbell")
    with pytest.raises(ToolchainError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        session.step(X[0])
    gpu.limit, gpu.failure = limit, None
    for action in (lambda: session.step(X[0]), session.snapshot, lambda: session.run(X)):
        with pytest.raises(ToolchainError, match="state is lost"):
            action()
    session.reset()
    np.testing.assert_array_equal(session.step(X[0]), expected[0])
    session.close()


def test_a_sample_that_is_refused(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """NaN never reaches the kernel, and the state is as before."""
    artifact = waiting(tmp_path, gpu).artifact
    with artifact.session(latency="doorbell") as session:
        session.step(X[0])
        with pytest.raises(NonFiniteSampleError):
            session.step(np.full(FEATURES, np.nan, np.float32))
        found = session.step(X[1]).copy()
    np.testing.assert_array_equal(found, take_steps(artifact, X[:2])[1])


CHANGES: dict[str, Callable[[str], str]] = {
    "acquire of the bell": lambda ptx: ptx.replace("ld.acquire.sys", "ld.relaxed.sys"),
    "release of the answer": lambda ptx: ptx.replace("st.release.sys", "st.relaxed.sys"),
    "barriers of the loop": lambda ptx: without_loop_barriers(ptx),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_missing_order_is_caught(
    gpu: EmulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without it some order of the warps gives a wrong result or none; with it none does."""
    artifact = waiting(tmp_path, gpu).artifact
    expected = expected_outputs(MODEL, X[:, None])["Z"][:, 0]

    def is_caught(seed: int) -> bool:
        gpu.seed, gpu.failure = seed, None
        try:
            assert_near(take_steps(artifact), {"Z": expected})
        except (AssertionError, EdgeLSTMError) as error:
            print(f"caught with seed {seed}: {error}")
            return True
        return False

    assert not is_caught(0)
    whole = gpu.ptx
    gpu.change = CHANGES[name]
    monkeypatch.setattr(cuda_doorbell, "_DEADLINE_S", 5.0)
    assert gpu.change(whole) != whole
    assert any(is_caught(seed) for seed in range(3))


def without_loop_barriers(ptx: str) -> str:
    """The kernels without the barriers between bell and answer: behind a role's first two."""
    parts = re.split(r"(?=ld\.acquire\.sys)", ptx)
    kept = [parts[0], *(part.replace("barrier.sync.aligned", "// ") for part in parts[1:])]
    return "".join(kept)


def without_doorbell(artifact: Artifact) -> Artifact:
    """The same artifact as if it had been compiled without the kernel that waits."""
    manifest = copy.deepcopy(artifact.manifest)
    facts = manifest["target"]["facts"]
    facts["kernels"] = [each for each in facts["kernels"] if each["streams"] != "doorbell"]
    return Artifact(Container(manifest, artifact.container.sections))


def test_other_engines_and_artifacts_refuse_by_name(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """What is missing is said: the engine, the option, the GPU."""
    reference = compile_model(MODEL, target="reference", check=False)
    with pytest.raises(CapabilityError, match="engine reference has no doorbell"):
        reference.session(latency="doorbell")
    compiled = waiting(tmp_path, gpu)
    with pytest.raises(CapabilityError, match="--option doorbell=yes"):
        without_doorbell(compiled.artifact).session(latency="doorbell")
    gpu.set_watchdog(True)
    with pytest.raises(CapabilityError, match="watchdog of the display"):
        compiled.artifact.session(latency="doorbell")
    with pytest.raises(ValueError, match="latency='low'"):
        compiled.artifact.session(latency="low")
