"""What the tests of the CUDA room share; all of them are skipped where its wheels are missing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgelstm.engines import cuda_doorbell
from edgelstm.engines.cuda_driver import DRIVER_VARIABLE, open_device
from edgelstm_targets.numba_cuda.toolkit import obstacle
from tests.cuda.emulated import EmulatedGpu, build_mock, find_compiler

HERE = Path(__file__).parent
FREE = (
    "test_emulator.py",
    "test_emulator_host.py",
    "test_routing.py",
    "test_group_routing.py",
    "test_mma_image.py",
    "test_driver_absent.py",
)
"""Tests that need none of the wheels."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot compile here, with the reason."""
    reason = obstacle()
    if reason is None:
        return
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.name not in FREE:
            item.add_marker(pytest.mark.skip(reason=f"target cuda cannot compile here: {reason}"))


@pytest.fixture(scope="session")
def mock_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mock driver."""
    if find_compiler() is None:
        pytest.skip("no C compiler to build the mock driver with")
    return build_mock(tmp_path_factory.mktemp("mock"))


@pytest.fixture(scope="session")
def shared_gpu(mock_path: Path) -> EmulatedGpu:
    """One emulated GPU for all tests."""
    return EmulatedGpu(mock_path)


@pytest.fixture
def gpu(shared_gpu: EmulatedGpu, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedGpu]:
    """The emulated GPU as the driver of this process, an H200 unless a test says otherwise."""
    monkeypatch.setenv(DRIVER_VARIABLE, str(shared_gpu.path))
    # The emulator takes its time where the machine is busy.
    monkeypatch.setattr(cuda_doorbell, "_DEADLINE_S", 300.0)
    # What tests before left in cycles gives its memory back now, not between the calls of this one.
    gc.collect()
    shared_gpu.prepare((9, 0))
    open_device.cache_clear()
    yield shared_gpu
    open_device.cache_clear()
