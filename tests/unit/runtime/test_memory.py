"""Blocks of memory: limits, guards, and that sessions give everything back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError
from edgelstm.memory import ALIGNMENT, MOST_BYTES, address_of, allocate_block
from tests.fuzz.many_sessions import Holdings, check
from tests.unit.runtime.toy_models import leaky_native, leaky_reference, needs_cc

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


def with_scratch(artifact: Artifact, size: int) -> Artifact:
    """The same artifact with another number in its manifest."""
    container = artifact.container
    manifest = {**container.manifest, "memory": {**container.manifest["memory"]}}
    manifest["memory"]["scratch_bytes"] = size
    return Artifact(type(container)(manifest, container.sections))


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 2**39])
def test_more_than_the_limit_is_refused_by_name(size: int) -> None:
    """Never a MemoryError."""
    with pytest.raises(ArtifactError, match=f"wants {size} bytes"):
        with_scratch(leaky_reference(), size).session()


@on_linux
def test_large_scratch_is_not_touched() -> None:
    """What a file says it needs may be more than it uses."""
    before = Holdings.now().resident
    session = with_scratch(leaky_reference(), 2**32).session()
    assert Holdings.now().resident < before + 2**26
    session.close()


@on_linux
@pytest.mark.parametrize("size", [0, 1, 64, 4096, 5000])
def test_guarded_blocks_end_at_a_page_without_rights(size: int) -> None:
    """Aligned, zeroed, and the next page is nobody's."""
    block = allocate_block(size, is_guarded=True)
    assert address_of(block) % ALIGNMENT == 0
    assert not block.any()
    end = address_of(block) + -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
    (line,) = (
        line
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.startswith(f"{end:x}-") or line.startswith(f"{end:08x}-")
    )
    assert line.split()[1].startswith("---")


@on_linux
@needs_cc
def test_older_code_that_wants_more_is_stopped(tmp_path: Path) -> None:
    """Code without sizes writes behind its scratch: the system ends it, nothing is overwritten."""
    script = """
import sys
from edgelstm.artifact import Artifact
from tests.unit.runtime.toy_models import LEAKY_C, compile_c, leaky_native
import numpy as np
source = LEAKY_C.replace("(void)t;\\n  if (!finite_f(x, 2)) return -1;",
                         "((volatile char *)t)[100] = 1;")
assert source != LEAKY_C
isa = next(iter(leaky_native().container.manifest["target"]["facts"]["isas"]))["section"]
artifact = leaky_native(sections={isa: compile_c(source, "-DGAIN=0.5f")}, scratch_bytes=64)
session = artifact.session()
print("made", flush=True)
session.step(np.ones(2, np.float32))
print("survived", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "made\n", done.stderr
    assert done.returncode < 0


@on_linux
@needs_cc
@pytest.mark.parametrize("make", [leaky_native, leaky_reference])
def test_sessions_leave_nothing_behind(make, tmp_path: Path) -> None:
    """Descriptors, mappings and memory stay as they are, without the garbage collector."""
    make().save(tmp_path / "a.edgelstm")
    check(tmp_path / "a.edgelstm", 300)


def test_a_closed_artifact_loads_its_code_again() -> None:
    """`close` lets go of the kernel; sessions that exist keep theirs."""
    with leaky_reference() as artifact:
        session = artifact.session()
        kernel = artifact.kernel
    assert session.kernel is kernel
    assert artifact.kernel is not kernel
