"""What is done about a kernel that does not fit its registers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgelstm.artifact import Artifact
from edgelstm.engines.cuda_cubin import Resources, read_cubin
from edgelstm_compiler.driver import compile_model
from edgelstm_targets.numba_cuda import build
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.mma_routing import place_again
from edgelstm_targets.numba_cuda.pipeline import Pipeline
from edgelstm_targets.numba_cuda.placement import RESERVE
from edgelstm_targets.numba_cuda.routing import Route
from tests import models
from tests.cuda.emulated import EmulatedGpu
from tests.cuda.test_quantized import FP32, assert_near, compile_pair
from tests.cuda.test_routing import ORIN, pipeline
from tests.quantized_models import recordings, step_graph


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


def resources_of(artifact: Artifact) -> list[Resources]:
    """What the machine code of each kernel takes."""
    kernels = artifact.manifest["target"]["facts"]["kernels"]
    return [
        read_cubin(bytes(artifact.container.section(each["section"])))[each["entry"]]
        for each in kernels
        if each["form"] == "cubin"
    ]


@pytest.mark.slow
def test_a_stack_of_w4_does_not_spill() -> None:
    """Eight weights of a word, made float32 ahead of the first frame, would not fit for all."""
    model = models.stacked_model(
        ops=("LSTM", "GRU"), hidden=24, features=9, head="sequence", steps=None
    )
    given = recordings(step_graph(model), frames=40, count=2)
    artifact = compile_model(
        model, target="cuda:sm_90", quantize="w4", calibration=given, check=False
    )
    assert [each.frame_bytes for each in resources_of(artifact)] == [0]


@pytest.mark.parametrize(("scheme", "most"), [("w4", 104), ("w8", 72), ("fp16", 96)])
def test_weights_made_anew_are_the_same(
    gpu: EmulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, most: int
) -> None:
    """Where a kernel had spilled, words stay words: fewer registers, the reference's outputs."""

    def place_as_if(roles: Pipeline, chip: Chip, route: Route) -> Iterator[Route]:
        yield place_again(roles, chip, route, RESERVE + 160)

    monkeypatch.setattr(build, "_places", place_as_if)
    made, gpu.ptx, reference = compile_pair("lstm", scheme, "cuda:sm_90", tmp_path, "block")
    assert_near(gpu, made, reference, FP32)
    (resources,) = resources_of(made)
    assert resources.registers <= most
