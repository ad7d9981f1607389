"""Compiled code and the reference engine refuse the same, and code says what memory it wants."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError, ArtifactFormatError
from edgelstm_compiler import compile_model
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_targets.tvm_cpu.link import find_linkers, link
from tests.fuzz.artifacts import LEVELS, on_every_engine
from tests.fuzz.hostile_inputs import check, models
from tests.models import gru_model, lstm_model, rnn_model

pytestmark = pytest.mark.tvm


def test_engines_agree_on_hostile_inputs() -> None:
    """The reference engine, every level of this processor and an emulated ARM."""
    found = check(60)
    assert len(found) == 4, f"a kind of refusal never came: {found}"


def test_nothing_is_touched_beyond_the_buffers() -> None:
    """Guard pages and canaries around every buffer; in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guarded_buffers", "6"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert "nothing beyond its buffers" in done.stdout


@pytest.mark.parametrize("make", [lstm_model, gru_model, rnn_model])
@pytest.mark.parametrize("target", ["host", "reference"])
def test_samples_at_the_limit_keep_the_stream_finite(make, target: str) -> None:
    """And those just beyond are refused."""
    artifact = compile_model(make(features=3, steps=None, outputs=("Y",)), target=target)
    limit = np.float32(artifact.signature.inputs[0].limit)
    assert 1e36 < limit < np.inf
    frames = np.random.default_rng(0).choice([-limit, limit], (300, 3))
    session = artifact.session()
    assert np.isfinite(session.run(frames)).all()
    session.step(np.full(3, limit))


@pytest.mark.parametrize("scheme", ["fp16", "w8", "w4"])
def test_weights_in_few_bits_have_limits(scheme: str) -> None:
    """The same cells with stored weights."""
    model = lstm_model(features=3, steps=None, outputs=("Y",))
    artifact = compile_model(model, quantize=scheme)
    limit = np.float32(artifact.signature.inputs[0].limit)
    assert 1e35 < limit < np.inf
    frames = np.random.default_rng(0).choice([-limit, limit], (100, 3))
    assert np.isfinite(artifact.session().run(frames)).all()


@pytest.mark.parametrize("scheme", ["int8", "int8-full"])
def test_quantized_inputs_saturate_within_their_limit(scheme: str) -> None:
    """Products of int8 are bounded whatever is quantized."""
    frames = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
    model = lstm_model(features=3, steps=None, outputs=("Y",))
    artifact = compile_model(model, quantize=scheme, calibration=[frames])
    spec = artifact.signature.inputs[0]
    assert not artifact.signature.checks_states
    top = np.float32(min(spec.limit, np.finfo(np.float32).max))
    assert top > 1e30
    huge = np.random.default_rng(0).choice([-top, top], (100, 3)).astype(np.float32)
    assert np.isfinite(artifact.session().run(huge)).all()


def altered(artifact: Artifact, **memory: int) -> Artifact:
    """Other sizes in the manifest."""
    manifest = json.loads(json.dumps(artifact.manifest))
    manifest["memory"].update(memory)
    return Artifact(type(artifact.container)(manifest, artifact.container.sections))


@pytest.fixture(scope="module")
def small() -> Artifact:
    """A compiled LSTM."""
    return compile_model(lstm_model(features=3, steps=None, outputs=("Y",)))


@pytest.mark.parametrize("size", [0, 64, 2**32, 2**39])
def test_sizes_of_the_code_and_the_manifest_must_agree(small: Artifact, size: int) -> None:
    """Before the first step, and before anything is allocated."""
    with pytest.raises(ArtifactFormatError, match=f"scratch of .* manifest says {size}"):
        altered(small, scratch_bytes=size).session()


@pytest.mark.parametrize(
    ("target", "size"),
    [("rpi4", 0), ("rpi4", 2**32), ("rpi4", 2**39), ("cortex-m4", 2**32), ("cortex-m4", 2**39)],
)
def test_emulated_processors_look_at_sizes_too(target: str, size: int) -> None:
    """Code for Linux says what it wants; a microcontroller's is stopped by what follows."""
    pytest.importorskip("unicorn")
    model = lstm_model(features=3, steps=None, outputs=("Y",))
    artifact = altered(compile_model(model, target=target, check=False), scratch_bytes=size)
    with pytest.raises(ArtifactError, match=r"manifest says|more than the emulated"):
        emulate(artifact)


def test_code_without_sizes_runs_between_guards(small: Artifact) -> None:
    """As artifacts of before had it."""
    sections = dict(small.container.sections)
    names = [f"{small.name}_{what}" for what in ("step", "run", "read")]
    for level in LEVELS:
        code, _ = link(bytes(sections[f"object/{level}"]), names, find_linkers())
        sections[f"code/{level}"] = memoryview(code)
    old = Artifact(type(small.container)(small.manifest, sections))
    assert old.kernel.needs_guards
    assert not small.kernel.needs_guards
    frames = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    np.testing.assert_array_equal(old.session().run(frames), small.session().run(frames))


def test_every_level_counts_the_frames_before_an_overflow() -> None:
    """State and outputs are those of the frames that were done."""
    graph = dict(models())["relu rnn"]
    frames = np.zeros((9, 3), np.float32)
    frames[5] = 1e36
    for engine, artifact in on_every_engine(graph):
        spec = artifact.signature
        assert spec.checks_states
        session, other = artifact.session(), artifact.session()
        with pytest.raises(Exception, match=r"frame 5 of the block") as caught:
            session.run(frames)
        assert caught.value.frames_done == 5, engine
        np.testing.assert_array_equal(caught.value.outputs, other.run(frames[:5]))
        assert bytes(session.snapshot()) == bytes(other.snapshot()), engine


def test_forced_levels_are_loaded() -> None:
    """What the tests above compare are different kernels."""
    graph = dict(models())["gru"]
    isas = {a.kernel.facts.get("isa", "none") for _, a in on_every_engine(graph)}
    assert set(LEVELS) <= isas
