"""Altered ONNX files give a result or a named error, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.onnx_mutations import judge, mutate, originals


@pytest.mark.slow
def test_altered_models_are_compiled_or_refused(tmp_path: Path) -> None:
    """A few of what `make fuzz-onnx` judges by the thousand."""
    models = originals()
    outcomes = [judge(mutate(seed, models, tmp_path)) for seed in range(120)]
    assert not [outcome for outcome in outcomes if outcome.is_wrong]
    assert sum(outcome.kind == "compiled" for outcome in outcomes) >= 5
