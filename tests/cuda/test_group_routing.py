"""Which groups of streams are compiled, and above how many streams; nothing is compiled here."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from edgelstm.engines.cuda_kernels import KernelEntry
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.costs import WAITING, Costs, Work
from edgelstm_targets.numba_cuda.mma_model import cell_cycles
from edgelstm_targets.numba_cuda.mma_routing import add_groups, choose_math_routes, place_again
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole
from edgelstm_targets.numba_cuda.placement import RESERVE
from edgelstm_targets.numba_cuda.places import Placement
from edgelstm_targets.numba_cuda.routing import Route
from tests.cuda.test_routing import HOPPER, ORIN, pipeline


def routes(op: str, hidden: int, chip: Chip = HOPPER, shape: str = "auto", **options: Any) -> Any:
    """The kernels that a layer gets with math=fp16."""
    return choose_math_routes(pipeline(op, hidden, 9), chip, shape, RESERVE, "fp16", **options)


@pytest.mark.parametrize(
    ("op", "hidden", "names"),
    [
        ("LSTM", 64, ["many", "many_16"]),
        ("GRU", 64, ["many", "many_16", "many_64"]),
        ("LSTM", 256, ["one", "many", "many_16", "many_64"]),
    ],
)
def test_a_second_group_only_where_it_is_worth_a_kernel(
    op: str, hidden: int, names: list[str]
) -> None:
    """The smallest group, and the cheapest if that saves a tenth; float32 kernels stay."""
    found = routes(op, hidden)
    assert [route.name for route in found] == names
    groups = [route for route in found if route.group > 1]
    each = [route.busy_cycles / route.group for route in groups]
    assert all(later < 0.9 * each[0] for later in each[1:])


def entry(route: Route) -> KernelEntry:
    """What the manifest says of it, as far as a choice depends on that."""
    return KernelEntry(
        section="",
        form="cubin",
        capability=(9, 0),
        entry=route.name,
        shape=route.shape,
        team=route.placement.team,
        threads=32,
        shared_bytes=0,
        mail_bytes=0,
        image=(),
        streams=route.streams,
        group=route.group,
        above=route.above,
    )


def frame_cycles(route: Route, streams: int, processors: int) -> float:
    """A frame of all streams by the model: the multiprocessor with the most blocks decides."""
    blocks = math.ceil(streams / route.group) * route.placement.team
    each = math.ceil(blocks / processors)
    if route.placement.team > 1 and each > 1:
        return math.inf
    return max(route.cycles, each * route.busy_cycles)


@pytest.mark.parametrize("processors", [16, 132])
@pytest.mark.parametrize(
    ("op", "hidden"), [("LSTM", 32), ("LSTM", 64), ("GRU", 64), ("LSTM", 128), ("GRU", 256)]
)
def test_one_number_loses_little(op: str, hidden: int, processors: int) -> None:
    """By the model, what is taken costs at most a fourth more than the cheapest, for any number."""
    found = routes(op, hidden, HOPPER if processors > 16 else ORIN)
    for streams in range(16, 200 * processors, 7):
        prices = [frame_cycles(route, streams, processors) for route in found]
        least = [entry(route).least_streams(processors) for route in found]
        enough = [index for index in range(len(found)) if least[index] <= streams]
        fitting = [index for index in enough if prices[index] < math.inf]
        taken = max(fitting, key=lambda index: least[index])
        assert prices[taken] <= 1.25 * min(prices), (streams, found[taken].name)


def test_few_streams_go_to_many_small_blocks() -> None:
    """Half the blocks would leave multiprocessors idle: a larger group is for more streams."""
    _, small, large = routes("GRU", 64)
    assert 0 < small.above < large.above
    assert large.above >= small.group
    assert f"the cheapest above {small.above:g} streams a multiprocessor" in small.explanation


def test_a_team_keeps_the_streams_that_it_has_blocks_for() -> None:
    """Eight blocks a stream, each with a multiprocessor: groups begin where that ends."""
    one, _, small, _ = routes("LSTM", 256)
    assert small.above == 1 / one.placement.team


def test_only_groups_for_any_number_of_streams() -> None:
    """shape=tensor: no float32 kernel, and the smallest group from the first stream on."""
    small, large = routes("GRU", 64, shape="tensor")
    assert (small.shape, small.above) == ("tensor", 0)
    assert large.above > 0


def test_groups_that_are_asked_for() -> None:
    """One kernel for each, whether it is worth it or not; the float32 kernel is there, too."""
    assert [route.group for route in routes("LSTM", 64, groups=(32, 64))] == [1, 32, 64]


def test_a_group_that_is_never_the_cheapest_is_left_out() -> None:
    """It would be compiled for nobody; what was asked for is taken for very many streams."""
    block, small = routes("LSTM", 64)
    dear = replace(small, busy_cycles=16 * block.busy_cycles + 1)
    assert add_groups([block], [dear]) == (block,)
    kept = add_groups([block], [dear], True)[1]
    assert kept.above == 1024
    assert kept.why.startswith("asked for, though never the cheapest; float16")


def test_the_kernel_that_waits_stays_the_last() -> None:
    """It is for one stream, and no choice by number of streams."""
    assert [route.name for route in routes("LSTM", 64, doorbell=True)] == [
        "many",
        "many_16",
        "doorbell",
    ]


def test_a_kernel_that_spills_is_placed_again_as_it_is() -> None:
    """More registers are left free; the group, the team and the limit stay."""
    for route in routes("LSTM", 256):
        again = place_again(pipeline("LSTM", 256, 9), HOPPER, route, RESERVE + 32)
        assert (again.name, again.above, again.why) == (route.name, route.above, route.why)
        assert again.placement.team == route.placement.team
        assert again.placement is not route.placement


def test_cells_count_beside_products() -> None:
    """A block is busy with its products, and with what follows them."""
    (role,) = (r for r in pipeline("LSTM", 64).roles if isinstance(r, RecurrentRole))
    # Where nothing waits for anything, so that pipes decide.
    quick = replace(HOPPER, costs=replace(HOPPER.costs, frame=0.0))
    block, _ = routes("LSTM", 64, quick)
    assert isinstance(block.placement, Placement)
    products = block.placement.work.fma / HOPPER.costs.fma_a_cycle
    # 8 warps, each with 40 instructions, four a cycle; 7 of them on units for 16 lanes a cycle.
    assert cell_cycles(role, 8) == (80, 112)
    assert block.busy_cycles == products + 80


def test_blocks_that_share_a_multiprocessor() -> None:
    """They fill each other's gaps up to what its pipes do, and never take longer than in turn."""
    work, costs = Work(1280, 1, 20, 4, 0, 0), Costs()
    alone = work.cycles(costs)
    assert work.busy_cycles(costs, 1) == alone
    assert work.busy_cycles(costs, 4) == pytest.approx(WAITING * alone / 4)
    assert work.busy_cycles(costs, 1000) == 10
    assert HOPPER.resident_blocks(256, 100, 1000) == 2
    assert HOPPER.resident_blocks(256, 64, 1000) == 4
    assert HOPPER.resident_blocks(32, 64, 100_000) == 2
