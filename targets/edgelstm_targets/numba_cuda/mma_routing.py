"""Which kernels a model gets when its user lets many streams be computed in float16."""

from __future__ import annotations

import dataclasses

from edgelstm.errors import CapabilityError
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.mma_placement import is_exact, place_groups
from edgelstm_targets.numba_cuda.pipeline import Pipeline
from edgelstm_targets.numba_cuda.placement import RESERVE
from edgelstm_targets.numba_cuda.routing import Route, choose_routes


def choose_math_routes(
    pipeline: Pipeline, chip: Chip, shape: str, reserve: int, math: str, doorbell: bool = False
) -> tuple[Route, ...]:
    """The kernels for a chip: with math=fp16 many streams go in groups over tensor cores.

    Fewer streams than a group fills keep the float32 kernel: tensor cores would not be quicker.

    Args:
        pipeline: the model.
        chip: for which.
        shape: "auto", or the shape to take for one stream; "tensor" lets any number of streams go
            in groups.
        reserve: registers of a thread that weights leave to everything else.
        math: "fp32" or "fp16".
        doorbell: a kernel that waits for frames is wanted, too.

    Raises:
        CapabilityError: the model cannot be computed so.
    """
    exact = is_exact(pipeline)
    if math == "fp32" and not exact:
        if shape == "tensor":
            raise CapabilityError(
                "shape=tensor computes float32 layers in float16: add --option math=fp16"
            )
        return choose_routes(pipeline, chip, shape, reserve, doorbell)
    groups = place_groups(pipeline, chip, (reserve - RESERVE) // 2)
    numbers = "whole numbers" if exact else "float16"
    why = (
        f"{numbers} on tensor cores, {groups.group} streams a block on {groups.threads} threads: "
        f"about {groups.cost:.0f} cycles of a multiprocessor for their frame"
    )
    many = Route("many", "tensor", groups, groups.cost, why)
    few = () if shape == "tensor" else choose_routes(pipeline, chip, shape, reserve, doorbell)
    others = [route for route in few if route.streams != "many"]
    if few and few[0].streams == "many":
        others.insert(0, dataclasses.replace(few[0], streams="one"))
    return (*others, many)
