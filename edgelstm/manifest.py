"""The manifest of an artifact with every part read, typed and within limits.

`Artifact` keeps the JSON object beside it, for parts that are only shown. What is read here at load
cannot surprise anybody later: a manifest that passes has the right type wherever the runtime, the
commands and the compiler look. Keys that are not known are left alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgelstm.dtypes import DType
from edgelstm.fields import Fields
from edgelstm.signature import LARGEST_BLOCK_BYTES, THERE, Signature, StateSpec, TensorSpec

_HASH = "[0-9a-f]{64}"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_QUANTIZATION_PARTS = (
    "scheme", "options", "calibration", "layers", "borders", "search", "max_error", "outputs",
)  # fmt: skip
"""What every record has had since there are any."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Sizes of the blocks, see `artifact.py`."""

    weights_bytes: int
    state_bytes: int
    scratch_bytes: int


@dataclass(frozen=True, slots=True)
class Isa:
    """What the manifest says of the code for one instruction set."""

    section: str
    requires: tuple[str, ...]
    cpu: str
    is_bare: bool
    text_bytes: int
    rodata_bytes: int
    data_bytes: int
    stack_bytes: int | None


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """Who made the code, and what the code says of itself."""

    name: str
    engine: str
    options: Mapping[str, Any]
    isas: tuple[Isa, ...]
    has_kernels: bool


@dataclass(frozen=True, slots=True)
class Source:
    """The ONNX model."""

    sha256: str
    file: str
    producer: str
    opset: int | None


@dataclass(frozen=True, slots=True)
class Check:
    """The self-check."""

    done: bool
    against: str
    max_error: float | None
    tolerance: float | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, for people."""

    name: str
    kind: str
    params: int
    macs: int


@dataclass(frozen=True, slots=True)
class ScaledTensor:
    """What integers mean: (q - zero_point) * scale."""

    name: str
    scale: tuple[float, ...]
    zero_point: int


@dataclass(frozen=True, slots=True)
class Quantization:
    """The record of the quantization, as far as others than its room read it.

    Args:
        schemes: by name of the layer.
        integer_tensors: inputs and outputs in integers.
        states: states in integers.
        is_exact: every processor computes the same bits; None: the record does not say.
        float_operators: what computes in floating point all the same.
    """

    schemes: Mapping[str, str]
    integer_tensors: tuple[ScaledTensor, ...]
    states: tuple[ScaledTensor, ...]
    is_exact: bool | None
    float_operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All parts."""

    signature: Signature
    target: TargetRecord
    memory: Memory
    source: Source
    check: Check
    macs: int
    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    quantization: Quantization | None
    identity: str | None
    packages: Mapping[str, str]


def read_manifest(data: Any) -> Manifest:
    """Read a manifest.

    Raises:
        ArtifactFormatError: a part is missing, has another type, or lies beyond its limits.
    """
    fields = Fields(data)
    fields.text("edgelstm")
    fields.texts("warnings")
    if "window" in fields:
        fields.object("window").optional_count("frames")
    signature = Signature.from_json(fields.object("signature"))
    options = fields.object("options")
    options.text("mode", "")
    shapes = options.optional("shapes")
    fields.items("layers")
    has_identity = "identity" in fields.data
    packages = fields.optional("provenance").optional("packages")
    quantization = (
        _quantization(fields.object("quantization"), signature)
        if "quantization" in fields.data
        else None
    )
    return Manifest(
        signature=_scaled(signature, quantization),
        target=_target(fields.object("target")),
        memory=_memory(fields.object("memory")),
        source=_source(fields.object("source")),
        check=_check(fields.object("check")),
        macs=fields.count("macs"),
        layers=tuple(_layer(each) for each in fields.objects("layers")),
        shapes={name: shapes.shape(name) for name in shapes.data},
        quantization=quantization,
        identity=(
            fields.matching("identity", _HASH, "a SHA-256 in hexadecimal") if has_identity else None
        ),
        packages={name: packages.text(name) for name in packages.data},
    )


def _scaled(signature: Signature, quantization: Quantization | None) -> Signature:
    """The signature, whose states say at which scale integers carry them."""
    scales = {each.name: each.scale[0] for each in quantization.states} if quantization else {}
    if not scales:
        return signature
    states = (replace(spec, scale=scales.get(spec.name)) for spec in signature.states)
    return replace(signature, states=tuple(states))


