"""What is done about a kernel that does not fit its registers; nothing is compiled here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgelstm.engines.cuda_cubin import Resources
from edgelstm_targets.numba_cuda import build
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.pipeline import Pipeline
from edgelstm_targets.numba_cuda.routing import Route
from tests.cuda.test_routing import ORIN, pipeline


def compiled_with(
    monkeypatch: pytest.MonkeyPatch, frames: Iterator[int]
) -> tuple[list[build.Compiled], list[int]]:
    """The kernels of a small layer, whose compilations spill as told; and what each spilled."""
    seen: list[int] = []

    def compile_route(program: Any, roles: Pipeline, chip: Chip, route: Route) -> build.Compiled:
        seen.append(next(frames))
        resources = Resources(64, seen[-1], 0, ())
        return build.Compiled(chip, route, "tiny_many", 0, 0, "", b"", resources)

    monkeypatch.setattr(build, "_compile_route", compile_route)
    program: Any = None
    kernels = build.compile_kernels(program, pipeline("LSTM", 32), (ORIN,), "auto")
    return list(kernels.compiled), seen


def test_a_spill_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more registers left free, until nothing is spilled; no word is lost about it."""
    (kernel,), seen = compiled_with(monkeypatch, iter([48, 16, 0, 99]))
    assert seen == [48, 16, 0]
    assert kernel.resources.frame_bytes == 0
    assert "spilled" not in kernel.route.explanation


def test_the_least_spilled_is_kept_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is not refused for it: the code is right, and `inspect` tells what it costs."""
    (kernel,), seen = compiled_with(monkeypatch, iter([48, 24, 8, 32, 40, 56]))
    assert len(seen) == 6
    assert kernel.resources.frame_bytes == 8
    assert "8 bytes of a thread are spilled to local memory" in kernel.route.explanation
