"""The header of an exported model: sizes, types, functions, and what the values mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgelstm.admission import return_codes
from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.engines.base import MOST_BITS
from edgelstm.memory import ALIGNMENT
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.c_export.chunk import chunk_declaration, frame_macros
from edgelstm_compiler.c_export.integer_io import IntegerTensor, integer_tensors, where_floats_are
from edgelstm_compiler.c_export.names import comment, identifiers
from edgelstm_compiler.c_export.windows import (
    block_sizes,
    window_declarations,
    window_macros,
    window_types,
)
from edgelstm_compiler.streaming.modes import compile_mode
from edgelstm_compiler.templates import fill


def public_header(artifact: Artifact, isa: str, checksum: int, meanings: Mapping[str, str]) -> str:
    """NAME.h.

    Args:
        artifact: the model.
        isa: the instruction set that is exported.
        checksum: CRC-32 of its weights.
        meanings: what inputs and outputs mean, in the user's words, by name.
    """
    signature, memory = artifact.signature, artifact.manifest["memory"]
    name = signature.name
    upper = name.upper()
    blocks = block_sizes(artifact)
    sizes: dict[str, object] = {
        "INPUT_BYTES": signature.input_bytes,
        "OUTPUT_BYTES": signature.output_bytes,
        "WEIGHTS_BYTES": memory["weights_bytes"],
        "STATE_BYTES": blocks["state"],
        "SCRATCH_BYTES": blocks["scratch"],
        "ALIGNMENT": ALIGNMENT,
        "WEIGHTS_CRC32": f"0x{checksum:08x}u",
    }
    if signature.window is not None:
        sizes |= window_macros(artifact)
    macros = "\n".join(f"#define {upper}_{key} {value}" for key, value in sizes.items())
    found = integer_tensors(artifact)
    return fill(
        __package__,
        "model.h",
        name=name,
        upper=upper,
        version=artifact.manifest["edgelstm"],
        isa=isa,
        time=compile_mode(signature.mode).about_time(signature),
        floats=where_floats_are(artifact).value,
        macros=macros,
        timing=_time_macros(signature),
        more=_more(artifact),
        state_offsets=_state_macros(signature),
        scales=_integer_macros(signature, found),
        alignment=ALIGNMENT,
        types="\n\n".join(_types(artifact, found, meanings)),
        refusal=_refusal(signature),
    )


def _types(
    artifact: Artifact, found: Mapping[str, IntegerTensor], meanings: Mapping[str, str]
) -> list[str]:
    """The C types of the four blocks; those of windows hold outputs, and come behind them."""
    signature = artifact.signature
    values = [_struct(kind, signature, found, meanings) for kind in ("input", "output")]
    if signature.window is not None:
        return [*values, *window_types(artifact)]
    name, sizes = signature.name, block_sizes(artifact)
    state = _block_type("state", name, sizes["state"], "What is carried from step to step.")
    scratch = _block_type("scratch", name, sizes["scratch"], "Working memory of a step.")
    return [state, scratch, *values]


def _more(artifact: Artifact) -> str:
    """The functions beside the step."""
    signature, name = artifact.signature, artifact.name
    if signature.window is not None:
        return window_declarations(artifact)
    run = fill(__package__, "run.h", name=name, indent=" " * len(f"int32_t {name}_run("))
    return run + chunk_declaration(signature) + _finish(signature)


def _refusal(signature: Signature) -> str:
    return "\n   ".join(return_codes(signature))


def _block_type(kind: str, name: str, size: int, says: str) -> str:
    return fill(
        __package__,
        "block_type.h",
        says=says,
        size=max(size, 1),
        upper=name.upper(),
        name=name,
        kind=kind,
    )


def _time_macros(signature: Signature) -> str:
    """When each output is new."""
    upper = signature.name.upper()
    takes = f"{signature.name}_chunk" if signature.chunk > 1 else "a step"
    lines = [
        f"/* FRAMES: that {takes} takes. TAIL: steps behind the last frame in which something",
        "   comes. Of each output: its BIT in what a step returns, frames from one value to the",
        "   next (STRIDE), and frames by which it is late (DELAY). */",
        *frame_macros(signature),
        f"#define {upper}_TAIL {signature.tail}",
    ]
    fields = identifiers(spec.name for spec in signature.outputs)
    for index, (field, spec) in enumerate(zip(fields, signature.outputs, strict=True)):
        name = f"{upper}_{field.upper()}"
        if index < MOST_BITS:
            lines.append(f"#define {name}_BIT {index}")
        lines += [f"#define {name}_STRIDE {spec.stride}", f"#define {name}_DELAY {spec.delay}"]
    return "\n".join([*lines, ""])


def _finish(signature: Signature) -> str:
    if not signature.tail:
        return ""
    name = signature.name
    return fill(
        __package__,
        "finish.h",
        name=name,
        upper=name.upper(),
        indent=" " * len(f"int32_t {name}_finish("),
    )


def _state_macros(signature: Signature) -> str:
    """Where each state stands in the block, for a caller who sets one between two steps."""
    if not signature.states or signature.window is not None:
        return ""
    upper = signature.name.upper()
    lines = ["", "/* Where the states stand in the state block, to be set after a reset. */"]
    fields = identifiers(spec.name for spec in signature.states)
    for field, spec in zip(fields, signature.states, strict=True):
        shape = "".join(f"[{extent}]" for extent in spec.shape)
        lines.append(
            f"#define {upper}_STATE_{field.upper()}_OFFSET {spec.offset_bytes} "
            f"/* {spec.dtype.c_name}{shape} '{comment(spec.name)}' */"
        )
    return "\n".join([*lines, ""])


def _integer_macros(signature: Signature, found: Mapping[str, IntegerTensor]) -> str:
    """Scales and zero points of what is handed over in integers."""
    if not found:
        return ""
    upper = signature.name.upper()
    lines = [
        "",
        "/* Inputs and outputs in integers: value = (number - ZERO_POINT) * scale + offset.",
        "   SCALES are one for all elements or one of each along the last axis, as an initializer.",
        "   So are OFFSETS; without them they are 0. */",
    ]
    for specs in (signature.inputs, signature.outputs):
        fields = identifiers(spec.name for spec in specs)
        for field, spec in zip(fields, specs, strict=True):
            if spec.name in found:
                tensor = found[spec.name]
                scales = ", ".join(f"{scale:.9g}f" for scale in tensor.scale)
                name = f"{upper}_{field.upper()}"
                lines.append(f"#define {name}_ZERO_POINT {tensor.zero_point}")
                lines.append(f"#define {name}_SCALES {{{scales}}}")
                if tensor.offset:
                    offsets = ", ".join(f"{offset:.9g}f" for offset in tensor.offset)
                    lines.append(f"#define {name}_OFFSETS {{{offsets}}}")
    return "\n".join([*lines, ""])


def _struct(
    kind: str, signature: Signature, found: Mapping[str, IntegerTensor], meanings: Mapping[str, str]
) -> str:
    """A C struct with the layout of a block, and the proof that it has its size."""
    name = signature.name
    is_input = kind == "input"
    specs: Sequence[TensorSpec] = signature.inputs if is_input else signature.outputs
    size = signature.input_bytes if is_input else signature.output_bytes
    lines = []
    at = 0
    fields = identifiers(spec.name for spec in specs)
    for field, spec in sorted(
        zip(fields, specs, strict=True), key=lambda pair: pair[1].offset_bytes
    ):
        if spec.offset_bytes > at:
            lines.append(f"    uint8_t gap_{at}[{spec.offset_bytes - at}];")
        extents = "".join(f"[{extent}]" for extent in spec.shape)
        notes = [f"'{comment(spec.name)}'", *_meaning(spec, signature, is_input)]
        if spec.name in meanings:
            notes.append(comment(meanings[spec.name]))
        if spec.name in found:
            notes.append(f"in integers, see {name.upper()}_{field.upper()}_SCALES")
        text = ",\n       ".join(notes)
        lines.append(f"    /* {text} */\n    {spec.dtype.c_name} {field}{extents};")
        at = spec.offset_bytes + spec.nbytes
    if size > at:
        lines.append(f"    uint8_t gap_{at}[{size - at}];")
    return fill(
        __package__,
        "value_type.h",
        name=name,
        kind=kind,
        way="goes into" if is_input else "comes out of",
        body="\n".join(lines),
        proof=f"{name}_{kind}_has_its_size",
        wanted=f"{name.upper()}_{kind.upper()}_BYTES",
    )


def _meaning(spec: TensorSpec, signature: Signature, is_input: bool) -> list[str]:
    notes = []
    if spec.unit:
        notes.append(f"in {comment(spec.unit)}")
    if spec.dtype is DType.F16:
        notes.append("half precision bits")
    if spec.dtype is DType.BF16:
        notes.append("bfloat16 bits")
    if not is_input:
        notes += compile_mode(signature.mode).about_output(signature, signature.outputs.index(spec))
    return notes
