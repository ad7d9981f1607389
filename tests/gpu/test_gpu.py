"""The parity suite on a real GPU; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.engines.cuda_driver import open_device
from edgelstm.errors import CapabilityError, EdgeLSTMError
from tests.gpu.artifacts import build, load_artifact
from tests.gpu.sections import doorbell_parity, parity
from tests.gpu.workloads import WORKLOADS, Workload


@pytest.mark.gpu
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.name)
def test_parity_on_the_device(workload: Workload, tmp_path: Path) -> None:
    """Streams, steps by graph and by doorbell, and chunks agree with the reference."""
    try:
        device = open_device()
    except EdgeLSTMError as error:
        pytest.skip(f"no GPU here: {error}")
    try:
        build(workload, f"sm_{device.capability[0]}{device.capability[1]}", tmp_path)
    except CapabilityError as error:
        pytest.skip(f"this chip is not for it: {error}")
    artifact, reference = (
        load_artifact(tmp_path, workload, each) for each in ("cuda", "reference")
    )
    assert parity(artifact, reference) <= workload.tolerance
    if workload.doorbell:
        assert doorbell_parity(artifact, reference) <= workload.tolerance
