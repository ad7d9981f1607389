"""The parity suite on a real GPU; skipped where there is none."""

from __future__ import annotations

import pytest

from edgelstm.engines.cuda_driver import open_device
from edgelstm.errors import EdgeLSTMError
from tests.gpu.artifacts import find_artifacts
from tests.gpu.session import TOLERANCE, parity
from tests.gpu.workloads import WORKLOADS, Workload


@pytest.mark.gpu
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.name)
def test_parity_on_the_device(workload: Workload) -> None:
    """Streams, steps and chunks agree with the reference."""
    try:
        device = open_device()
    except EdgeLSTMError as error:
        pytest.skip(f"no GPU here: {error}")
    chip = f"sm_{device.capability[0]}{device.capability[1]}"
    assert parity(*find_artifacts(workload, chip)) <= TOLERANCE
