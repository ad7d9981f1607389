"""Which kernel a session takes, by the artifact, the GPU and the number of streams."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgelstm.artifact import Artifact
from edgelstm.commands.inspect import describe_artifact, inspect_command
from edgelstm.container import Container
from edgelstm.engines.cuda import CudaKernel
from edgelstm.errors import ArtifactFormatError
from tests import models
from tests.cuda.emulated import Compiled, EmulatedGpu, compile_for
from tests.cuda.test_parity import expected_outputs
from tests.cuda.test_tensor_cores import assert_near, samples

MODEL = models.rnn_model(steps=None, gain=0.5)
"""So small that it gets one block a stream and groups of two sizes."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Float32 for few streams, two kernels in float16 for many."""
    return compile_for(MODEL, "cuda:sm_90", tmp_path_factory.mktemp("groups"), math="fp16")


def with_facts(compiled: Compiled, change: Callable[[dict[str, Any]], object]) -> Artifact:
    """The artifact with its kernels' entries changed."""
    manifest = copy.deepcopy(compiled.artifact.manifest)
    for kernel in manifest["target"]["facts"]["kernels"]:
        change(kernel)
    return Artifact(Container(manifest, compiled.artifact.container.sections))


def taken(artifact: Artifact, streams: int) -> str:
    """The kernel for so many streams."""
    kernel: Any = artifact.kernel
    assert isinstance(kernel, CudaKernel)
    return kernel.choose(streams).entry.entry


LIMITS = {16: 2, 64: 20.5}
"""Streams a multiprocessor above which groups are taken, in the tests of the engine."""


def limited(compiled: Compiled) -> Artifact:
    """The artifact with `LIMITS`."""
    return with_facts(compiled, lambda kernel: kernel.update(above=LIMITS.get(kernel["group"], 0)))


@pytest.mark.parametrize(
    ("processors", "names"),
    [
        (132, {1: "many", 264: "many", 265: "many_16", 2706: "many_16", 2707: "many_64"}),
        (15, {1: "many", 30: "many", 31: "many_16", 307: "many_16", 308: "many_64"}),
        # Less than a group of streams goes in no group.
        (1, {15: "many", 16: "many_16", 63: "many_16", 64: "many_64"}),
    ],
)
def test_the_choice_follows_the_gpu(
    compiled: Compiled, gpu: EmulatedGpu, processors: int, names: dict[int, str]
) -> None:
    """A kernel is taken for more streams than its number, for each multiprocessor of the GPU."""
    gpu.prepare((9, 0), processors)
    artifact = limited(compiled)
    found = {streams: taken(artifact, streams).removeprefix("tiny_") for streams in names}
    assert found == names


def test_numbers_of_each_kernel(compiled: Compiled, gpu: EmulatedGpu) -> None:
    """Few streams are not rounded to float16; each group agrees with the reference."""
    gpu.prepare((9, 0), 1)
    gpu.ptx = compiled.ptx
    artifact = limited(compiled)
    x = samples(2, 70, 3)
    expected = expected_outputs(MODEL, x)
    for streams, name, grid, tolerance in (
        (2, "tiny_many", 2, 2e-6),
        (20, "tiny_many_16", 2, 1e-3),
        (70, "tiny_many_64", 2, 1e-3),
    ):
        gpu.clear()
        made = artifact.session(streams=streams).run(x[:, :streams])
        wanted = {key: data[:, :streams] for key, data in expected.items()}
        assert_near(made, wanted, tolerance)
        assert any(note.startswith(f"cuLaunchKernel {name} grid={grid}") for note in gpu.notes())


def test_the_manifest_says_where_each_takes_over(compiled: Compiled, gpu: EmulatedGpu) -> None:
    """As compiled: the larger group above more streams a multiprocessor; in the PTX, too."""
    code = [kernel for kernel in compiled.kernels if kernel["form"] == "cubin"]
    assert [kernel["group"] for kernel in code] == [1, 16, 64]
    limits = [kernel["above"] for kernel in code]
    assert limits == sorted(limits)
    assert limits[0] == 0 < limits[1] < limits[2]
    ptx = [kernel for kernel in compiled.kernels if kernel["form"] == "ptx"]
    assert [kernel["above"] for kernel in ptx] == limits
    gpu.prepare((12, 0), 10)
    assert taken(compiled.artifact, int(10 * limits[1]) + 1) == "tiny_many_16"


def test_any_number_of_streams_goes_in_groups(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """shape=tensor: no kernel is there for fewer, and the smallest group takes them."""
    compiled = compile_for(MODEL, "cuda:sm_90", tmp_path, math="fp16", shape="tensor")
    found = [taken(compiled.artifact, streams) for streams in (1, 20, 132 * 1024)]
    assert found == ["tiny_many_16", "tiny_many_16", "tiny_many_64"]


def test_artifacts_from_before_the_limits(compiled: Compiled, gpu: EmulatedGpu) -> None:
    """One group, and streams that fill it are taken there, on any GPU."""
    manifest = copy.deepcopy(compiled.artifact.manifest)
    facts = manifest["target"]["facts"]
    facts["kernels"] = [
        {name: value for name, value in kernel.items() if name != "above"}
        | {"streams": "many" if kernel["group"] > 1 else "one"}
        for kernel in facts["kernels"]
        if kernel["group"] < 64
    ]
    artifact = Artifact(Container(manifest, compiled.artifact.container.sections))
    names = [taken(artifact, streams) for streams in (1, 15, 16, 4096)]
    assert names == ["tiny_many", "tiny_many", "tiny_many_16", "tiny_many_16"]


@pytest.mark.parametrize(
    "facts",
    [
        {"above": -1},
        {"above": "few"},
        {"above": 10**400},
        {"above": None},
        {"group": 0},
        {"shape": "exchange"},
    ],
)
def test_facts_that_are_malformed(
    compiled: Compiled, gpu: EmulatedGpu, facts: dict[str, Any]
) -> None:
    """They are an error of the artifact, before anything is loaded."""
    with pytest.raises(ArtifactFormatError, match="malformed"):
        with_facts(compiled, lambda kernel: kernel.update(facts)).session(streams=4)
    assert not any(note.startswith("cuModuleLoadData") for note in gpu.notes())


def test_kernels_of_another_chip_are_not_mixed_in(compiled: Compiled, gpu: EmulatedGpu) -> None:
    """What a chip's routing left out is not taken from that of an older one."""
    manifest = copy.deepcopy(compiled.artifact.manifest)
    kernels = manifest["target"]["facts"]["kernels"]
    older = [kernel for kernel in kernels if kernel["form"] == "cubin"]
    kernels[:] = older + [{**kernel, "capability": [9, 1]} for kernel in older[:2]]
    gpu.prepare((9, 1))
    artifact = Artifact(Container(manifest, compiled.artifact.container.sections))
    assert taken(artifact, 10**6) == "tiny_many_16"


def test_inspect_says_what_each_kernel_is_for(compiled: Compiled, tmp_path: Path) -> None:
    """Groups and limits, for machines and for people."""
    artifact = limited(compiled)
    report = describe_artifact(artifact)["kernels"]
    assert [(each["group"], each["above"]) for each in report[:3]] == [(1, 0), (16, 2), (64, 20.5)]
    path = tmp_path / "model.edgelstm"
    artifact.save(path)
    shown = CliRunner().invoke(inspect_command, [str(path)]).output
    assert "many, groups of 16, above 2 a multiprocessor " in shown
    assert "many, groups of 64, above 20.5 a multiprocessor " in shown
    assert "sm_90 many, groups of 16" in shown.split("why these shapes:")[1]
