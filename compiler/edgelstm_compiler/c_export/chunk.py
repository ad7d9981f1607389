"""The step of several frames in C: its declaration, its macros, its code."""

from __future__ import annotations

from edgelstm.engines.base import MOST_BITS, all_outputs
from edgelstm.sessions.chunks import frames_of_step
from edgelstm.signature import CLOCK, Signature
from edgelstm_compiler.c_export.names import identifiers
from edgelstm_compiler.templates import fill


def chunk_declaration(signature: Signature) -> str:
    """Of NAME_chunk, for the header; nothing where a step takes what the code takes at once."""
    if signature.chunk == 1:
        return ""
    name = signature.name
    indent = " " * len(f"int32_t {name}_chunk(")
    return fill(__package__, "chunk.h", name=name, upper=name.upper(), indent=indent)


def chunk_source(signature: Signature) -> str:
    """NAME_chunk itself."""
    if signature.chunk == 1:
        return ""
    name = signature.name
    return fill(
        __package__,
        "chunk.c",
        name=name,
        upper=name.upper(),
        indent=" " * len(f"int32_t {name}_chunk("),
        news=_news(signature),
    )


def frame_macros(signature: Signature) -> list[str]:
    """How many frames a step takes; of a chunk also where the new rows of each output begin."""
    upper = signature.name.upper()
    lines = [f"#define {upper}_FRAMES {frames_of_step(signature)}"]
    if signature.chunk > 1:
        fields = identifiers(spec.name for spec in signature.outputs)
        lines += [
            f"#define {upper}_{field.upper()}_ROW {spec.delay % spec.stride}"
            for field, spec in zip(fields, signature.outputs, strict=True)
            if spec.time_axis is not None
        ]
    return lines


def _news(signature: Signature) -> str:
    """Statements that return which outputs had something new in a chunk."""
    if not signature.is_late:
        return f"    return {all_outputs(signature)};"
    clock = next(spec.offset_bytes for spec in signature.states if spec.name == CLOCK)
    checks = "\n".join(
        f"        if (steps > {spec.delay if spec.time_axis is not None else spec.warm_up}) "
        f"news |= {1 << index};"
        for index, spec in enumerate(signature.outputs[:MOST_BITS])
    )
    return fill(__package__, "chunk_news.c", clock=clock, checks=checks)
