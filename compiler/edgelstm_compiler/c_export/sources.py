"""The C sources of an exported model: first state, checksum, self-test, example."""

from __future__ import annotations

from edgelstm.artifact import STATE_SECTION, Artifact
from edgelstm.engines.base import MOST_BITS
from edgelstm.signature import CLOCK, END, NO_END, Signature, TensorSpec
from edgelstm_compiler.c_export.chunk import chunk_source
from edgelstm_compiler.c_export.golden import Golden
from edgelstm_compiler.c_export.names import identifiers, word_count, words
from edgelstm_compiler.c_export.windows import window_source
from edgelstm_compiler.templates import fill

_NO_STATE = "    (void)state;"


def model_source(artifact: Artifact) -> str:
    """NAME.c: first state and checksum."""
    name, upper = artifact.name, artifact.name.upper()
    first = bytes(artifact.container.section(STATE_SECTION))
    table, value = "", "0"
    if any(first):
        table = fill(__package__, "first_state.c", count=word_count(len(first)), words=words(first))
        value = "(uint8_t)(first_state[i / 4] >> (8 * (i % 4)))"
    if artifact.signature.window is not None:
        functions = window_source(artifact, value)
    else:
        reset = fill(__package__, "reset.c", upper=upper, value=value) if first else _NO_STATE
        begin = fill(__package__, "begin.c", name=name, reset=reset)
        functions = begin + chunk_source(artifact.signature) + _finish(artifact)
    return fill(__package__, "model.c", name=name, upper=upper, table=table, functions=functions)


def _is_new(index: int) -> str:
    return f"((new >> {index}) & 1) && " if index < MOST_BITS else ""


def _finish(artifact: Artifact) -> str:
    """NAME_finish, of models in which something comes behind the last frame."""
    signature = artifact.signature
    if not signature.tail:
        return ""
    places = {spec.name: spec.offset_bytes for spec in signature.states}
    return fill(
        __package__,
        "finish.c",
        name=artifact.name,
        clock=places[CLOCK],
        end=places[END],
        unknown=NO_END,
    )


def selftest_source(artifact: Artifact, golden: Golden) -> str:
    """NAME_selftest.c: known inputs and outputs, and the comparison."""
    name, upper = artifact.name, artifact.name.upper()
    signature = artifact.signature
    fields = identifiers(spec.name for spec in signature.outputs)
    checks = "\n".join(
        _check(index, field, spec)
        for index, (field, spec) in enumerate(zip(fields, signature.outputs, strict=True))
    )
    compares = sorted({spec.dtype.c_name for spec in signature.outputs})
    functions = "\n".join(_compare(kind, golden.tolerance) for kind in compares)
    is_near = any(_is_near(kind, golden.tolerance) for kind in compares)
    include = "#include <string.h>\n\n" if is_near else ""
    outputs, due, silent = golden.outputs, "", ""
    if signature.window is not None:
        outputs = _answers(golden, signature)
        due = f", due = {upper}_WINDOW - 1"
        silent = fill(__package__, "selftest_window.c", upper=upper)
    agreement = (
        f"Floats may differ by {golden.tolerance:g}, times their magnitude where that exceeds 1."
        if is_near
        else "Every bit must be equal."
    )
    return fill(
        __package__,
        "selftest.c",
        name=name,
        upper=upper,
        steps=golden.steps,
        origin=golden.origin,
        agreement=agreement,
        include=include,
        input_count=word_count(len(golden.inputs)),
        inputs=words(golden.inputs),
        output_count=word_count(len(outputs)),
        outputs=words(outputs),
        functions=functions,
        due=due,
        silent=silent,
        checks=checks,
    )


def _answers(golden: Golden, signature: Signature) -> bytes:
    """The output blocks of the steps that close a window."""
    plan, size = signature.window, signature.output_bytes
    assert plan is not None
    closing = range(plan.frames - 1, golden.steps, plan.hop)
    return b"".join(golden.outputs[step * size : (step + 1) * size] for step in closing)


def example_source(artifact: Artifact) -> str:
    """example/main.c: the self-test, and two streams side by side."""
    return fill(__package__, "example.c", name=artifact.name)


def _check(index: int, field: str, spec: TensorSpec) -> str:
    start = f"&out.{field}" + "[0]" * len(spec.shape)
    count = spec.nbytes // spec.dtype.itemsize
    wanted = f"expected + {spec.offset_bytes}"
    return (
        f"        if ({_is_new(index)}!equal_{spec.dtype.c_name}({start}, {wanted}, {count})) {{\n"
        f"            return 1 + step;\n        }}"
    )


def _compare(kind: str, tolerance: float) -> str:
    """A function that compares outputs of one type; bit for bit where the tolerance is 0."""
    if not _is_near(kind, tolerance):
        return fill(__package__, "compare_bits.c", kind=kind)
    bound = f"{tolerance:g}{'f' if kind == 'float' else ''}"
    return fill(__package__, "compare_near.c", kind=kind, bound=bound)


def _is_near(kind: str, tolerance: float) -> bool:
    return kind in ("float", "double") and tolerance > 0
