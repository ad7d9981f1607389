"""Which recipe quantized an artifact; the graph of another one is not made again."""

from __future__ import annotations

from typing import Any

import pytest

from edgelstm.errors import ArtifactVersionError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.quant.embedded import expect_recipe, restore_model
from edgelstm_compiler.quant.model import RECIPE
from tests.models import lstm_model
from tests.quantized_models import recordings, step_graph


def test_recipe_of_an_artifact() -> None:
    """The record names it, and with it the graph is made again."""
    model = lstm_model(steps=None)
    graph = step_graph(model)
    artifact = compile_model(
        model, target="reference", quantize="int8-full", calibration=recordings(graph)
    )
    record = artifact.manifest["quantization"]
    assert record["recipe"] == RECIPE
    expect_recipe(record)


@pytest.mark.parametrize("record", [{}, {"recipe": 1}, {"recipe": RECIPE + 1}])
def test_another_recipe_is_refused(record: dict[str, Any]) -> None:
    """Not a mismatch of numbers: it says which recipe, and what to do."""
    with pytest.raises(ArtifactVersionError, match="compile the model again"):
        restore_model(step_graph(lstm_model(steps=None)), record, None)