def contradictions(manifest: Manifest, section_of: Callable[[str], memoryview]) -> list[str]:
    """What native code relies on and does not hold, in words.

    Args:
        manifest: well-formed.
        section_of: gives the bytes of a section by name.
    """
    return [
        *_memory_faults(section_of, manifest.memory),
        *_signature_faults(manifest.signature.of_kernel, manifest.memory),
        *(_window_faults(manifest.signature) if manifest.signature.window is not None else ()),
        *(
            _lookahead_faults(manifest.signature)
            if manifest.signature.lookahead is not None
            else ()
        ),
    ]


def _memory(fields: Fields) -> Memory:
    return Memory(
        *(
            fields.count(name, most=LARGEST_BLOCK_BYTES)
            for name in ("weights_bytes", "state_bytes", "scratch_bytes")
        )
    )


def _target(fields: Fields) -> TargetRecord:
    facts = fields.object("facts")
    for name in ("linker", "tvm"):
        facts.text(name, "")
    return TargetRecord(
        name=fields.text("name"),
        engine=fields.text("engine"),
        options=fields.object("options").data,
        isas=tuple(_isa(each) for each in facts.objects("isas")),
        has_kernels=any(_expect_kernel(each) for each in facts.objects("kernels")),
    )


def _isa(fields: Fields) -> Isa:
    return Isa(
        section=fields.text("section"),
        requires=fields.texts("requires"),
        cpu=fields.text("cpu", ""),
        is_bare=fields.flag("bare", False),
        text_bytes=fields.count("text_bytes", 0),
        rodata_bytes=fields.count("rodata_bytes", 0),
        data_bytes=fields.count("data_bytes", 0),
        stack_bytes=fields.optional_count("stack_bytes"),
    )


def _expect_kernel(fields: Fields) -> bool:
    """Check what is shown of a kernel for GPUs; what is started is read by its engine."""
    for name in ("section", "form", "shape", "streams"):
        fields.text(name)
    fields.text("why", "")
    capability = fields.counts("capability")
    if len(capability) != 2:
        fields.refuse("capability", "two numbers")
    for name in ("group", "team", "threads", "registers", "shared_bytes"):
        fields.optional_count(name)
    for name in ("above", "cycles"):
        fields.optional_number(name)
    return True


def _source(fields: Fields) -> Source:
    return Source(
        sha256=fields.matching("sha256", f"({_HASH})?", "a SHA-256 in hexadecimal"),
        file=fields.text("file"),
        producer=fields.text("producer", ""),
        opset=fields.optional_count("opset"),
    )


def _check(fields: Fields) -> Check:
    fields.text("emulated_by", "")
    fields.optional("domains")
    if "lengths" in fields:
        fields.counts("lengths")
    return Check(
        done=fields.flag("done"),
        against=fields.text("against") if "against" in fields else "",
        max_error=fields.optional_number("max_error"),
        tolerance=fields.optional_number("tolerance"),
    )


def _layer(fields: Fields) -> Layer:
    for name in ("origin", "input", "output"):
        fields.text(name, "")
    return Layer(
        name=fields.text("name", ""),
        kind=fields.text("kind", ""),
        params=fields.count("params", 0),
        macs=fields.count("macs", 0),
    )


def _quantization(fields: Fields, signature: Signature) -> Quantization:
    for name in _QUANTIZATION_PARTS:
        if name not in fields.data:
            fields.refuse(name, "a value, or null")
    fields.object("options").text("observer", "")
    fields.text("scheme")
    if "calibration" in fields:
        fields.object("calibration")
    fields.object("outputs")
    fields.optional_number("max_error")
    fields.items("layers")
    is_exact = fields.flag("exact") if "exact" in fields else None
    list(fields.objects("search"))
    tensors = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    states = {spec.name for spec in signature.states}
    integer_tensors = []
    for each in fields.objects("borders"):
        tensor = ScaledTensor(each.text("name"), each.numbers("scale"), _zero_point(each))
        if tensor.name not in tensors:
            each.refuse("name", "an input or output")
        if len(tensor.scale) not in _channels(tensors[tensor.name]) or min(tensor.scale) <= 0:
            each.refuse("scale", "one positive number, or one by channel")
        offsets = len(each.numbers("offset")) if "offset" in each.data else 0
        if offsets not in (0, *_channels(tensors[tensor.name])):
            each.refuse("offset", "none, one number, or one by channel")
        integer_tensors.append(tensor)
    carried = []
    for each in fields.objects("states"):
        state = ScaledTensor(each.text("name"), (each.number("scale"),), _zero_point(each))
        if state.name not in states:
            each.refuse("name", "a state")
        if state.scale[0] <= 0:
            each.refuse("scale", "a positive number")
        carried.append(state)
    return Quantization(
        schemes=dict(_scheme(each) for each in fields.objects("layers")),
        integer_tensors=tuple(integer_tensors),
        states=tuple(carried),
        is_exact=is_exact,
        float_operators=fields.texts("float_operators"),
    )


