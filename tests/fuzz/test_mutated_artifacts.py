"""Artifacts with something wrong in them and right checksums; `make fuzz-artifacts` tries 3,000."""

from __future__ import annotations

import pytest

from tests.fuzz.mutated_artifacts import try_seeds

pytestmark = [pytest.mark.tvm, pytest.mark.slow]
pytest.importorskip("tvm")
pytest.importorskip("cyclonedx")


@pytest.mark.parametrize("start", [0, 100])
def test_every_mutated_artifact_gives_a_result_or_a_named_error(start: int) -> None:
    """Manifest, reference program and data changed at random: no raw exception, no signal."""
    assert try_seeds(range(start, start + 100)) == []
