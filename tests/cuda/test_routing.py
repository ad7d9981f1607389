"""Which kernels a model gets, why, and how to ask for others; nothing is compiled here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import CapabilityError
from edgelstm_compiler.binding import bind_stream
from edgelstm_compiler.driver import CompileOptions, to_step_graph
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.target import find_target
from edgelstm_targets.numba_cuda.chips import Chip, find_chips, register_limit
from edgelstm_targets.numba_cuda.costs import Costs
from edgelstm_targets.numba_cuda.pipeline import Pipeline, RecurrentRole
from edgelstm_targets.numba_cuda.placement import RESERVE, place_pipeline
from edgelstm_targets.numba_cuda.roles import make_pipeline
from edgelstm_targets.numba_cuda.routing import Route, _teams, choose_routes
from tests import models
from tests.quantized_models import quantized, step_graph

(HOPPER,) = find_chips("sm_90", 13)
(ORIN,) = find_chips("sm_87", 13)


def pipeline(op: str, hidden: int, features: int = 16, **options: Any) -> Pipeline:
    """The roles of one layer."""
    model = read_model(
        models.stacked_model(ops=(op,), hidden=hidden, features=features, steps=None, **options)
    )
    graph = to_step_graph(bind_stream(model, {}), CompileOptions(), PassContext())
    return make_pipeline(lower(replace(graph, name="tiny"), 1))


def routes(op: str, hidden: int, chip: Chip, shape: str = "auto", **options: bool) -> list[Route]:
    """The kernels that a layer gets."""
    return list(choose_routes(pipeline(op, hidden), chip, shape, RESERVE, **options))


@pytest.mark.parametrize(
    ("hidden", "chip", "shapes"),
    [
        (64, HOPPER, ["block"]),
        (64, ORIN, ["block"]),
        (256, HOPPER, ["cluster", "block"]),
        (256, ORIN, ["exchange", "block"]),
    ],
)
def test_shapes_by_size_and_chip(hidden: int, chip: Chip, shapes: list[str]) -> None:
    """Small layers stay on one block; large ones are spread as the chip allows."""
    assert [route.shape for route in routes("LSTM", hidden, chip)] == shapes


@pytest.mark.parametrize(
    ("threads", "registers"), [(32, 255), (384, 168), (416, 128), (640, 96), (672, 80), (1024, 64)]
)
def test_registers_that_a_block_leaves_to_a_thread(threads: int, registers: int) -> None:
    """What the assembler takes at most: four partitions share the register file."""
    assert register_limit(threads) == registers


def test_more_registers_left_free_take_fewer_threads() -> None:
    """A placement that is tried again after a spill has room for what it leaves free."""
    for reserve in (48, 96, 128):
        placement = place_pipeline(pipeline("GRU", 256, 64, head="sequence"), ORIN, 1, reserve)
        assert placement is not None
        assert register_limit(placement.threads) >= reserve


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize("chip", [HOPPER, ORIN], ids=str)
def test_no_block_of_a_team_is_idle(op: str, chip: Chip) -> None:
    """Every block has a unit of every layer: one that posts nothing is waited for by nobody."""
    for hidden in (24, 72, 144, 200, 264):
        for stack in (pipeline(op, hidden), pipeline(op, hidden, 24)):
            for _, placement, _, _ in _teams(stack, chip, "auto", RESERVE):
                for place in placement.roles:
                    if isinstance(place.role, RecurrentRole):
                        units = place.tile * place.passes * (placement.team - 1)
                        assert units < place.role.kernel.op.hidden, (hidden, placement.team)


def test_the_explanation_names_what_was_compared() -> None:
    """Each shape's cycles, and where the weights stand."""
    one, many = routes("LSTM", 256, HOPPER)
    for words in ("one block about", "8 blocks of a cluster about", "that exchange words about"):
        assert words in one.explanation
    assert "in registers" in one.explanation
    assert "read from L2" in many.explanation


def test_costs_change_the_choice() -> None:
    """With a cluster that costs much, words are exchanged; with both dear, one block does all."""
    dear = replace(HOPPER, costs=Costs(cluster=5000.0))
    assert routes("LSTM", 256, dear)[0].shape == "exchange"
    dearer = replace(HOPPER, costs=Costs(cluster=1e6, exchange=1e6))
    assert [route.shape for route in routes("LSTM", 256, dearer)] == ["block"]


def test_a_shape_that_is_asked_for_is_taken() -> None:
    """Whatever it costs, and the explanation says so; a shape that is not there gives one block."""
    one, _ = routes("LSTM", 64, HOPPER, "exchange")
    assert one.shape == "exchange"
    assert one.explanation.startswith("asked for by shape=exchange")
    assert [route.shape for route in routes("LSTM", 64, ORIN, "cluster")] == ["block"]


def test_the_kernel_that_waits_has_the_shape_of_the_one_for_one_stream() -> None:
    """It is an extra kernel, behind the others."""
    one, many, waiting = routes("LSTM", 256, HOPPER, doorbell=True)
    assert (waiting.streams, waiting.shape) == ("doorbell", one.shape)
    assert many.streams == "many"
    assert routes("LSTM", 32, HOPPER, doorbell=True)[-1].shape == "block"


def test_a_table_of_costs(tmp_path: Path) -> None:
    """The option reads a chip's constants; what is not named keeps the default."""
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"costs": {"sm_90": {"exchange": 950, "cluster": 300.5}}}))
    options = find_target("cuda:sm_90").options({"costs": str(path)})
    (found,) = dict(options.costs).items()  # type: ignore[attr-defined]
    assert found == ("sm_90", Costs(exchange=950.0, cluster=300.5))
    assert options.to_json()["costs"] == {"sm_90": {"exchange": 950.0, "cluster": 300.5}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no table of costs"),
        ('{"costs": {"sm_90": {"exchanges": 1}}}', "'exchanges', expected positive numbers for"),
        ('{"costs": {"sm_90": {"exchange": -1}}}', "'exchange', expected positive"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    """What cannot be read is named."""
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(CapabilityError, match=words):
        find_target("cuda:sm_90").options({"costs": str(path)})


@pytest.mark.parametrize("make", [models.gru_model, models.lstm_model])
def test_an_h_that_begins_beyond_one_is_refused(make: Any) -> None:
    """In integers, by name; the scheme that the message names takes it."""
    graph = step_graph(make(hidden=24, steps=None, initial_h="constant"))
    (first,) = [state.init for state in graph.states if state.name.endswith(".h")]
    assert np.abs(first).max() > 1.0
    quantized_as = {
        scheme: lower(quantized(graph, scheme, QuantizeOptions(wide_h=False)).graph, 1)
        for scheme in (Scheme.INT8_FULL, Scheme.INT8)
    }
    with pytest.raises(CapabilityError, match=r"begins beyond \[-1, 1\]; quantize with int8"):
        make_pipeline(quantized_as[Scheme.INT8_FULL])
    assert make_pipeline(quantized_as[Scheme.INT8]).roles
