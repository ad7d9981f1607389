"""Whether a model fits into the RAM that its device has for it."""

from __future__ import annotations

from edgelstm.artifact import Artifact
from edgelstm.errors import CapabilityError
from edgelstm.footprint import Footprint, footprints
from edgelstm.window_memory import fitting_hop


def expect_ram(artifact: Artifact, ram_bytes: int | None) -> None:
    """Refuse what is too large, with the windows that fit.

    Args:
        artifact: compiled.
        ram_bytes: what the device has for state, scratch and stack; None: nobody says.

    Raises:
        CapabilityError: the model takes more.
    """
    if ram_bytes is None:
        return
    for isa, found in footprints(artifact).items():
        needed = found.ram + (found.stack or 0)
        if needed > ram_bytes:
            raise CapabilityError(
                f"the model takes {needed} bytes of RAM on {isa} ({_parts(found)}), and the device "
                f"has {ram_bytes} for it (--option ram): {_way_out(artifact, found, ram_bytes)}"
            )


def _parts(found: Footprint) -> str:
    state = f"state {found.state}"
    if found.slot:
        state += f" with {found.slots} windows at once, {found.slot} for each"
    return f"{state}; scratch {found.scratch}; stack {found.stack or 'unknown'}"


def _way_out(artifact: Artifact, found: Footprint, ram_bytes: int) -> str:
    signature = artifact.signature
    smaller = "a smaller model, or --quantize int8-full"
    if signature.window is None:
        return smaller
    if not found.slot:
        return f"a shorter window, {smaller}"
    memory = artifact.manifest["memory"]
    hop = fitting_hop(signature, memory, ram_bytes - (found.stack or 0))
    if hop is None:
        return f"no hop fits; {smaller}"
    slots = -(-signature.window.frames // hop)
    return f"--hop {hop} fits, with {slots} window{'s' if slots > 1 else ''} at once"
