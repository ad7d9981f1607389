"""The agent in C: lets `edgelstm validate` step an exported model over a serial line."""

from __future__ import annotations

from edgelstm.artifact import Artifact
from edgelstm.remote.frames import SYNC, VERSION, Fault, Kind
from edgelstm_compiler.c_export.names import comment
from edgelstm_compiler.templates import fill

_FAULTS = (Fault.GARBLED, Fault.UNKNOWN, Fault.LENGTH)


def agent_header(artifact: Artifact) -> str:
    """NAME_agent.h."""
    name = artifact.name
    guard = f"EDGELSTM_{name.upper()}_AGENT_H"
    return fill(__package__, "agent.h", name=name, guard=guard)


def agent_source(artifact: Artifact) -> str:
    """NAME_agent.c."""
    kinds = [f"#define KIND_{kind.name} {kind.value:#04x}u" for kind in Kind if kind != Kind.LOAD]
    faults = [f"#define FAULT_{fault.name} {fault.value}u" for fault in _FAULTS]
    return fill(
        __package__,
        "agent.c",
        name=comment(artifact.name),
        upper=artifact.name.upper(),
        version=VERSION,
        first=f"0x{SYNC[0]:02x}",
        second=f"0x{SYNC[1]:02x}",
        codes="\n".join([*kinds, *faults]),
    )


def agent_example(artifact: Artifact) -> str:
    """example/agent.c: the agent on a POSIX system, on a serial line or on stdin and stdout."""
    return fill(__package__, "agent_example.c", name=artifact.name)
