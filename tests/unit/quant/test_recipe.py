"""Which recipe quantized an artifact; the graph of another one is not made again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.errors import ArtifactVersionError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.embedded import (
    expect_recipe,
    pack_calibration,
    restore_model,
    unpack_calibration,
)
from edgelstm_compiler.quant.model import RECIPE
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import is_layer
from tests.models import lstm_model, stacked_model
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


@pytest.mark.parametrize("scheme", list(Scheme))
def test_the_calibration_in_an_artifact_is_all_that_the_recipe_reads(scheme: Scheme) -> None:
    """Quantized again from it, the weights are the same, although histograms are left out."""
    graph = step_graph(stacked_model(ops=("GRU", "LSTM"), steps=None))
    calibration = calibrate(graph, recordings(graph, frames=24))
    options = QuantizeOptions()
    stored = unpack_calibration(pack_calibration(calibration, options))
    schemes = {node.name: scheme for node in graph.nodes if is_layer(node)}
    first, again = (quantize_graph(graph, each, schemes, options) for each in (calibration, stored))
    assert [c.value.name for c in first.graph.constants] == [
        c.value.name for c in again.graph.constants
    ]
    for one, other in zip(first.graph.constants, again.graph.constants, strict=True):
        assert np.array_equal(one.data, other.data), one.value.name
