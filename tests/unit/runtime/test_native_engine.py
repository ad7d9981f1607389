"""The native engine: choosing and loading code, and what it says where it cannot."""

from __future__ import annotations

import gc
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm import Artifact
from edgelstm.engines import find_engine, native, shared_object
from edgelstm.engines.cpu_features import _numpy_flags, cpu_flags, machine, parse_cpuinfo
from edgelstm.engines.native import ISA_VARIABLE
from edgelstm.errors import ArtifactFormatError, TargetUnavailableError
from edgelstm.memory import address_of, allocate_block
from tests.unit.runtime.toy_models import (
    LEAKY_C,
    WEIGHTS,
    compile_c,
    leaky_native,
    needs_cc,
)

ELF = {"x86_64": 62, "aarch64": 183, "arm": 40}


def fake_elf(architecture: str) -> bytes:
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, ELF[architecture])
    return head + bytes(44)


def with_variants(*isas: tuple[str, list[str]], **changes: Any) -> Artifact:
    """The leaky sum with several instruction sets; each has a gain of its own: 1/2, 1/4, ..."""
    sections = {
        f"code/{isa}": compile_c(LEAKY_C, f"-DGAIN={0.5 ** (i + 1)}f")
        for i, (isa, _) in enumerate(isas)
    }
    entries = [{"section": f"code/{isa}", "requires": flags} for isa, flags in isas]
    return leaky_native(sections=sections, facts={"isas": entries}, **changes)


def gain_of(artifact: Artifact) -> float:
    session = artifact.session()
    session.step([0.5, 0.0])
    return float(session.step([0.0, 0.0])[0])


@needs_cc
def test_the_best_code_that_fits_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first variant whose flags the CPU has; the variable forces another."""
    artifact = with_variants(("v9", ["quantum"]), ("v3", []), ("v2", []))
    assert gain_of(artifact) == 0.25
    assert artifact.kernel.facts == {"engine": "native", "isa": "v3"}
    monkeypatch.setenv(ISA_VARIABLE, "v2")
    assert gain_of(with_variants(("v9", ["quantum"]), ("v3", []), ("v2", []))) == 0.125


@needs_cc
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variant fits, or the one that is forced does not: flags and names are in the message."""
    with pytest.raises(TargetUnavailableError, match=r"v9 needs quantum, which this CPU lacks"):
        with_variants(("v9", ["quantum"])).session()
    monkeypatch.setenv(ISA_VARIABLE, "v9")
    with pytest.raises(TargetUnavailableError, match="v9 needs quantum"):
        with_variants(("v9", ["quantum"]), ("v2", [])).session()
    monkeypatch.setenv(ISA_VARIABLE, "v7")
    with pytest.raises(TargetUnavailableError, match=r"EDGELSTM_ISA=v7.*it has v9, v2"):
        with_variants(("v9", ["quantum"]), ("v2", [])).session()


@pytest.mark.parametrize("architecture", sorted(set(ELF) - {machine()}))
def test_code_of_another_machine_is_refused(architecture: str) -> None:
    """The architecture is read from the code itself."""
    artifact = leaky_native(sections={"code/a": fake_elf(architecture)}, facts={})
    with pytest.raises(TargetUnavailableError, match=f"is code for {architecture}, this machine"):
        artifact.session()


@pytest.mark.parametrize(
    ("sections", "facts"),
    [
        ({}, {}),
        ({"code/a": b"MZ nonsense"}, {}),
        ({"code/a": fake_elf("arm")}, {"isas": [{"section": "code/b"}]}),
        ({"code/a": fake_elf("arm")}, {"isas": [{}]}),
        ({"code/a": fake_elf("arm")}, {"isas": 5}),
        ({"code/a": fake_elf("arm")}, {"isas": []}),
    ],
)
def test_code_and_manifest_must_fit(sections: dict[str, bytes], facts: dict[str, Any]) -> None:
    """Whatever does not fit is a format error, and nothing is loaded."""
    with pytest.raises(ArtifactFormatError, match="compile the model again"):
        leaky_native(sections=sections, facts=facts).session()


