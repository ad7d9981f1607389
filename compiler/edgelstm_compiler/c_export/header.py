"""The header of an exported model: sizes, types, functions, and what the values mean."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.memory import ALIGNMENT
from edgelstm.signature import TensorSpec
from edgelstm_compiler.c_export.names import comment, identifiers


def public_header(artifact: Artifact, checksum: int) -> str:
    """NAME.h.

    Args:
        artifact: the model.
        checksum: CRC-32 of its weights.
    """
    signature, memory = artifact.signature, artifact.manifest["memory"]
    name = signature.name
    upper = name.upper()
    is_stream = signature.mode == "stream"
    unit = "frame" if is_stream else "call"
    sizes = {
        "INPUT_BYTES": signature.input_bytes,
        "OUTPUT_BYTES": signature.output_bytes,
        "WEIGHTS_BYTES": memory["weights_bytes"],
        "STATE_BYTES": memory["state_bytes"],
        "SCRATCH_BYTES": memory["scratch_bytes"],
        "ALIGNMENT": ALIGNMENT,
        "WEIGHTS_CRC32": f"0x{checksum:08x}u",
    }
    macros = "\n".join(f"#define {upper}_{key} {value}" for key, value in sizes.items())
    rate = f"\n   Sampling rate: {signature.rate_hz:g} Hz." if signature.rate_hz else ""
    rate += "\n   The state carries from step to step." if is_stream else ""
    return f"""\
/* {name}: a model compiled by edgelstm; generated, do not edit.
   One step is one {unit}.{rate}

   C99 and C++. No allocation, no library call, no global variable: any number of streams run side
   by side, each with a state of its own; steps that run at the same time need a scratch each.

     static {name}_state state;
     static {name}_scratch scratch;
     {name}_input in;
     {name}_output out;
     {name}_init(&state, &scratch);
     for (;;) {{
         ...fill in...
         if ({name}_step({name}_weights, &state, &scratch, &in, &out) == 0) ...use out...
     }}
*/
#ifndef EDGELSTM_{upper}_H
#define EDGELSTM_{upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{macros}

/* Start of weights, state and scratch: a multiple of {upper}_ALIGNMENT bytes. */
#if defined(__GNUC__) || defined(__clang__)
#define {upper}_ALIGNED __attribute__((aligned({ALIGNMENT})))
#else
#define {upper}_ALIGNED /* tell your compiler or your linker in its own way */
#endif

{_block_type("state", name, memory["state_bytes"], "What is carried from step to step.")}

{_block_type("scratch", name, memory["scratch_bytes"], "Working memory of a step.")}

{_struct("input", name, signature.inputs, signature.input_bytes)}

{_struct("output", name, signature.outputs, signature.output_bytes)}

/* The weights, constant: {name}_weights.c, in flash. */
extern const uint32_t {name}_weights[];

/* Before the first step. */
void {name}_init({name}_state *state, {name}_scratch *scratch);

/* Begin a new stream. */
void {name}_reset({name}_state *state);

/* One step. weights: {name}_weights, or a copy of it elsewhere (in RAM, say).
   state, scratch: a {name}_state and a {name}_scratch; in, out: a {name}_input and a {name}_output.
   Returns 0, or 1 + i if input i holds a NaN or infinity: then nothing was changed. */
int32_t {name}_step(const void *weights, void *state, void *scratch, const void *in, void *out);

/* n_steps steps on arrays of inputs and outputs; all inputs are checked before the first step. */
int32_t {name}_run(const void *weights, void *state, void *scratch, const void *in, void *out,
{" " * len(f"int32_t {name}_run(")}int64_t n_steps);

/* CRC-32 of the weights; {upper}_WEIGHTS_CRC32 if the flash is intact. */
uint32_t {name}_checksum(void);

/* {name}_selftest.c, if you link it: checksum, then known inputs and outputs from a fresh state.
   Uses state and scratch; call {name}_init afterwards.
   Returns 0, -1 if the weights are damaged, or 1 + the first step that is wrong. */
int32_t {name}_selftest({name}_state *state, {name}_scratch *scratch);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _block_type(kind: str, name: str, size: int, says: str) -> str:
    upper = name.upper()
    return f"""\
/* {says} */
typedef struct {{
    uint8_t bytes[{max(size, 1)}];
}} {upper}_ALIGNED {name}_{kind};"""


def _struct(kind: str, name: str, specs: Sequence[TensorSpec], size: int) -> str:
    """A C struct with the layout of a block, and the proof that it has its size."""
    lines = []
    at = 0
    fields = identifiers(spec.name for spec in specs)
    for field, spec in sorted(
        zip(fields, specs, strict=True), key=lambda pair: pair[1].offset_bytes
    ):
        if spec.offset_bytes > at:
            lines.append(f"    uint8_t gap_{at}[{spec.offset_bytes - at}];")
        extents = "".join(f"[{extent}]" for extent in spec.shape)
        lines.append(f"    {spec.dtype.c_name} {field}{extents}; /* {_meaning(spec)} */")
        at = spec.offset_bytes + spec.nbytes
    if size > at:
        lines.append(f"    uint8_t gap_{at}[{size - at}];")
    body = "\n".join(lines)
    proof = f"{name}_{kind}_has_its_size"
    wanted = f"{name.upper()}_{kind.upper()}_BYTES"
    return f"""\
typedef struct {{
{body}
}} {name}_{kind};
typedef char {proof}[sizeof({name}_{kind}) == {wanted} ? 1 : -1];"""


def _meaning(spec: TensorSpec) -> str:
    notes = [f"'{comment(spec.name)}'"]
    if spec.unit:
        notes.append(comment(spec.unit))
    if spec.dtype is DType.F16:
        notes.append("half precision bits")
    if spec.stride != 1:
        notes.append(f"one in {spec.stride} frames")
    if spec.delay:
        notes.append(f"{spec.delay} frames late")
    if spec.warm_up:
        notes.append(f"from frame {spec.warm_up} on")
    return ", ".join(notes)
