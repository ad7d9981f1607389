"""What `bench --emulate` shows: instructions of a step for every instruction set of an artifact."""

from __future__ import annotations

from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.engines.native import CODE_PREFIX
from edgelstm_compiler.emulation.kernel import count_cost
from edgelstm_compiler.emulation.machine import emulator_version


def count_instructions(artifact: Artifact) -> dict[str, Any]:
    """A JSON object: emulator, and for every instruction set instructions a step and a MAC.

    Raises:
        TargetUnavailableError: Unicorn is missing, or cannot run this code.
    """
    entries = artifact.manifest["target"]["facts"].get("isas", [])
    found = [str(entry["section"]).removeprefix(CODE_PREFIX) for entry in entries]
    names: list[str | None] = [*found] or [None]
    return {
        "artifact": artifact.name,
        "mode": artifact.signature.mode,
        "emulator": emulator_version(),
        "macs": artifact.manifest["macs"],
        "isas": [{"isa": name, **count_cost(artifact, name).to_json()} for name in names],
    }
