"""Engine `native`: compiled CPU code, called through ctypes with the GIL released.

The code is a shared object with plain C symbols, NAME being `Signature.name`:

```
int32_t NAME_step(const void *weights, void *state, void *scratch, const void *in, void *out);
int32_t NAME_run(const void *weights, void *state, void *scratch, const void *in, void *out,
                 int64_t n_steps);                       frames at a stride of input/output_bytes
int64_t NAME_read(const void *weights, int64_t bytes, int64_t repeats);  optional: only reads
const int64_t NAME_sizes[5];      optional: bytes of weights, state, scratch, input, output
```
Step returns the bit mask of the outputs that are new, run 0; both return a negative number where
they refuse, see `engines.base.code_of` (before format 2: what `StepFunction` says). `run` looks at
all inputs first.
The fact `counted` names what code counts saturated values of, in the scratch block from byte 4 on.
Code without sizes (of older artifacts) runs with what the manifest says, and guards behind it.
Weights, state and scratch start at a multiple of 64 bytes; inputs and outputs need the alignment of
their elements only.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.container import Container
from edgelstm.engines.base import Blocks, StepFunction
from edgelstm.engines.code_sizes import SIZES, expect_sizes
from edgelstm.engines.cpu_features import ELF_MACHINES, cpu_flags, machine
from edgelstm.engines.native_streams import BatchCode, BatchRunner, find_batch_code
from edgelstm.engines.shared_object import Library, load_shared_object
from edgelstm.engines.stepwise_streams import StepwiseRunner
from edgelstm.errors import ArtifactFormatError, TargetUnavailableError
from edgelstm.memory import Block, address_of, view_aligned
from edgelstm.signature import Signature

CODE_PREFIX = "code/"
NEWS_FORMAT = 2
"""From this format on code returns a mask of new outputs, and negative numbers where it refuses."""

COUNTS_START, MOST_COUNTS = 4, 15
"""Bytes of the scratch block's notes at which 32-bit counters of saturated values begin, and how
many fit behind the number of the step."""

STREAMS_PREFIX = "streams/"
"""Sections with code that steps many streams at once, of the same instruction set."""
ISA_VARIABLE = "EDGELSTM_ISA"
"""Environment variable that forces one instruction set of the artifact."""


@dataclass(frozen=True, slots=True)
class CodeVariant:
    """The code for one instruction set.

    Args:
        section: its section in the artifact, `code/x86-64-v3`.
        requires: CPU flags it needs, as in /proc/cpuinfo.
        architecture: that of its ELF header.
        is_bare: for a processor without an operating system.
    """

    section: str
    requires: tuple[str, ...]
    architecture: str
    is_bare: bool = False

    @property
    def isa(self) -> str:
        """Name of the instruction set."""
        return self.section.removeprefix(CODE_PREFIX)

    def obstacle(self) -> str | None:
        """Why this machine cannot run it, or None."""
        if self.is_bare:
            return "is for a microcontroller (edgelstm export-c makes C of it)"
        if self.architecture != machine():
            return f"is code for {self.architecture}, this machine is {machine()}"
        missing = [flag for flag in self.requires if flag not in cpu_flags()]
        return f"needs {', '.join(missing)}, which this CPU lacks" if missing else None


def code_variants(container: Container) -> tuple[CodeVariant, ...]:
    """The instruction sets in an artifact, best first.

    Raises:
        ArtifactFormatError: the manifest and the sections do not fit.
    """
    entries = container.manifest.get("target", {}).get("facts", {}).get("isas")
    if entries is None:
        entries = [{"section": name} for name in container.sections if name.startswith(CODE_PREFIX)]
    try:
        variants = tuple(
            CodeVariant(
                section=entry["section"],
                requires=tuple(str(flag) for flag in entry.get("requires", ())),
                architecture=_architecture(container.section(entry["section"])),
                is_bare=bool(entry.get("bare", False)),
            )
            for entry in entries
        )
    except (TypeError, KeyError, AttributeError) as exc:
        raise ArtifactFormatError(
            "the manifest's list of instruction sets is malformed; compile the model again"
        ) from exc
    if not variants:
        raise ArtifactFormatError("the artifact holds no code; compile the model again")
    return variants


def choose_variant(variants: Sequence[CodeVariant]) -> CodeVariant:
    """The first variant that this CPU runs, or the one that `EDGELSTM_ISA` names.

    Raises:
        TargetUnavailableError: none runs here, or the one asked for does not.
    """
    forced = os.environ.get(ISA_VARIABLE)
    if forced:
        named = [variant for variant in variants if variant.isa == forced]
        if not named:
            raise TargetUnavailableError(
                f"{ISA_VARIABLE}={forced}: the artifact has no such code; "
                f"it has {', '.join(variant.isa for variant in variants)}"
            )
        variants = named
    obstacles = []
    for variant in variants:
        obstacle = variant.obstacle()
        if obstacle is None:
            return variant
        obstacles.append(f"{variant.isa} {obstacle}")
    raise TargetUnavailableError(
        f"this machine cannot run the artifact: {'; '.join(obstacles)}; compile it for this machine"
    )


class NativeEngine:
    """Loads the code for the best instruction set that this CPU has."""

    def expect_machine(self) -> None:
        """Nothing but a CPU; which one, the artifact decides."""

    def describe(self, container: Container, signature: Signature) -> Mapping[str, str]:
        """The instruction set that would be chosen; see `Engine.describe`."""
        del signature
        return {"engine": "native", "isa": choose_variant(code_variants(container)).isa}

    def load(self, container: Container, signature: Signature) -> NativeKernel:
        """Make a model ready to run here; see `Engine.load`."""
        variant = choose_variant(code_variants(container))
        library = load_shared_object(container.section(variant.section), signature.name)
        weights = view_aligned(container.section("weights"))
        sizes = memory_sizes(container.manifest, signature)
        many = container.sections.get(f"{STREAMS_PREFIX}{variant.isa}")
        return NativeKernel(
            library,
            signature,
            weights,
            variant.isa,
            sizes,
            many,
            tells_news=returns_news(container),
            counted=counted_values(container),
        )


class NativeKernel:
    """The functions of one loaded library, on one shared copy of the weights.

    Args:
        library: the code.
        signature: of the model.
        weights: its weights.
        isa: the instruction set.
        sizes: bytes of weights, state, scratch, input and output as the manifest has them.
        many: the shared object that steps many streams at once, if there is one; loaded when a
            session asks for it.
        tells_news: see `TellsNews`.
        counted: names of what the code counts saturated values of, in the order of their counters.

    Raises:
        ArtifactFormatError: the code lacks a function, or is for other sizes.
    """

    __slots__ = (
        "_batch",
        "_counted",
        "_facts",
        "_library",
        "_many",
        "_needs_guards",
        "_read",
        "_run",
        "_signature",
        "_sizes",
        "_step",
        "_tells_news",
        "_weights",
        "_weights_pointer",
    )

    def __init__(
        self,
        library: Library,
        signature: Signature,
        weights: Block,
        isa: str,
        sizes: Sequence[int],
        many: memoryview | None = None,
        *,
        tells_news: bool = True,
        counted: Sequence[str] = (),
    ) -> None:
        self._counted = tuple(counted)
        self._library, self._signature, self._sizes = library, signature, tuple(sizes)
        self._many, self._tells_news = many, tells_news
        self._batch: BatchCode | None = None
        name = signature.name
        step, run = (library.address(f"{name}_{function}") for function in ("step", "run"))
        if step is None or run is None:
            raise ArtifactFormatError(
                f"the code for {isa} lacks {name}_{'run' if step else 'step'}; compile the model "
                "again"
            )
        found = library.address(f"{name}_sizes")
        self._needs_guards = found is None
        if found is not None:
            wanted = (ctypes.c_int64 * len(SIZES)).from_address(found)
            expect_sizes(tuple(wanted), sizes, isa)
        read = library.address(f"{name}_read")
        self._step, self._run = _Function(step), _Function(run)
        # A step that somebody still holds keeps its code.
        self._step.library = self._run.library = library
        self._read = None if read is None else _LongFunction(read)
        self._weights = weights
        self._weights_pointer = _pointer(weights)
        self._facts = {"engine": "native", "isa": isa}

    @property
    def tells_news(self) -> bool:
        """Whether it returns a mask of new outputs."""
        return self._tells_news

    @property
    def needs_guards(self) -> bool:
        """Whether the code does not say what memory it wants."""
        return self._needs_guards

    @property
    def facts(self) -> Mapping[str, str]:
        """The engine and the chosen instruction set."""
        return self._facts

    def bind(self, blocks: Blocks) -> StepFunction:
        """The native step on those blocks; its arguments are converted here, once."""
        return partial(
            self._step,
            self._weights_pointer,
            _pointer(blocks.state),
            _pointer(blocks.scratch),
            _pointer(blocks.inputs),
            _pointer(blocks.outputs),
        )

    def saturated(self, blocks: Blocks) -> Mapping[str, int] | None:
        """From the notes in the scratch block; see `CountsSaturation`."""
        end = COUNTS_START + 4 * len(self._counted)
        if not self._counted or blocks.scratch.size < end:
            return None
        notes = blocks.scratch[COUNTS_START:end]
        found: dict[str, int] = {}
        for name, count in zip(self._counted, notes.view(np.uint32).tolist(), strict=True):
            found[name] = found.get(name, 0) + count
        return found

    def bind_run(
        self, blocks: Blocks, inputs: NDArray[Any], outputs: NDArray[Any], n_steps: int
    ) -> StepFunction:
        """Many steps in one native call."""
        return partial(
            self._run,
            self._weights_pointer,
            _pointer(blocks.state),
            _pointer(blocks.scratch),
            _pointer(inputs),
            _pointer(outputs),
            ctypes.c_int64(n_steps),
        )

    def bind_streams(
        self, streams: int, state_bytes: int, *, check_states: bool, threads: int
    ) -> BatchRunner | StepwiseRunner:
        """Memory for many streams; see `ManyStreams`."""
        del check_states  # compiled code looks at every state that has to be looked at
        if self._batch is None and self._many is not None:
            name = self._signature.name
            self._batch = find_batch_code(load_shared_object(self._many, name), name, self._sizes)
        if self._batch is None:
            scratch = self._sizes[SIZES.index("scratch")]
            return StepwiseRunner(self, self._signature, streams, state_bytes, scratch, threads)
        return BatchRunner(
            self._batch, self._weights, self._signature, streams, state_bytes, threads
        )

    def read_weights(self, repeats: int) -> int | None:
        """Merely read all weights so often; the bytes read."""
        if self._read is None:
            return None
        size = self._weights.size
        self._read(self._weights_pointer, ctypes.c_int64(size), ctypes.c_int64(repeats))
        return size * repeats


class _Function(_ctypes.CFuncPtr):
    """A C function that returns int32_t; one class for all of them."""

    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = ctypes.c_int32
    library: Library


class _LongFunction(_ctypes.CFuncPtr):
    """A C function that returns int64_t."""

    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = ctypes.c_int64


def counted_values(container: Container) -> tuple[str, ...]:
    """What the code counts saturated values of: `counted` of its facts."""
    facts = container.manifest.get("target", {}).get("facts", {})
    names = facts.get("counted", ())
    if not isinstance(names, list) or len(names) > MOST_COUNTS:
        return ()
    return tuple(str(name) for name in names)


def returns_news(container: Container) -> bool:
    """Whether code of this artifact returns which outputs are new; see `TellsNews`."""
    return int(container.manifest.get("format", 1)) >= NEWS_FORMAT


def memory_sizes(manifest: Mapping[str, Any], signature: Signature) -> tuple[int, ...]:
    """Bytes of the five blocks as the manifest has them, in the order of `NAME_sizes`."""
    memory = manifest["memory"]
    blocks = (int(memory[f"{block}_bytes"]) for block in ("weights", "state", "scratch"))
    return (*blocks, signature.input_bytes, signature.output_bytes)


def _pointer(array: NDArray[Any]) -> Any:
    """The address as a ready-made ctypes argument: the cheapest thing to pass again and again."""
    return ctypes.c_void_p.from_param(address_of(array))


def _architecture(code: memoryview) -> str:
    if len(code) < 20 or bytes(code[:4]) != b"\x7fELF":
        raise ArtifactFormatError("a code section is no ELF shared object; compile the model again")
    order = "<" if code[5] == 1 else ">"
    (number,) = struct.unpack_from(f"{order}H", code, 18)
    return ELF_MACHINES.get(number, f"ELF machine {number}")
