"""Flash and RAM that a compiled model takes on a microcontroller, to the byte.

What stands in the object code, the weights and the blocks is counted; the three small functions of
the exported NAME.c (init, reset, checksum) are compiled by the user's compiler and are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgelstm.artifact import STATE_SECTION, Artifact
from edgelstm.engines.native import CODE_PREFIX
from edgelstm.window_memory import window_memory


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one instruction set's code with its data.

    Args:
        text: code.
        rodata: constants of the code.
        weights: the weights.
        state_init: the state before the first step; 0 where that is all zeros and needs no copy.
        state: what a stream carries.
        scratch: working memory of a step; steps that do not run at the same time share it.
        stack: the deepest that a step or run goes below its caller; None: not known.
        slots: of windows, how many are open at once; their states stand in `state`.
        slot: RAM that one more of them costs; 0 where their number does not matter.
    """

    text: int
    rodata: int
    weights: int
    state_init: int
    state: int
    scratch: int
    stack: int | None
    slots: int = 0
    slot: int = 0

    @property
    def flash(self) -> int:
        """Everything that is constant."""
        return self.text + self.rodata + self.weights + self.state_init

    @property
    def ram(self) -> int:
        """One stream, without the stack."""
        return self.state + self.scratch

    def to_json(self) -> dict[str, int | None]:
        """The parts, with the sums `flash` and `ram` behind what they sum up."""
        parts = asdict(self)
        keys = ("text", "rodata", "weights", "state_init", "flash", "state", "scratch", "ram")
        of_windows = ("slots", "slot") if self.slots else ()
        sums = {"flash": self.flash, "ram": self.ram}
        return {key: {**parts, **sums}[key] for key in (*keys, "stack", *of_windows)}


def footprint(artifact: Artifact, facts: Mapping[str, Any]) -> Footprint:
    """Of one instruction set.

    Args:
        artifact: the model.
        facts: its entry in the manifest's `target.facts.isas`.
    """
    memory = artifact.manifest["memory"]
    first = bytes(artifact.container.section(STATE_SECTION))
    stack = facts.get("stack_bytes")
    state, scratch, slots, slot = memory["state_bytes"], memory["scratch_bytes"], 0, 0
    if artifact.signature.window is not None:
        windows = window_memory(artifact.signature, memory)
        state, scratch = windows.state_bytes, windows.scratch_bytes
        slots, slot = windows.slots, windows.bytes_per_slot
    return Footprint(
        text=int(facts.get("text_bytes", 0)),
        rodata=int(facts.get("rodata_bytes", 0)) + int(facts.get("data_bytes", 0)),
        weights=memory["weights_bytes"],
        state_init=len(first) if any(first) else 0,
        state=state,
        scratch=scratch,
        stack=None if stack is None else int(stack),
        slots=slots,
        slot=slot,
    )


def footprints(artifact: Artifact) -> dict[str, Footprint]:
    """Of every instruction set for processors without an operating system, by name."""
    entries = artifact.manifest["target"].get("facts", {}).get("isas") or []
    return {
        str(entry["section"]).removeprefix(CODE_PREFIX): footprint(artifact, entry)
        for entry in entries
        if entry.get("bare")
    }