@pytest.mark.skipif(machine() not in ELF, reason="needs a known architecture")
def test_code_that_does_not_load() -> None:
    """What the system's loader refuses is an error with its reason."""
    with pytest.raises(TargetUnavailableError, match="cannot load the compiled code"):
        leaky_native(sections={"code/a": fake_elf(machine())}, facts={}).session()


@needs_cc
def test_code_without_the_functions() -> None:
    """A library of another model is refused."""
    code = compile_c("int other_step(void) { return 0; }")
    with pytest.raises(ArtifactFormatError, match="leaky_step"):
        leaky_native(sections={"code/a": code}, facts={}).session()


@needs_cc
def test_each_model_runs_its_own_code() -> None:
    """Libraries loaded one after the other, and side by side, are never taken for each other."""
    gains = [0.5, 0.25, 0.75, 1.0]
    artifacts = [leaky_native(gain) for gain in gains]
    assert [gain_of(artifact) for artifact in artifacts] == gains
    for gain in gains * 5:
        assert gain_of(leaky_native(gain)) == gain


@needs_cc
def test_a_session_outlives_its_artifact() -> None:
    """Code and weights stay as long as a session needs them."""
    session = leaky_native().session()
    gc.collect()
    np.testing.assert_array_equal(session.step([1.0, 1.0]), WEIGHTS)


@needs_cc
def test_code_is_unloaded_after_use() -> None:
    """Nothing of a thousand models stays mapped."""

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:edgelstm-leaky")

    gc.collect()
    before = mapped()
    session = leaky_native(0.625).session()
    session.step([1.0, 1.0])
    assert mapped() > before
    del session
    gc.collect()
    assert mapped() == before


@needs_cc
def test_without_files_in_memory_a_private_file_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The temporary file is gone as soon as the code is loaded."""

    def refuse(code: memoryview, name: str) -> None:
        raise OSError("no memfd")

    monkeypatch.setattr(shared_object, "_load_from_memory", refuse)
    monkeypatch.setattr(shared_object.tempfile, "tempdir", str(tmp_path))
    assert gain_of(leaky_native(0.375)) == 0.375
    assert list(tmp_path.iterdir()) == []


@needs_cc
def test_blocks_are_aligned() -> None:
    """Weights, state and scratch start at multiples of 64 bytes, whatever their size."""
    artifact = leaky_native(scratch_bytes=100)
    session = artifact.session()
    blocks = [session._blocks.state, session._blocks.scratch, artifact.kernel._weights]  # type: ignore[attr-defined]
    assert all(address_of(block) % 64 == 0 for block in blocks)
    for size in (0, 1, 63, 64, 65, 1000):
        block = allocate_block(size)
        assert block.size == size
        assert address_of(block) % 64 == 0
        assert not block.any()


def test_an_unknown_engine_is_named() -> None:
    """An artifact of a newer target says which engine is missing."""
    artifact = leaky_native(engine="quantum", sections={})
    with pytest.raises(TargetUnavailableError, match=r"'quantum'.*native, reference"):
        artifact.session()
    with pytest.raises(TargetUnavailableError):
        find_engine("")


def test_cpu_flags_are_read_on_x86_and_arm() -> None:
    """`flags` of x86 and `Features` of ARM, of the first core that lists any."""
    x86 = "processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    arm = "processor : 0\nFeatures  : fp asimd asimddp\nCPU part : 0xd0b\n"
    assert parse_cpuinfo(x86) == {"fpu", "avx2", "fma"}
    assert parse_cpuinfo(arm) == {"fp", "asimd", "asimddp"}
    assert parse_cpuinfo("") == frozenset()


@pytest.mark.skipif(machine() != "x86_64", reason="names of x86")
def test_numpy_flags_have_the_names_of_cpuinfo() -> None:
    """Without /proc/cpuinfo, NumPy's detection speaks the same words."""
    needed = {"avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512_vnni", "sse4_2"}
    found = _numpy_flags()
    assert found & needed == cpu_flags() & needed


def test_isa_variable_is_documented() -> None:
    """The variable has the documented name."""
    assert native.ISA_VARIABLE == "EDGELSTM_ISA"
