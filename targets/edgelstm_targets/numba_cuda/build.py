"""Compiles the kernels of a model for every chip asked for, and writes down what they take."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgelstm.engines.cuda_cubin import Resources, read_cubin
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.target import Emission
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement
from edgelstm_targets.numba_cuda.mma_routing import choose_math_routes
from edgelstm_targets.numba_cuda.pipeline import Pipeline
from edgelstm_targets.numba_cuda.placement import RESERVE
from edgelstm_targets.numba_cuda.routing import Route
from edgelstm_targets.numba_cuda.toolkit import compile_ptx, link_cubin, versions

_RESERVES = tuple(range(RESERVE, RESERVE + 81, 16))


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
) -> Kernels:
    """Every kernel, for every chip.

    Raises:
        ToolchainError: a compiler failed.
    """
    made = [
        each
        for chip in chips
        for each in _compile_chip(program, pipeline, chip, shape, doorbell, math)
    ]
    return Kernels(program, tuple(made))


def _compile_chip(
    program: Program, pipeline: Pipeline, chip: Chip, shape: str, doorbell: bool, math: str
) -> list[Compiled]:
    made = []
    for route in choose_math_routes(pipeline, chip, shape, RESERVE, math, doorbell):
        tried: list[Compiled] = []
        for reserve in _RESERVES:
            if reserve != RESERVE:
                again = choose_math_routes(pipeline, chip, route.shape, reserve, math, doorbell)
                same = next(each for each in again if each.streams == route.streams)
                route = replace(same, why=route.why)
            tried.append(_compile_route(program, pipeline, chip, route))
            if tried[-1].resources.frame_bytes == 0:
                break
        made.append(_least_spilled(tried))
    return made


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
    entry = f"{signature.name}_{route.streams}"
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
        section = f"cubin/{each.chip.name}/{each.route.streams}"
        sections[section] = each.cubin
        facts.append(_facts(each, section, "cubin"))
    for each in kernels.compiled:
        # Clusters and exchanges are tuned to a chip: what is to come gets the plain shape.
        if each.chip.capability == newest and each.route.shape in ("block", "tensor"):
            section = f"ptx/{each.chip.name}/{each.route.streams}"
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
        "group": placement.group if isinstance(placement, GroupPlacement) else 1,
        "threads": placement.threads,
        "shared_bytes": each.shared_bytes,
        "mail_bytes": each.mail_bytes,
        "registers": each.resources.registers,
        "image": [layout.to_json() for layout in placement.layouts],
        "streams": each.route.streams,
        "why": each.route.explanation,
        "cycles": math.ceil(each.route.cycles),
        "work": {} if isinstance(placement, GroupPlacement) else dataclasses.asdict(placement.work),
        "exchanges": each.route.exchanges,
    }
