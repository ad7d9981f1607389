"""The target host: what it makes of a Program, and what it says when it cannot."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.engines.cpu_features import cpu_flags
from edgelstm.errors import CapabilityError, TargetUnavailableError, ToolchainError
from edgelstm_compiler import elf
from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.ops import Direction
from edgelstm_compiler.target import Target, find_target
from edgelstm_targets.processors.x86 import X86_64
from edgelstm_targets.tvm_cpu import link
from edgelstm_targets.tvm_cpu import target as tvm_target
from edgelstm_targets.tvm_cpu.target import HostTarget
from tests.unit.targets.native import emit, natives
from tests.unit.targets.packing import ProgramBuilder

tvm = pytest.mark.tvm
SECTIONS = ["code/x86-64-v4", "code/x86-64-v3", "code/x86-64-v2"]


def stream(features=9, hidden=128, layers=2, name="model"):
    """An LSTM stream with a dense head."""
    rng = np.random.default_rng(0)
    builder = ProgramBuilder(name)
    x, size = builder.input(DType.F32, (features,)), features
    for _ in range(layers):
        op = LSTM(hidden, Direction.FORWARD, (SIGMOID, TANH, TANH), None)
        shapes = ((1, 4 * hidden, size), (1, 4 * hidden, hidden), (1, 8 * hidden))
        weights = [(rng.normal(size=s) * 0.1).astype(np.float32) for s in shapes]
        h, c = (builder.memory((1, 1, hidden)) for _ in range(2))
        y = builder.temporary((1, 1, 1, hidden))
        builder.recurrent(op, size, 1, 1, weights, x=x, h0=h, c0=c, y=y, y_h=h, y_c=c)
        x, size = y, hidden
    w, b = rng.normal(size=(hidden, 6)).astype(np.float32), np.zeros(6, np.float32)
    builder.dense(x, builder.output(DType.F32, (6,)), w, b)
    return builder.build()


@pytest.fixture(scope="module")
def emission():
    pytest.importorskip("tvm")
    return emit(stream())


def shared_objects(emission):
    """Sections that the loader takes; each has an object file beside it."""
    loaded = [name for name in emission.sections if name.startswith("code/")]
    loose = [name for name in emission.sections if name.startswith("object/")]
    assert [name.partition("/")[2] for name in loaded] == [n.partition("/")[2] for n in loose]
    return loaded


@tvm
def test_sections_and_facts(emission):
    """One shared object per instruction set, best first, with the CPU flags it requires."""
    assert shared_objects(emission) == SECTIONS
    assert emission.engine == "native"
    assert [isa["section"] for isa in emission.facts["isas"]] == SECTIONS
    assert "avx512f" in emission.facts["isas"][0]["requires"]
    assert "avx2" not in emission.facts["isas"][2]["requires"]
    assert emission.facts["linker"]
    assert emission.facts["tvm"]


@tvm
def test_exports_and_nothing_undefined(emission):
    """The loader sees three functions and the sizes, and needs nothing."""
    for section in shared_objects(emission):
        code = emission.sections[section]
        assert elf.exports(code) == ("model_read", "model_run", "model_sizes", "model_step")
        assert elf.undefined(code, dynamic=True) == ()


@tvm
def test_code_is_small(emission):
    """Two layers of 128 units and a head, all of the file counted."""
    for section in shared_objects(emission):
        assert len(emission.sections[section]) <= 24 * 1024, section


@tvm
def test_repeated_compilation_is_byte_identical(emission):
    """In this process."""
    again = emit(stream())
    assert dict(again.sections) == dict(emission.sections)
    assert again.header == emission.header


@tvm
def test_compilation_is_byte_identical_elsewhere(emission, tmp_path):
    """In another process, another working directory and another temporary folder."""
    root = Path(__file__).parents[3]
    code = (
        "import sys, hashlib\n"
        f"sys.path[:0] = [{str(root)!r}, {str(root / 'compiler')!r}, {str(root / 'targets')!r}]\n"
        "from tests.unit.targets.test_host_target import digest, emit, stream\n"
        "print(digest(emit(stream())))\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "PYTHONHASHSEED": "7"}
    environment["EDGELSTM_STREAMS"] = "no"  # as this suite has it
    outcome = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip() == digest(emission)


def digest(emission):
    return hashlib.sha256(b"".join(emission.sections.values())).hexdigest()


@tvm
def test_compilation_is_fast():
    """Three instruction sets of a two-layer model, once TVM is loaded."""
    pytest.importorskip("tvm")
    target = HostTarget()
    result = stream(layers=1)
    begin = 0.0
    for program in (result, stream()):
        begin, result = time.process_time(), program
        for stage in target.stages(target.options({}))[:2]:
            result = stage.run(result)
    assert time.process_time() - begin < 3


@tvm
def test_header_compiles(emission, tmp_path):
    """As C and as C++, with all warnings."""
    (tmp_path / "model.h").write_text(emission.header)
    assert "#define MODEL_INPUT_BYTES 36" in emission.header
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    for language in ("c", "c++"):
        subprocess.run(
            [compiler, "-x", language, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-"],
            input=b'#include "model.h"\nint main(void){return MODEL_OUTPUT_BYTES != 24;}\n',
            cwd=tmp_path,
            check=True,
        )


@tvm
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_input_changes_nothing(bad):
    """Step and run name the input; a run looks at the whole block first."""
    pytest.importorskip("tvm")
    builder = ProgramBuilder("two")
    a, b = builder.input(DType.F32, (5,)), builder.input(DType.F64, (3,))
    integer = builder.input(DType.I32, (2,))
    op = LSTM(20, Direction.FORWARD, (SIGMOID, TANH, TANH), None)
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s).astype(np.float32) for s in ((1, 80, 5), (1, 80, 20), (1, 160))]
    h, c = (builder.memory((1, 1, 20)) for _ in range(2))
    y = builder.output(DType.F32, (20,))
    builder.recurrent(op, 5, 1, 1, weights, x=a, h0=h, c0=c, y=y, y_h=h, y_c=c)
    frames = np.zeros(40, [("a", "f4", 5), ("pad", "i4"), ("b", "f8", 3), ("integer", "i4", 2)])
    assert (frames.itemsize, b.offset_bytes, integer.offset_bytes) == (56, 24, 48)
    frames["a"] = rng.normal(size=(40, 5))
    frames["integer"] = -1  # the bits of a NaN
    frames["pad"] = -1
    for isa, native in natives(builder.build()).items():
        assert native.call(frames.tobytes(), 40)[0] == 0, isa
        before = native.state.copy()
        for field, place, code in (("a", 4, 1), ("b", 2, 2)):
            damaged = frames.copy()
            damaged[field][33, place] = bad
            assert native.call(damaged.tobytes(), 40)[0] == code, isa
            assert native.call(damaged[33:34].tobytes())[0] == code, isa
            assert native.call(damaged[32:33].tobytes(), 0)[0] == 0, isa
            np.testing.assert_array_equal(native.state, before)


@tvm
def test_silence_never_gets_slow(emission):
    """A state that decays ends in zero, not in denormal numbers."""
    builder = ProgramBuilder("decay")
    op = LSTM(16, Direction.FORWARD, (SIGMOID, TANH, TANH), None)
    weights = [np.zeros(s, np.float32) for s in ((1, 64, 1), (1, 64, 16), (1, 128))]
    h, c = builder.memory((1, 1, 16)), builder.memory((1, 1, 16), np.ones((1, 1, 16)))
    x, y = builder.input(DType.F32, (1,)), builder.output(DType.F32, (16,))
    builder.recurrent(op, 1, 1, 1, weights, x=x, h0=h, c0=c, y=y, y_h=h, y_c=c)
    for native in natives(builder.build()).values():
        _, block = native.call(bytes(4 * 1000), 1000)
        values = np.abs(np.frombuffer(block, np.float32))
        assert values[0] > 0.1
        assert values[-1] == 0
        assert not ((values > 0) & (values < 1e-30)).any()


@tvm
def test_read_sums_the_memory(emission):
    """The checksum depends on every byte of whole chunks, and on the repeats."""
    for native in natives(stream(hidden=16, layers=1)).values():
        data = native.weights[: native.weights.size // 512 * 512]
        pointer, size = data.ctypes.data, data.size

        def read(repeats, pointer=pointer, size=size, native=native):
            return native.read(
                ctypes.c_void_p(pointer), ctypes.c_int64(size), ctypes.c_int64(repeats)
            )

        total = int(data.view(np.int32).sum(dtype=np.int64))
        assert (read(1) - total) % (1 << 32) == 0
        assert (read(3) - 3 * total) % (1 << 32) == 0


@tvm
def test_native_option():
    """Code for this machine's processor alone."""
    pytest.importorskip("tvm")
    emission = emit(stream(hidden=16, layers=1), cpu="native")
    assert shared_objects(emission) == ["code/native"]
    (native,) = natives(stream(hidden=16, layers=1), cpu="native").values()
    (generic, *_) = natives(stream(hidden=16, layers=1)).values()
    x = np.ones(9, np.float32)
    np.testing.assert_allclose(native.step(x)[0], generic.step(x)[0], rtol=0, atol=1e-5)