def _scheme(fields: Fields) -> tuple[str, str]:
    """Name and scheme of a layer; what else reports show of it is checked."""
    for name in ("origin", "kind"):
        fields.text(name, "")
    for name in ("bytes_before", "bytes_after"):
        fields.count(name, 0)
    for name in ("weight_sqnr_db", "output_sqnr_db"):
        fields.optional_number(name)
    return fields.text("name"), fields.text("scheme")


def _zero_point(fields: Fields) -> int:
    return fields.integer("zero_point", -(1 << 31), (1 << 31) - 1, 0)


def _channels(spec: TensorSpec) -> tuple[int, ...]:
    return (1, *spec.shape[-1:])


def _memory_faults(section_of: Callable[[str], memoryview], memory: Memory) -> list[str]:
    sizes = {"weights": memory.weights_bytes, "state_init": memory.state_bytes}
    return [
        f"section {section!r} has {len(section_of(section))} bytes instead of {expected}"
        for section, expected in sizes.items()
        if len(section_of(section)) != expected
    ]


def _window_faults(signature: Signature) -> list[str]:
    """Where the frames of a window model do not fill what its code takes, or its answers differ."""
    plan = signature.window
    assert plan is not None
    faults = []
    for kind, ours, inner in (
        ("input", signature.inputs, plan.kernel.inputs),
        ("output", signature.outputs, plan.kernel.outputs),
    ):
        if [(spec.name, spec.dtype) for spec in ours] != [(s.name, s.dtype) for s in inner]:
            faults.append(f"the {kind}s of the windows are not those of the code")
            continue
        for spec, code in zip(ours, inner, strict=True):
            frames = 1
            if kind == "input" and not plan.kernel.states and spec.time_axis is not None:
                frames = plan.frames
            if math.prod(spec.shape) * frames != math.prod(code.shape):
                faults.append(f"{kind} {spec.name!r} does not fill what the code takes")
    return faults


def _lookahead_faults(signature: Signature) -> list[str]:
    """Where the frames of a look-ahead model do not fill the chunks that its code takes."""
    plan = signature.lookahead
    assert plan is not None
    faults = []
    for kind, ours, inner, frames in (
        ("input", signature.inputs, plan.kernel.inputs, plan.span),
        ("output", signature.outputs, plan.kernel.outputs, plan.chunk),
    ):
        if [(spec.name, spec.dtype) for spec in ours] != [(s.name, s.dtype) for s in inner]:
            faults.append(f"the {kind}s of the look-ahead are not those of the code")
            continue
        for spec, code in zip(ours, inner, strict=True):
            axis = code.chunk_axis
            is_held = kind == "input" and axis is None and spec.time_axis is None
            chunk = spec.shape if axis is None else _inserted(spec.shape, axis, frames)
            if chunk != code.shape or (axis is None and not is_held):
                faults.append(f"{kind} {spec.name!r} does not fill what the code takes")
    there = [spec for spec in plan.kernel.states if spec.name == THERE]
    if len(there) != 1 or there[0].dtype is not DType.I32:
        faults.append(f"the code of the look-ahead has no state {THERE!r}")
    if not {s.name for s in signature.states} <= {s.name for s in plan.kernel.states}:
        faults.append("the states of the look-ahead are not those of the code")
    return faults


def _inserted(shape: tuple[int, ...], axis: int, extent: int) -> tuple[int, ...]:
    return (*shape[:axis], extent, *shape[axis:])


def _signature_faults(signature: Signature, memory: Memory) -> list[str]:
    faults = []
    if not _IDENTIFIER.match(signature.name):
        faults.append(f"{signature.name!r} is no C identifier")
    if not signature.inputs or not signature.outputs:
        faults.append("there are no inputs or no outputs")
    blocks: tuple[tuple[str, Sequence[TensorSpec | StateSpec], int], ...] = (
        ("input", signature.inputs, signature.input_bytes),
        ("output", signature.outputs, signature.output_bytes),
        ("state", signature.states, memory.state_bytes),
    )
    for kind, specs, size in blocks:
        if len({spec.name for spec in specs}) != len(specs):
            faults.append(f"two {kind}s have the same name")
        faults += [
            f"{kind} {spec.name!r} stands outside of its block"
            for spec in specs
            if spec.offset_bytes + spec.nbytes > size
        ]
    return faults
