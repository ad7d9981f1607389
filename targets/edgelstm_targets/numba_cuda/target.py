"""The targets `cuda` and `jetson-orin-gpu`: kernels for NVIDIA GPUs, built where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgelstm.engines.cuda_driver import open_device
from edgelstm.errors import CapabilityError, EdgeLSTMError
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.target import Capabilities, Emission, Probe, Stage, TargetOptions
from edgelstm_targets.numba_cuda.chips import find_chips
from edgelstm_targets.numba_cuda.costs import Costs, read_costs
from edgelstm_targets.numba_cuda.mma_routing import read_groups
from edgelstm_targets.numba_cuda.pipeline import Pipeline
from edgelstm_targets.numba_cuda.roles import make_pipeline
from edgelstm_targets.numba_cuda.toolkit import expect_toolkit, obstacle, toolkit_version

if TYPE_CHECKING:
    from edgelstm_targets.numba_cuda.build import Kernels

SHAPES = ("auto", "block", "exchange", "cluster", "tensor")
MATHS = ("fp32", "fp16")
_OPTIONS = ("variant", "cuda", "shape", "doorbell", "costs", "math", "groups")


@dataclass(frozen=True, slots=True)
class CudaOptions(TargetOptions):
    """Options of the target.

    Args:
        chips: "all", or names joined by +.
        cuda: major version of CUDA whose wheels compile; None takes those that are installed.
        shape: of the kernel for one stream; "auto" chooses by size.
        doorbell: a kernel that stays on the GPU and waits for frames is there, too.
        costs: what routing chooses by, for chips where it is not the default.
        math: "fp16" lets many streams be multiplied on tensor cores in float16.
        groups: streams of a block on tensor cores, a kernel for each; None chooses by the model.
    """

    chips: str = "all"
    cuda: int | None = None
    shape: str = "auto"
    doorbell: bool = False
    costs: tuple[tuple[str, Costs], ...] = ()
    math: str = "fp32"
    groups: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """What goes into the manifest."""
        return {
            "chips": self.chips,
            "cuda": self.cuda,
            "shape": self.shape,
            "doorbell": self.doorbell,
            "costs": {chip: costs.changes() for chip, costs in self.costs},
            "math": self.math,
            "groups": None if self.groups is None else list(self.groups),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Piped:
    """A program as roles."""

    program: Program
    pipeline: Pipeline


class CudaTarget:
    """NVIDIA GPUs by Numba-CUDA."""

    name = "cuda"
    default_chips = "all"

    def probe(self) -> Probe:
        """Whether Numba-CUDA and the wheels are here, and whether there is a GPU."""
        try:
            device = open_device()
            can_run, found = True, f"{device.name}, sm_{device.capability[0]}{device.capability[1]}"
        except EdgeLSTMError as error:
            can_run, found = False, str(error)
        reason = obstacle()
        if reason is not None:
            return Probe(False, can_run, reason)
        return Probe(True, can_run, f"CUDA {toolkit_version()} wheels; {found}")

    def capabilities(self) -> Capabilities:
        """Units one by one: images are laid out from there. Streams only."""
        return Capabilities(unit_block=1, modes=("stream",), has_wide_h=False)

    def options(self, raw: Mapping[str, str]) -> CudaOptions:
        """Parse options given as text.

        Raises:
            CapabilityError: an unknown option or value.
        """
        unknown = sorted(set(raw) - set(_OPTIONS))
        if unknown:
            raise CapabilityError(
                f"target cuda has no option {unknown[0]!r}; it has: cuda, shape, doorbell, costs, "
                "math, groups, and chips behind a colon (--target cuda:sm_87)"
            )
        cuda, shape = raw.get("cuda"), raw.get("shape", "auto")
        if cuda not in (None, "12", "13"):
            raise CapabilityError(f"option cuda is {cuda!r}; expected 12 or 13")
        if shape not in SHAPES:
            raise CapabilityError(f"option shape is {shape!r}; expected {', '.join(SHAPES)}")
        doorbell = raw.get("doorbell", "no")
        if doorbell not in ("yes", "no"):
            raise CapabilityError(f"option doorbell is {doorbell!r}; expected yes or no")
        math = raw.get("math", "fp32")
        if math not in MATHS:
            raise CapabilityError(f"option math is {math!r}; expected {', '.join(MATHS)}")
        groups = read_groups(raw.get("groups", "auto"))
        if shape == "tensor" and groups == ():
            raise CapabilityError(
                "options shape=tensor and groups=none leave no kernel: leave out one of them"
            )
        chips = raw.get("variant", self.default_chips)
        costs = read_costs(raw["costs"]) if "costs" in raw else {}
        options = CudaOptions(
            chips,
            None if cuda is None else int(cuda),
            shape,
            doorbell == "yes",
            tuple(sorted(costs.items())),
            math,
            groups,
        )
        find_chips(chips, options.cuda or toolkit_version() or 13)
        return options

    def stages(self, options: TargetOptions) -> tuple[Stage, ...]:
        """Program -> roles -> kernels -> sections and facts."""
        assert isinstance(options, CudaOptions)
        return (
            Stage("roles", _make_roles, _roles_text),
            Stage("kernels", lambda piped: _compile(piped, options), _kernels_text),
            Stage("sections", _emit),
        )


class JetsonOrinTarget(CudaTarget):
    """The GPU of Jetson Orin modules."""

    name = "jetson-orin-gpu"
    default_chips = "sm_87"


def _make_roles(program: Program) -> Piped:
    return Piped(program, make_pipeline(program))


def _roles_text(piped: Piped) -> str:
    lags = piped.pipeline.lags
    return "".join(
        f"{lags[role]} {type(role).__name__} {role.name} -> {role.target.name}"
        f"[{role.target.extent}] x {piped.pipeline.depths[role.target]}\n"
        for role in piped.pipeline.roles
    )


def _compile(piped: Piped, options: CudaOptions) -> Kernels:
    toolkit = expect_toolkit(options.cuda)
    from edgelstm_targets.numba_cuda.build import compile_kernels

    known = dict(options.costs)
    chips = tuple(
        replace(chip, costs=known.get(chip.name, chip.costs))
        for chip in find_chips(options.chips, toolkit)
    )
    return compile_kernels(
        piped.program,
        piped.pipeline,
        chips,
        options.shape,
        options.doorbell,
        options.math,
        options.groups,
    )


def _kernels_text(kernels: Kernels) -> str:
    from edgelstm_targets.numba_cuda.build import listing

    return listing(kernels)


def _emit(kernels: Kernels) -> Emission:
    from edgelstm_targets.numba_cuda.build import emit

    return emit(kernels)
