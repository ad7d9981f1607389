"""Division for processors that have no instruction for it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from edgelstm_targets.tvm_cpu.division import division_functions, is_division
from edgelstm_targets.tvm_cpu.link import find_linkers, link

pytestmark = pytest.mark.tvm
tvm = pytest.importorskip("tvm")


def test_it_divides_as_c_does(tmp_path: Path) -> None:
    """Every sign, every magnitude: towards zero, and -2^31 / -1 wraps around."""
    (body,) = division_functions(["__divsi3", "memcpy"])
    text = body.replace("define internal i32 @__divsi3", "define i32 @divide")
    source, found = tmp_path / "division.ll", tmp_path / "division.o"
    source.write_text(text + "\n")
    tvm.runtime.load_module(str(source)).write_to_file(str(found))
    shared, _ = link(found.read_bytes(), ["divide"], find_linkers())
    library = tmp_path / "division.so"
    library.write_bytes(shared)
    divide = ctypes.CDLL(str(library)).divide
    divide.restype, divide.argtypes = ctypes.c_int32, [ctypes.c_int32] * 2
    rng = np.random.default_rng(0)
    numbers = rng.integers(-(2**31), 2**31, 4000) >> rng.integers(0, 32, 4000)
    numbers[:6] = [-(2**31), 2**31 - 1, -1, 1, 0, -(2**31)]
    for a, b in zip(numbers.tolist(), [-1, *numbers[::-1].tolist()], strict=False):
        if b == 0:
            continue
        wanted = abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)
        assert divide(a, b) == (wanted + 2**31) % 2**32 - 2**31, (a, b)


def test_other_names_are_left_alone() -> None:
    """What is not provided stays undefined, and is refused by name later."""
    assert is_division("__aeabi_idiv")
    assert not is_division("__udivmoddi4")
    assert not division_functions(["__udivmoddi4"])
