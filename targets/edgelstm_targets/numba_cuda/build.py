"""Compiles the kernels of a model for every chip asked for, and writes down what they take."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgelstm.engines.cuda_cubin import Resources, read_cubin
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.target import Emission
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement
from edgelstm_targets.numba_cuda.mma_routing import choose_math_routes, place_again
from edgelstm_targets.numba_cuda.pipeline import Pipeline
from edgelstm_targets.numba_cuda.placement import RESERVE
from edgelstm_targets.numba_cuda.routing import Route
from edgelstm_targets.numba_cuda.toolkit import compile_ptx, link_cubin, versions

_RESERVES = tuple(range(RESERVE + 16, RESERVE + 81, 16))
"""Registers that are left free where a kernel spills, one after the other."""


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A kernel for one chip.

    Args:
        chip: the chip.
        route: why it is there, and its placement.
        entry: its name.
        shared_bytes: dynamic shared memory of a block.
        mail_bytes: global memory that each stream takes for the exchange.
        ptx: the text.
        cubin: the code.
        resources: registers and so on.
    """

    chip: Chip
    route: Route
    entry: str
    shared_bytes: int
    mail_bytes: int
    ptx: str
    cubin: bytes
    resources: Resources


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """All kernels of a program."""

    program: Program
    compiled: tuple[Compiled, ...]


def compile_kernels(
    program: Program,
    pipeline: Pipeline,
    chips: tuple[Chip, ...],
    shape: str,
    doorbell: bool = False,
    math: str = "fp32",
    groups: tuple[int, ...] | None = None,
) -> Kernels:
    """Every kernel, for every chip.

    Raises:
        ToolchainError: a compiler failed.
    """
    made = [
        _compile_unspilled(program, pipeline, chip, route)
        for chip in chips
        for route in choose_math_routes(pipeline, chip, shape, RESERVE, math, doorbell, groups)
    ]
    return Kernels(program, tuple(made))


def _compile_unspilled(program: Program, pipeline: Pipeline, chip: Chip, route: Route) -> Compiled:
    """The first placement of a kernel that spills nothing, or the one that spills least."""
    tried: list[Compiled] = []
    for again in _places(pipeline, chip, route):
        tried.append(_compile_route(program, pipeline, chip, again))
        if tried[-1].resources.frame_bytes == 0:
            break
    return _least_spilled(tried)


def _places(pipeline: Pipeline, chip: Chip, route: Route) -> Iterator[Route]:
    """The kernel as it is, then with ever more registers left free, as long as there is room."""
    yield route
    try:
        for reserve in _RESERVES:
            yield place_again(pipeline, chip, route, reserve)
    except CapabilityError:
        return


def _least_spilled(tried: Sequence[Compiled]) -> Compiled:
    """The kernel whose threads keep least in local memory; where that is something, it says so."""
    best = min(tried, key=lambda each: each.resources.frame_bytes)
    spilled = best.resources.frame_bytes
    if not spilled:
        return best
    why = f"{best.route.why}; {spilled} bytes of a thread are spilled to local memory"
    return replace(best, route=replace(best.route, why=why))


def _compile_route(program: Program, pipeline: Pipeline, chip: Chip, route: Route) -> Compiled:
    from edgelstm_targets.numba_cuda.device.doorbell import WORD_BYTES, make_doorbell
    from edgelstm_targets.numba_cuda.device.mma_kernel import make_group_kernel
    from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes
    from edgelstm_targets.numba_cuda.device.wavefront import mail_size, make_team, make_wavefront

    signature = program.signature
    entry = f"{signature.name}_{route.name}"
    team = make_team(route.shape, route.placement.team)
    shared_bytes = route.placement.shared_bytes
    sizes = (len(program.state_init), signature.input_bytes, signature.output_bytes)
    if isinstance(route.placement, GroupPlacement):
        source = make_group_kernel(route.placement, entry, pipeline.last_lag, BlockSizes(*sizes))
    elif route.streams == "doorbell":
        source = make_doorbell(route.placement, team, entry, pipeline.last_lag)
        shared_bytes += WORD_BYTES
    else:
        source = make_wavefront(route.placement, team, entry, pipeline.last_lag, sizes)
    ptx = compile_ptx(source, chip)
    cubin = link_cubin(ptx, chip)
    resources = read_cubin(cubin)[entry]
    return Compiled(chip, route, entry, shared_bytes, mail_size(team), ptx, cubin, resources)


def listing(kernels: Kernels) -> str:
    """What each kernel takes, and its PTX."""
    return "\n".join(
        f"// {each.chip.name} {each.entry}: {each.route.explanation}\n"
        f"// {each.resources}\n{each.ptx}"
        for each in kernels.compiled
    )


def emit(kernels: Kernels) -> Emission:
    """Sections and facts; the PTX of the newest chip is there for chips to come."""
    sections: dict[str, bytes] = {}
    facts: list[dict[str, Any]] = []
    newest = max(each.chip.capability for each in kernels.compiled)
    for each in kernels.compiled:
        section = f"cubin/{each.chip.name}/{each.route.name}"
        sections[section] = each.cubin
        facts.append(_facts(each, section, "cubin"))
    for each in kernels.compiled:
        # Clusters and exchanges are tuned to a chip: what is to come gets the plain shape.
        if each.chip.capability == newest and each.route.shape in ("block", "tensor"):
            section = f"ptx/{each.chip.name}/{each.route.name}"
            sections[section] = each.ptx.encode()
            facts.append(_facts(each, section, "ptx"))
    return Emission(
        engine="cuda", sections=sections, facts={"kernels": facts, "versions": versions()}
    )


def _facts(each: Compiled, section: str, form: str) -> dict[str, Any]:
    placement = each.route.placement
    return {
        "section": section,
        "form": form,
        "capability": list(each.chip.capability),
        "entry": each.entry,
        "shape": each.route.shape,
        "team": placement.team,
        "group": each.route.group,
        "threads": placement.threads,
        "shared_bytes": each.shared_bytes,
        "mail_bytes": each.mail_bytes,
        "registers": each.resources.registers,
        "image": [layout.to_json() for layout in placement.layouts],
        "streams": each.route.streams,
        "above": each.route.above,
        "why": each.route.explanation,
        "cycles": math.ceil(each.route.cycles),
        "work": {} if isinstance(placement, GroupPlacement) else dataclasses.asdict(placement.work),
        "exchanges": each.route.exchanges,
    }