@tvm
def test_the_best_instruction_set_alone(monkeypatch: pytest.MonkeyPatch):
    """The same code as among the others, without them; on an older machine that of an older one."""
    every, best = emit(stream()), emit(stream(), cpu="best")
    (section,) = shared_objects(best)
    here = [isa for isa in X86_64 if cpu_flags().issuperset(isa.requires)]
    assert section == f"code/{here[0].name}"
    assert best.sections[section] == every.sections[section]
    monkeypatch.setattr(tvm_target, "cpu_flags", lambda: frozenset(X86_64[-1].requires))
    assert shared_objects(emit(stream(), cpu="best")) == ["code/x86-64-v2"]
    monkeypatch.setattr(tvm_target, "cpu_flags", frozenset)
    with pytest.raises(TargetUnavailableError, match="cpu=best: this machine is no x86-64"):
        emit(stream(), cpu="best")


@tvm
def test_the_default_is_the_environments(monkeypatch: pytest.MonkeyPatch):
    """An option that is given goes before it."""
    monkeypatch.setenv("EDGELSTM_CPU", "best")
    assert HostTarget().options({}).to_json() == {"cpu": "best"}
    assert HostTarget().options({"cpu": "generic"}).to_json() == {"cpu": "generic"}
    monkeypatch.setenv("EDGELSTM_CPU", "z80")
    with pytest.raises(CapabilityError, match="environment variable EDGELSTM_CPU is 'z80'"):
        HostTarget().options({})


