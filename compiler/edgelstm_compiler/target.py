"""What a target must offer, and how installed targets are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

from edgelstm.errors import TargetNotFoundError
from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.processor import Processor
from edgelstm_compiler.target_names import suggest

ENTRY_POINT_GROUP = "edgelstm.targets"
"""Targets by name."""

FAMILY_GROUP = "edgelstm.target_families"
"""Families of targets: one for each processor of a table (`TargetFamily`)."""

DEFAULT_TARGET = "host"
"""What is compiled for where nobody says."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether this machine can build for a target and run the result.

    Args:
        can_build: the tools to compile are here.
        can_run: this machine executes the result.
        reason: what is missing and how to get it, or what was found.
    """

    can_build: bool
    can_run: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What programs a target takes.

    Args:
        unit_block: units per block of packed weights; None where weights stay as they are.
        modes: "stream", "call", "window", "lookahead".
        weight_offset: what is added to int8 weights of dot products: 128 for instructions that
            take unsigned weights (`ir/numerics.py`).
        packing: of the weights of int8-full; None: in blocks of unit_block with weight_offset.
        has_float: it computes in floating point; else int8-full models take and give integers.
        has_wide_h: int8-full layers may give an h of 16 bits.
        columns: most elements of a batch, or rows, that its layers take together.
    """

    unit_block: int | None
    modes: tuple[str, ...] = ("stream", "call", "window", "lookahead")
    weight_offset: int = 0
    packing: BytePacking | None = None
    has_float: bool = True
    has_wide_h: bool = True
    columns: int = 1


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Base of a target's options: frozen, hashable.

    Args:
        ram_bytes: what the device has for a model's state, scratch and stack; None: nobody says.
    """

    ram_bytes: int | None = field(default=None, kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """What goes into the manifest."""
        return {} if self.ram_bytes is None else {"ram_bytes": self.ram_bytes}


@dataclass(frozen=True, slots=True)
class Emission:
    """What a target made of a Program.

    Args:
        engine: which engine of `edgelstm.engines` runs it.
        sections: artifact sections by name, `code/x86-64-v3` or `program`.
        header: the C header, or "".
        facts: JSON facts for the manifest (instruction sets, linker, versions).
    """

    engine: str
    sections: Mapping[str, bytes]
    header: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a target's work.

    Args:
        name: for dumps and messages.
        run: from the previous stage's result (first: the Program) to this one's (last: Emission).
        text: a readable form of the result for `--dump`, or None.
    """

    name: str
    run: Callable[[Any], Any]
    text: Callable[[Any], str] | None = None


@runtime_checkable
class Target(Protocol):
    """The compile half of a target; the run half is an engine in `edgelstm.engines`."""

    name: str

    def probe(self) -> Probe:
        """Whether it works here, and why not; never raises."""
        ...

    def capabilities(self) -> Capabilities:
        """What programs it takes."""
        ...

    def options(self, raw: Mapping[str, str]) -> TargetOptions:
        """Parse options given as text.

        Raises:
            CapabilityError: an unknown option or value.
        """
        ...

    def stages(self, options: TargetOptions) -> tuple[Stage, ...]:
        """From the Program to the Emission.

        Raises (in the stages):
            TargetUnavailableError, CapabilityError, ToolchainError.
        """
        ...


class TargetFamily(Protocol):
    """Targets that differ by their processor alone."""

    def processors(self) -> Mapping[str, Processor]:
        """By name of the target."""
        ...

    def boards(self) -> Sequence[tuple[str, str]]:
        """What people call their boards, and the targets that compile for them (`suggest`)."""
        ...

    def make(self, name: str) -> Target:
        """The target of that name, a key of `processors`."""
        ...


class Variant:
    """A target with one of its variants chosen: its options get `variant` beside the others.

    Args:
        base: the target.
        variant: the word behind the colon, `sm_87` of `cuda:sm_87`.
    """

    def __init__(self, base: Target, variant: str) -> None:
        self.base = base
        self.variant = variant
        self.name = f"{base.name}:{variant}"

    def probe(self) -> Probe:
        """As the target."""
        return self.base.probe()

    def capabilities(self) -> Capabilities:
        """As the target."""
        return self.base.capabilities()

    def options(self, raw: Mapping[str, str]) -> TargetOptions:
        """As the target, which may refuse the variant, or that it has any."""
        return self.base.options({**raw, "variant": self.variant})

    def stages(self, options: TargetOptions) -> tuple[Stage, ...]:
        """As the target."""
        return self.base.stages(options)


def run_stages(
    target: Target,
    program: Program,
    options: TargetOptions,
    seen: Callable[[Stage, Any], None] | None = None,
) -> Emission:
    """Let the target make its code.

    Args:
        target: which one.
        program: what it receives.
        options: of the target.
        seen: called with each stage and its result.
    """
    result: Any = program
    for stage in target.stages(options):
        result = stage.run(result)
        if seen is not None:
            seen(stage, result)
    return cast(Emission, result)


def families() -> tuple[TargetFamily, ...]:
    """The installed families of targets."""
    return tuple(entry.load()() for entry in entry_points(group=FAMILY_GROUP))


def processors() -> dict[str, Processor]:
    """The processors of all installed families, by name of the target."""
    return {name: each for family in families() for name, each in family.processors().items()}


def find_processor(code_name: str) -> Processor | None:
    """The processor whose code stands in an artifact as `code/NAME`; None: no target makes it."""
    found = (each for each in processors().values() if code_name in each.code_names)
    return next(found, None)


def find_target(name: str) -> Target:
    """The installed target of that name; `NAME:VARIANT` chooses one of its variants.

    Raises:
        TargetNotFoundError: there is none; the message lists what there is.
    """
    base, colon, variant = name.partition(":")
    target = _installed(base)
    if target is not None:
        return Variant(target, variant) if colon else target
    installed = target_names()
    boards = [board for family in families() for board in family.boards()]
    hint = suggest(name, installed, boards)
    raise TargetNotFoundError(
        f"target {base!r} is not installed; {f'{hint} ' if hint else ''}"
        f"(installed: {', '.join(installed) or 'none'})"
    )


def _installed(name: str) -> Target | None:
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return cast(Target, entry.load()())
    for family in families():
        if name in family.processors():
            return family.make(name)
    return None


def target_names() -> list[str]:
    """Names of the installed targets."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)} | {*processors()})
