"""The C header of a compiled model."""

from __future__ import annotations

from edgelstm.admission import return_codes
from edgelstm.dtypes import DType
from edgelstm.sessions import mode_of
from edgelstm.signature import TensorSpec
from edgelstm_compiler.ir.program import ALIGNMENT, Program
from edgelstm_compiler.templates import fill


def c_header(program: Program) -> str:
    """Sizes, and the functions with what they expect and return."""
    signature = program.signature
    name = signature.name
    upper = name.upper()
    unit = mode_of(signature.mode).consumes
    sizes = {
        "INPUT_BYTES": signature.input_bytes,
        "OUTPUT_BYTES": signature.output_bytes,
        "WEIGHTS_BYTES": len(program.weights),
        "STATE_BYTES": len(program.state_init),
        "SCRATCH_BYTES": program.scratch_bytes,
        "ALIGNMENT": ALIGNMENT,
    }
    macros = "\n".join(f"#define {upper}_{key} {value}" for key, value in sizes.items())
    codes = "\n   ".join(return_codes(signature))
    rate = f" at {signature.rate_hz:g} Hz" if signature.rate_hz else ""
    return fill(
        __package__,
        "model.h",
        name=name,
        upper=upper,
        unit=unit,
        rate=rate,
        macros=macros,
        input_bytes=signature.input_bytes,
        output_bytes=signature.output_bytes,
        inputs=_table(signature.inputs),
        outputs=_table(signature.outputs),
        alignment=ALIGNMENT,
        codes=codes,
    )


def _table(specs: tuple[TensorSpec, ...]) -> str:
    return "\n".join(f"     {_line(spec)}" for spec in specs) or "     nothing"


def _line(spec: TensorSpec) -> str:
    shape = "".join(f"[{extent}]" for extent in spec.shape)
    note = f", {spec.unit}" if spec.unit else ""
    if spec.stride != 1:
        note += f", one in {spec.stride} frames"
    if spec.delay:
        note += f", {spec.delay} frames late"
    if spec.dtype is DType.F16:
        note += ", half precision bits"
    if spec.dtype is DType.BF16:
        note += ", bfloat16 bits"
    return f"+{spec.offset_bytes:<8} {spec.dtype.c_name} {_printable(spec.name)}{shape}{note}"


def _printable(text: str) -> str:
    """A name that cannot end the comment it stands in."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("*/", "* /")
