"""Shortcuts through Numba's front end: the PTX stays the same, and Numba as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edgelstm.errors import ToolchainError
from edgelstm_compiler.driver import compile_model
from edgelstm_targets.numba_cuda import toolkit
from edgelstm_targets.numba_cuda.chips import CHIPS
from edgelstm_targets.numba_cuda.toolkit import KernelSource, compile_ptx
from tests import models

CHIP = next(chip for chip in CHIPS if chip.name == "sm_87")
TINY = models.stacked_model(ops=("RNN",), hidden=4, features=2, steps=None)
LSTM = models.stacked_model(ops=("LSTM",), hidden=8, features=3, steps=None)
ONE_GROUP = {"math": "fp16", "shape": "tensor", "groups": "16"}


def kernel_of_all_kinds() -> KernelSource:
    """Inlined functions that return twice, loop first, are handed over, or are given by name."""
    from numba.cuda import types

    from edgelstm_targets.numba_cuda.device.intrinsics import (
        F32,
        U32,
        U64,
        global_timer,
        inline,
        load_global,
        store_global,
    )

    @inline
    def wait():
        while global_timer() < U64(1000):
            pass

    @inline
    def keep_above(value, low):
        if value < low:
            return low
        return value

    @inline
    def halve(value):
        while value > F32(8):
            value = value / F32(2)
        return keep_above(value, F32(1))

    @inline
    def twice(function, value):
        return function(function(value))

    def kernel(x, y, count):
        for k in range(count):
            at = U64(4) * U64(k)
            value = keep_above(low=F32(2), value=load_global(x + at))
            store_global(y + at, twice(halve, value) + keep_above(value, F32(4)))
            wait()

    return KernelSource(kernel, types.void(U64, U64, U32), "all_kinds", 32)


def without_shortcuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit, "_SHORTCUTS_FOR", {"numba": "none"})


def test_functions_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its flow of control, an inlined function becomes what Numba makes of it."""
    source = kernel_of_all_kinds()
    short = compile_ptx(source, CHIP)
    without_shortcuts(monkeypatch)
    assert compile_ptx(source, CHIP) == short


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (TINY, {}),
        pytest.param(LSTM, ONE_GROUP, marks=pytest.mark.slow),
    ],
)
def test_models(model: Any, options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts are the same, byte by byte."""

    def digest() -> str:
        artifact = compile_model(model, target="cuda:sm_90", target_options=options, check=False)
        return artifact.container.digest

    short = digest()
    without_shortcuts(monkeypatch)
    assert digest() == short


def test_nothing_is_left_behind() -> None:
    """Numba's own functions are back, also after a kernel that does not compile."""
    from edgelstm_targets.numba_cuda.frontend import REPLACED

    def kernel(x: Any, y: Any, count: Any) -> None:
        x.no_such_thing()

    before = [vars(owner)[name] for owner, name, _ in REPLACED]
    source = kernel_of_all_kinds()
    compile_ptx(source, CHIP)
    with pytest.raises(ToolchainError, match="no_such_thing"):
        compile_ptx(KernelSource(kernel, source.signature, "fails", 32), CHIP)
    assert [vars(owner)[name] for owner, name, _ in REPLACED] == before


def test_threads_take_turns() -> None:
    """Kernels that threads compile at the same time are those that each compiles alone."""
    sources = [kernel_of_all_kinds() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        made = set(threads.map(lambda source: compile_ptx(source, CHIP), sources))
    assert made == {compile_ptx(sources[0], CHIP)}
