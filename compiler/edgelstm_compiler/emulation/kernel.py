"""Engine-like kernels on an emulated processor: sessions, verification and counting run on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import STATE_SECTION, WEIGHTS_SECTION, Artifact
from edgelstm.dtypes import DType
from edgelstm.engines.base import Blocks, StepFunction
from edgelstm.engines.code_sizes import SIZES, expect_sizes
from edgelstm.engines.native import CODE_PREFIX, memory_sizes, returns_news
from edgelstm.errors import ArtifactFormatError, TargetUnavailableError
from edgelstm.install_hint import install_hint
from edgelstm_compiler.elf import X86_64
from edgelstm_compiler.emulation.image import read_image
from edgelstm_compiler.emulation.machine import Machine, Word, emulator_version
from edgelstm_compiler.processor import Emulator
from edgelstm_compiler.target import find_processor, processors

_SIGNALS = (DType.I8, DType.I16)
"""Integers that are signals (of int8-full models); wider ones are lengths and indices."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What steps cost, counted.

    Args:
        instructions: of one step.
        macs: multiply-accumulates of one step.
        stack_bytes: stack that a step takes.
    """

    instructions: float
    macs: int
    stack_bytes: int

    @property
    def per_mac(self) -> float:
        """Instructions per multiply-accumulate."""
        return self.instructions / self.macs if self.macs else float("inf")

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "instructions": self.instructions,
            "instructions_per_mac": round(self.per_mac, 4),
            "stack_bytes": self.stack_bytes,
        }


class EmulatedKernel:
    """The code of one instruction set on an emulated processor (`edgelstm.engines.base.Kernel`).

    Args:
        artifact: compiled for a CPU.
        isa: name of its instruction set; None: the best one that the emulator knows.
        host_too: x86-64 as well, for code that is not to be executed by the machine itself.

    Raises:
        TargetUnavailableError: Unicorn is missing, or cannot run this code.
    """

    def __init__(
        self, artifact: Artifact, isa: str | None = None, *, host_too: bool = False
    ) -> None:
        entries = artifact.manifest["target"]["facts"].get("isas", [])
        names = [str(entry["section"]).removeprefix(CODE_PREFIX) for entry in entries]
        if not names:
            raise TargetUnavailableError(
                f"target {artifact.manifest['target']['name']!r} has no machine code to emulate"
            )
        chosen = isa or _best_known(entries)
        if chosen not in names:
            raise TargetUnavailableError(
                f"the artifact has no code for {chosen!r}; it has {', '.join(names)}"
            )
        entry = entries[names.index(chosen)]
        image = read_image(artifact.container.section(entry["section"]))
        if image.machine == X86_64 and not host_too:
            raise TargetUnavailableError(
                "emulation is for ARM code, this is for x86-64: it needs none here"
            )
        if beyond := _beyond(entry):
            raise TargetUnavailableError(
                f"Unicorn knows x86-64 up to SSE4.2, and the code for {chosen} needs {beyond[0]}"
            )
        self._machine = Machine(image, emulator_of(chosen))
        self._name = artifact.name
        for function in ("step", "run"):
            if f"{self._name}_{function}" not in image.symbols:
                raise ArtifactFormatError(
                    f"the code for {chosen} lacks {self._name}_{function}; compile the model again"
                )
        self._facts = {"engine": emulator_version(), "isa": chosen}
        found = self._machine.numbers(f"{self._name}_sizes", len(SIZES))
        if found is not None:
            expect_sizes(found, memory_sizes(artifact.manifest, artifact.signature), chosen)
        self._tells_news = returns_news(artifact.container)
        weights = bytes(artifact.container.section(WEIGHTS_SECTION))
        self._weights = self._machine.allocate(len(weights))
        self._machine.write(self._weights, weights)
        sizes = artifact.manifest["memory"]
        self._state = self._machine.allocate(sizes["state_bytes"])
        self._scratch = self._machine.allocate(sizes["scratch_bytes"])
        self._room: dict[str, tuple[int, int]] = {}

    @property
    def tells_news(self) -> bool:
        """Whether the code returns a mask of new outputs."""
        return self._tells_news

    @property
    def facts(self) -> Mapping[str, str]:
        """The emulator and the instruction set."""
        return self._facts

    def bind(self, blocks: Blocks) -> StepFunction:
        """One step; every block goes into the emulated memory and comes back."""
        return lambda: self._call("step", blocks, blocks.inputs, blocks.outputs)

    def bind_run(
        self, blocks: Blocks, inputs: NDArray[Any], outputs: NDArray[Any], n_steps: int
    ) -> StepFunction:
        """Many steps in one emulated call."""
        return lambda: self._call("run", blocks, inputs, outputs, Word(n_steps))

    def read_weights(self, repeats: int) -> int | None:
        """Time means nothing here."""
        del repeats
        return None

    def cost(self, artifact: Artifact, frames: NDArray[np.uint8]) -> Cost:
        """Count the instructions of a step, the mean over some frames.

        Args:
            artifact: the same as before.
            frames: input blocks of single steps, (n, bytes).
        """
        machine, signature = self._machine, artifact.signature
        machine.write(self._state, bytes(artifact.container.section(STATE_SECTION)))
        source, target = (
            self._place("in", signature.input_bytes),
            self._place("out", signature.output_bytes),
        )
        pointers = (self._weights, self._state, self._scratch, source, target)
        machine.paint_stack()
        total = 0
        for frame in frames:
            machine.write(source, frame.tobytes())
            machine.call(f"{self._name}_step", pointers, count=True)
            total += machine.instructions
        return Cost(total / len(frames), int(artifact.manifest["macs"]), machine.stack_used())

    def _call(
        self,
        function: str,
        blocks: Blocks,
        inputs: NDArray[Any],
        outputs: NDArray[Any],
        *more: Word,
    ) -> int:
        machine = self._machine
        source, target = self._place("in", inputs.nbytes), self._place("out", outputs.nbytes)
        machine.write(self._state, blocks.state.tobytes())
        machine.write(source, inputs.tobytes())
        pointers = (self._weights, self._state, self._scratch, source, target)
        code = machine.call(f"{self._name}_{function}", (*pointers, *more))
        blocks.state[...] = np.frombuffer(machine.read(self._state, blocks.state.size), np.uint8)
        result = np.frombuffer(machine.read(target, outputs.nbytes), outputs.dtype)
        outputs[...] = result.reshape(outputs.shape)
        return code

    def _place(self, name: str, size: int) -> int:
        """Memory for inputs or outputs, at an address that is a multiple of 4 only."""
        address, room = self._room.get(name, (0, -1))
        if room < size:
            address = self._machine.allocate(size + 4) + 4
            self._room[name] = (address, size)
        return address


def _best_known(entries: Sequence[Mapping[str, Any]]) -> str:
    """The best instruction set that Unicorn knows, or the best of all for the complaint."""
    known = [entry for entry in entries if not _beyond(entry)] or list(entries)
    return str(known[0]["section"]).removeprefix(CODE_PREFIX)


def emulator_of(code_name: str) -> Emulator:
    """The emulated processor for a section of code.

    Raises:
        TargetUnavailableError: there is none; the message names those that there are.
    """
    processor = find_processor(code_name)
    if processor is not None and processor.emulator is not None:
        return processor.emulator
    known = [n for each in processors().values() if each.emulator for n in each.code_names]
    if processor is not None:
        raise TargetUnavailableError(
            f"there is no emulated {code_name}. {processor.without_emulator}"
        )
    raise TargetUnavailableError(
        f"there is no emulated {code_name}; there is {', '.join(known) or 'none'}: "
        + ("run the exported C on a board instead" if known else install_hint("targets"))
    )


def _beyond(entry: Mapping[str, Any]) -> list[str]:
    """Extensions of x86-64 that code needs and Unicorn lacks."""
    return [flag for flag in entry.get("requires", ()) if flag.startswith(("avx", "fma", "f16c"))]


def emulate(artifact: Artifact, isa: str | None = None, *, host_too: bool = False) -> Artifact:
    """The same artifact, run by an emulated processor; see `EmulatedKernel`.

    Raises:
        TargetUnavailableError: Unicorn is missing, or cannot run this code.
    """
    return artifact.on(EmulatedKernel(artifact, isa, host_too=host_too))


def count_cost(artifact: Artifact, isa: str | None = None, steps: int = 3, seed: int = 0) -> Cost:
    """Instructions of a step on seeded random input, and its stack, on the emulated processor."""
    rng = np.random.default_rng(seed)
    signature = artifact.signature
    frames = np.zeros((steps, signature.input_bytes), np.uint8)
    for spec in signature.inputs:
        values = rng.standard_normal((steps, *spec.shape))
        if spec.dtype in _SIGNALS:
            largest = (1 << (8 * spec.dtype.itemsize - 1)) - 1
            values = np.clip(values, -4, 4) * (largest // 4)
        if spec.dtype.is_float or spec.dtype in _SIGNALS:
            values = values.astype(spec.dtype.numpy)
            raw = values.reshape(steps, -1).view(np.uint8)
            frames[:, spec.offset_bytes : spec.offset_bytes + spec.nbytes] = raw
    return EmulatedKernel(artifact, isa).cost(artifact, frames)
