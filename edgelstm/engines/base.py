"""What every engine offers: the run half of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from edgelstm.container import Container
from edgelstm.memory import Block
from edgelstm.signature import Signature

StepFunction = Callable[[], int]
"""One step (or run) on bound blocks. It returns

* 0;
* 1 + i when input i holds what `edgelstm.admission` refuses; nothing was changed, of a whole run;
* -1 - n when the state after the next frame would not be finite, or beyond `Signature.state_limit`;
  n frames are done, and the state is the one after them (only where `Signature.checks_states`).
"""


MOST_BITS = 31
"""Outputs whose bits compiled code returns; those behind them have none."""

NOT_FINITE = -(1 << 31)
"""What compiled code returns where a state would not be finite, plus the frames that were done."""


def all_outputs(signature: Signature) -> int:
    """The mask that compiled code returns where every output is new."""
    return (1 << min(len(signature.outputs), MOST_BITS)) - 1


def code_of(returned: int) -> int:
    """What compiled code returned, as a `StepFunction` says it."""
    if returned >= 0:
        return 0
    if returned < NOT_FINITE // 2:
        return -1 - (returned - NOT_FINITE)
    return -returned


@dataclass(frozen=True, slots=True)
class Blocks:
    """The memory of one session: all that a step may write.

    Args:
        state: carried from step to step, laid out as `Signature.states` says; aligned.
        scratch: means nothing between steps; aligned.
        inputs: one step's inputs, laid out as `Signature.inputs` says.
        outputs: one step's outputs, laid out as `Signature.outputs` says.
        counts: for kernels that count in Python, by name, see `CountsSaturation`.
    """

    state: Block
    scratch: Block
    inputs: Block
    outputs: Block
    counts: dict[str, int] = field(default_factory=dict)


class Kernel(Protocol):
    """A model made ready to run on this machine; immutable, shared by sessions and threads."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What was chosen: `engine`, and for compiled code `isa`."""
        ...

    def bind(self, blocks: Blocks) -> StepFunction:
        """The step on those blocks, which the caller keeps alive; native steps allocate nothing."""
        ...

    def bind_run(
        self, blocks: Blocks, inputs: NDArray[Any], outputs: NDArray[Any], n_steps: int
    ) -> StepFunction:
        """Many steps in one call, through contiguous frames; only state and scratch of `blocks`.

        The whole of `inputs` is checked before the first step.
        """
        ...

    def read_weights(self, repeats: int) -> int | None:
        """Merely read all weights so often, for measuring; the bytes read, None if not offered."""
        ...


@runtime_checkable
class TellsNews(Protocol):
    """A kernel of code that returns which outputs are new, and negative numbers where it refuses.

    `code_of` says what they mean.
    """

    @property
    def tells_news(self) -> bool:
        """Whether it does: code of artifacts before format 2 returns what `StepFunction` says."""
        ...


def tells_news(kernel: object) -> bool:
    """Whether what a kernel's steps return is for `code_of`."""
    return isinstance(kernel, TellsNews) and kernel.tells_news


@runtime_checkable
class CountsSaturation(Protocol):
    """A kernel that counts what lies beyond the range of the integers that it becomes."""

    def saturated(self, blocks: Blocks) -> Mapping[str, int] | None:
        """How many values there were by name since the blocks were made; None: not counted."""
        ...


@runtime_checkable
class NeedsGuards(Protocol):
    """A kernel whose code may want more memory than its artifact says."""

    @property
    def needs_guards(self) -> bool:
        """Whether state and scratch should end at memory that nobody may touch."""
        ...


@runtime_checkable
class StateKeeper(Protocol):
    """A step whose state stays elsewhere, on a device, from one call to the next."""

    def settle(self, fetch: bool = True) -> None:
        """Let go of the state: the next call takes it from its block.

        Args:
            fetch: bring it into its block first.
        """
        ...


@runtime_checkable
class OffersDoorbell(Protocol):
    """A kernel that can stay on its device and wait there for frames."""

    def with_doorbell(self) -> Kernel:
        """The same model, run in this way.

        Raises:
            CapabilityError: the artifact or the device lacks something for it.
        """
        ...


class Engine(Protocol):
    """Turns an artifact's content into a kernel."""

    def expect_machine(self) -> None:
        """Check that this machine can run code of this engine at all.

        Raises:
            TargetUnavailableError: it cannot; the message says what is missing.
        """
        ...

    def describe(self, container: Container, signature: Signature) -> Mapping[str, str]:
        """The facts that the kernel would have, without executing or mapping anything of the file.

        Raises:
            TargetUnavailableError, ArtifactFormatError: as `load`.
        """
        ...

    def load(self, container: Container, signature: Signature) -> Kernel:
        """Make a model ready to run here: compiled code is mapped executable now, not before.

        Raises:
            TargetUnavailableError: this machine cannot run it; the message says what is missing.
            ArtifactFormatError: the content is not what the engine expects.
        """
        ...
