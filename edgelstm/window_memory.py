"""RAM of a window model in exported C: its state and scratch blocks, to the byte.

The C structs that have these sizes are in `edgelstm_compiler/c_export/templates/window_*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.memory import ALIGNMENT
from edgelstm.signature import Signature, WindowPlan

_COUNTERS_BYTES = 3 * 8 + 4 * 4
"""Three frame numbers of 64 bits; the next slot, place and number of kept answers, and a gap."""


@dataclass(frozen=True, slots=True)
class WindowMemory:
    """What a window model carries on a device.

    Args:
        slots: windows that are open at once.
        slot_bytes: the state of one of them; 0 where a window is computed as a whole.
        frames_bytes: the frames of one window, where it is computed as a whole; else 0.
        answers_bytes: the newest answers, for smoothing.
        kept_bytes: copies of all slots, of models whose step may have to be undone.
        kernel_bytes: working memory of the kernel.
        output_bytes: the kernel's outputs before its window closes.
    """

    slots: int
    slot_bytes: int
    frames_bytes: int
    answers_bytes: int
    kept_bytes: int
    kernel_bytes: int
    output_bytes: int

    @property
    def windows_bytes(self) -> int:
        """All slots, or the frames."""
        return self.slots * self.slot_bytes + self.frames_bytes

    @property
    def state_bytes(self) -> int:
        """What is carried from frame to frame."""
        return _align(self.windows_bytes + _COUNTERS_BYTES + self.answers_bytes)

    @property
    def scratch_bytes(self) -> int:
        """Working memory of a step."""
        return _align(self.kernel_bytes + self.kept_bytes + self.output_bytes)

    @property
    def ram_bytes(self) -> int:
        """Both."""
        return self.state_bytes + self.scratch_bytes

    @property
    def bytes_per_slot(self) -> int:
        """RAM that one more window at once costs; 0 where the number of windows does not matter."""
        return self.slot_bytes * (2 if self.kept_bytes else 1)


def window_memory(signature: Signature, memory: Mapping[str, Any], hop: int = 0) -> WindowMemory:
    """The blocks of a window model.

    Args:
        signature: of the window model.
        memory: bytes of the kernel's blocks, the manifest's `memory`.
        hop: another one than the model's.
    """
    plan = signature.window
    assert plan is not None
    slots = plan.slots if hop == 0 else -(-plan.frames // hop)
    is_stepped = steps_windows(plan)
    slot = _align(int(memory["state_bytes"])) if is_stepped else 0
    return WindowMemory(
        slots=slots,
        slot_bytes=slot,
        frames_bytes=0 if is_stepped else _align(plan.kernel.input_bytes),
        answers_bytes=plan.smoothed * signature.output_bytes if plan.smoothing else 0,
        kept_bytes=slots * slot if plan.kernel.checks_states else 0,
        kernel_bytes=_align(int(memory["scratch_bytes"])),
        output_bytes=signature.output_bytes,
    )


def steps_windows(plan: WindowPlan) -> bool:
    """Whether each open window is stepped with every frame; else it is computed as a whole."""
    return bool(plan.kernel.states)


def fitting_hop(signature: Signature, memory: Mapping[str, Any], ram_bytes: int) -> int | None:
    """The shortest hop whose windows take no more RAM than that; None: there is none."""
    plan = signature.window
    assert plan is not None
    for slots in range(plan.frames, 0, -1):
        hop = -(-plan.frames // slots)
        if window_memory(signature, memory, hop).ram_bytes <= ram_bytes:
            return hop
    return None


def _align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
