"""A few of the random networks of `make fuzz-calls`."""

from __future__ import annotations

import pytest

from tests.fuzz.call_graphs import draw
from tests.fuzz.calls import judge

SEEDS = range(40)


def test_random_networks_compute_what_onnx_runtime_computes() -> None:
    """None is wrong, none crashes, at least nine in ten compile."""
    verdicts = {seed: judge(draw(seed), "reference") for seed in SEEDS}
    wrong = {seed: verdict for seed, verdict in verdicts.items() if verdict.is_wrong}
    assert not wrong
    kinds = [verdict.kind for verdict in verdicts.values()]
    assert kinds.count("compiled") >= 0.9 * (len(kinds) - kinds.count("undefined"))


@pytest.mark.tvm
@pytest.mark.parametrize("seed", [3, 7, 36])
def test_compiled_networks(seed: int) -> None:
    """Native code passes its self-check."""
    assert judge(draw(seed), "host").kind == "compiled"
