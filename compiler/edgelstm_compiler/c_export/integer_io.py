"""What the numbers at inputs and outputs of a model mean, and where floating point is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.signature import Signature
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.scheme import Scheme

_LOWEST, _HIGHEST = -32768, 32767


class Floats(Enum):
    """Where the exported code computes in floating point."""

    NOWHERE = "Floating point: none at all."
    CONVERSIONS = (
        "Floating point: only where inputs and outputs are converted; in between all is whole\n"
        "   numbers, the same bits on every processor. compile --integer-io leaves these out too."
    )
    THROUGHOUT = "Floating point: throughout, in single precision."


@dataclass(frozen=True, slots=True)
class IntegerTensor:
    """An input or output in integers: value = (number - zero_point) * scale + offset.

    Args:
        scale: of all elements, or one of each along the last axis.
        zero_point: the number that means the offset.
        offset: none (0), or one of each along the last axis.
    """

    scale: tuple[float, ...]
    zero_point: int
    offset: tuple[float, ...] = ()

    def to_numbers(self, values: Array) -> Array:
        """Values in the model's units as the code takes them."""
        moved = values - np.asarray(self.offset or 0.0)
        numbers = np.rint(moved / np.asarray(self.scale)) + self.zero_point
        return np.asarray(np.clip(numbers, _LOWEST, _HIGHEST), np.int16)


def integer_tensors(artifact: Artifact) -> dict[str, IntegerTensor]:
    """Inputs and outputs that are handed over in integers, by name."""
    record = artifact.manifest.get("quantization") or {}
    return {
        str(entry["name"]): IntegerTensor(
            tuple(map(float, entry["scale"])),
            int(entry["zero_point"]),
            tuple(map(float, entry.get("offset", ()))),
        )
        for entry in record.get("borders", [])
    }


def is_exact(artifact: Artifact) -> bool:
    """Whether every processor computes the same bits: integers between inputs and outputs."""
    record = artifact.manifest.get("quantization")
    if record is None:
        return False
    schemes = {layer["scheme"] for layer in record["layers"]}
    check = artifact.manifest["check"]
    if not record.get("exact", True):
        return False  # an operator in front of a layer stays in float32, a Softmax for one
    return schemes == {Scheme.INT8_FULL.value} and not check.get("tolerance")


def where_floats_are(artifact: Artifact) -> Floats:
    """What to tell the user about floating point."""
    if not is_exact(artifact):
        return Floats.THROUGHOUT
    signature = artifact.signature
    specs = (*signature.inputs, *signature.outputs)
    return Floats.CONVERSIONS if any(spec.dtype.is_float for spec in specs) else Floats.NOWHERE


def physical_signature(artifact: Artifact) -> Signature:
    """The signature with float32 for integer inputs and outputs: what recordings hold."""
    found = integer_tensors(artifact)
    inputs = tuple(
        replace(spec, dtype=DType.F32) if spec.name in found else spec
        for spec in artifact.signature.inputs
    )
    return replace(artifact.signature, inputs=inputs)


def to_numbers(artifact: Artifact, frames: Mapping[str, Array]) -> dict[str, Array]:
    """Frames in the model's units as the code takes them."""
    found = integer_tensors(artifact)
    return {
        name: found[name].to_numbers(values) if name in found else values
        for name, values in frames.items()
    }