@tvm
def test_equal_kernels_share_a_function():
    """A third equal layer costs no further kernel."""
    pytest.importorskip("tvm")
    target = HostTarget()
    lower = target.stages(target.options({}))[0]
    counts = [len(lower.run(stream(layers=n)).functions[0][1]) for n in (2, 3)]
    assert counts[0] == counts[1]


@tvm
def test_stages_have_listings():
    """TensorIR and assembler text for --dump."""
    pytest.importorskip("tvm")
    target = HostTarget()
    result = stream(hidden=16, layers=1)
    texts = []
    for stage in target.stages(target.options({})):
        result = stage.run(result)
        texts.append(stage.text(result) if stage.text else "")
    assert "def model_step" in texts[0]
    assert "vfmadd" in texts[1]


def test_probe_without_tvm(monkeypatch):
    """Says what to install, and does not raise."""
    find = link.importlib.util.find_spec
    monkeypatch.setattr(
        link.importlib.util, "find_spec", lambda name: None if name == "tvm" else find(name)
    )
    probe = HostTarget().probe()
    assert not probe.can_build
    assert "/compiler" in probe.reason


def test_probe_without_linker(monkeypatch):
    """Says what to install."""
    monkeypatch.setattr("edgelstm_targets.tvm_cpu.target.find_linkers", lambda: ())
    assert "install binutils or lld" in HostTarget().probe().reason


def test_linkers_by_processor(monkeypatch, tmp_path):
    """A GNU linker is taken for what it says it can link; without any, the package is named."""
    script = tmp_path / "ld"
    script.write_text(
        "#!/bin/sh\necho GNU ld\necho ' Supported emulations:'\necho '  elf_x86_64'\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "tvm" or None)
    assert [linker.name for linker in link.find_linkers(elf.X86_64)] == ["ld"]
    assert not link.find_linkers(elf.AARCH64)
    reason = find_target("rpi5").probe().reason
    assert "no linker for AArch64: install binutils-aarch64-linux-gnu or lld" in reason


@tvm
def test_every_linker_makes_a_working_object(emission):
    """GNU ld and the linker of ziglang, where they are."""
    pytest.importorskip("tvm")
    target = HostTarget()
    result = stream(hidden=16, layers=1)
    for stage in target.stages(target.options({}))[:2]:
        result = stage.run(result)
    names = ["model_read", "model_run", "model_sizes", "model_step"]
    for linker in link.find_linkers():
        code, used = link.link(result.compiled[0].code, names, [linker])
        assert used is linker
        assert elf.exports(code) == tuple(names)
        assert len(code) < 24 * 1024


def test_failing_linkers_are_reported(tmp_path):
    """All of them, with what they said; none at all: what to install."""
    nothing = bytearray(64)  # the header of an object for x86-64 without sections
    nothing[:6], nothing[18] = b"\x7fELF\x02\x01", 62
    broken = tmp_path / "ld"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(ToolchainError, match="ld: out of luck"):
        link.link(bytes(nothing), ["a"], [link.Linker("ld", (str(broken),))])
    with pytest.raises(ToolchainError, match="pip install ziglang"):
        link.link(bytes(nothing), ["a"], [])


def test_options():
    """Known ones are read, others refused with the known ones named."""
    target = HostTarget()
    assert isinstance(target, Target)
    assert target.options({}).to_json() == {"cpu": "generic"}
    with pytest.raises(CapabilityError, match="has no option 'speed'; it has: cpu"):
        target.options({"speed": "1"})
    with pytest.raises(CapabilityError, match="'generic', 'best' or 'native'"):
        target.options({"cpu": "z80"})


def test_instruction_sets_build_on_each_other():
    """Best first; each requires all that the next one does."""
    for better, other in pairwise(X86_64):
        assert set(better.requires) > set(other.requires)


def test_importing_the_target_does_not_import_tvm():
    """The runtime lists targets without loading a compiler."""
    code = "import sys, edgelstm_targets.tvm_cpu.target; print('tvm' in sys.modules)"
    root = Path(__file__).parents[3]
    path = ":".join(str(root / part) for part in ("", "compiler", "targets"))
    outcome = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert outcome.stdout.strip() == "False"
