"""In what numbers a layer computes, and how its packed weights and the frames meet in words.

A product reads weights in words of 32 bits: `WeightForm` says how many weights a word holds and of
what elements the vector is that it is multiplied with. Where the parts of a unit stand in the
weight blob follows from the layouts of `ir/kernels.py` and `ir/numerics.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.compact import LineCodes
from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_compiler.ir.numerics import K_GROUP
from edgelstm_compiler.ir.ops import IntegerDense, IntegerRecurrent, Storage
from edgelstm_compiler.lowering.compact_layout import CompactForm
from edgelstm_compiler.lowering.layout import Form, Piece
from edgelstm_compiler.lowering.layout import Part as Kind

_PEEPHOLES = 3


class WeightForm(Enum):
    """What a word of weights holds.

    The value: inputs of a word, type of a weight, bytes of an element of the vector, instructions
    for a word.
    """

    F32 = (1, "f32", 4, 1)
    F16 = (2, "f16", 4, 4)  # half, computed with in float32
    I8 = (4, "i8", 4, 12)  # int8, computed with in float32
    I4 = (8, "i8", 4, 24)  # int4, two to a byte, a scale for each quad of 32
    BYTES = (4, "i8", 1, 2)  # dot products of bytes with int8
    PAIRS = (4, "i8", 2, 4)  # of bytes with int16

    @property
    def inputs(self) -> int:
        """Inputs, and so weights, of a word."""
        return self.value[0]

    @property
    def numbers(self) -> int:
        """Registers that a word takes where it is multiplied: float32 weights, or itself."""
        return self.inputs if self.vector_bytes == 4 else 1

    @property
    def stored(self) -> str:
        """Type of a weight."""
        return self.value[1]

    @property
    def element_inputs(self) -> int:
        """Inputs of such an element in the blob."""
        return 2 if self is WeightForm.I4 else 1

    @property
    def vector_bytes(self) -> int:
        """Size of an element of the vector."""
        return self.value[2]

    def chunk(self, words: int) -> int:
        """Inputs that stand together: those of as many words as 16 bytes of the vector are for.

        Those of a scale of their own stand together anyway.
        """
        if self is WeightForm.I4:
            return words * self.inputs
        return min(words * self.inputs, 16 // self.vector_bytes)

    @property
    def instructions(self) -> int:
        """For a word of one gate, roughly."""
        return self.value[3]

    @property
    def is_whole(self) -> bool:
        """Whether sums are whole numbers."""
        return self in (WeightForm.BYTES, WeightForm.PAIRS)

    def words(self, extent: int, lanes: int) -> int:
        """Words that a lane reads at a time: as many as possible without much padding."""
        if self in (WeightForm.F32, WeightForm.I4):
            return 4
        fewest = 2 if self is WeightForm.F16 else 1
        least = _padded(extent, fewest * self.inputs * lanes)
        wide = [n for n in (4, 2) if 8 * _padded(extent, n * self.inputs * lanes) <= 9 * least]
        return max([fewest, *wide])


def _padded(extent: int, grain: int) -> int:
    return -(-extent // grain) * grain


@dataclass(frozen=True, slots=True)
class Full:
    """Weights in float32."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights stored in fewer bits, computed with in float32."""

    form: CompactForm
    """How its weights are packed."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """Scheme int8: products of bytes, sums scaled by row; the rest in float32.

    Args:
        form: how its weights are packed.
        x_dtype: of the quantized frame.
        h_inverse: what h (and r*h) is multiplied with before it is rounded; 0 for dense layers.
    """

    form: CompactForm
    x_dtype: DType
    h_inverse: float = 0.0


@dataclass(frozen=True, slots=True)
class Integer:
    """Scheme int8-full.

    Args:
        form: how its weights are packed.
        op: with the shifts.
        x_dtype: of the frame.
        tables: offset of the tables in the weight blob, or None.
        table_count: how many.
    """

    form: Form
    op: IntegerRecurrent | IntegerDense
    x_dtype: DType
    tables: int | None
    table_count: int


Precision = Full | Stored | Bytes | Integer
FULL = Full()


def weight_form(precision: Precision, source: Source) -> WeightForm:
    """How the weights of a section are read."""
    match precision:
        case Full():
            return WeightForm.F32
        case Stored():
            assert precision.form.storage is not None
            return _STORED[precision.form.storage]
        case _ if source is Source.X and precision.x_dtype is DType.I16:
            return WeightForm.PAIRS
    return WeightForm.BYTES


_STORED = {Storage.F16: WeightForm.F16, Storage.I8: WeightForm.I8, Storage.I4: WeightForm.I4}


@dataclass(frozen=True, slots=True)
class Part:
    """Numbers of each unit of a phase in the packed weights.

    Args:
        offset: of the first unit's, in the blob.
        stride: from unit to unit, in bytes.
        rows: of them.
        dtype: of an element in the blob, as of `Layout.stored`.
        exponent: they are multiplied by 2^exponent.
        image: type in the image, where it is another one.
    """

    offset: int
    stride: int
    rows: int
    dtype: str
    exponent: int = 0
    image: str | None = None

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return ITEMS[self.dtype]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Weights of consecutive inputs: [groups][group][gate] of each unit.

    Args:
        offset: of the first unit's, in the blob.
        counts: groups, and inputs of a group.
        strides: from group to group, from input to input, from gate to gate; in elements.
    """

    offset: int
    counts: tuple[int, int]
    strides: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PackedSection:
    """The weights of a section.

    Args:
        stretches: that follow each other along the inputs.
        stride: from unit to unit, in elements.
        gates: of an input.
        form: how they are read.
        scales: of its rows, or multipliers, or None.
        group_scales: of its rows, for each group of int4.
    """

    stretches: tuple[Stretch, ...]
    stride: int
    gates: int
    form: WeightForm
    scales: Part | None
    group_scales: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class PackedPhase:
    """Where a phase's parts are; without peepholes they are None."""

    bias: Part
    peepholes: Part | None
    sections: tuple[PackedSection, ...]


ITEMS = {"f32": 4, "f16": 2, "i8": 1, "i16": 2, "i32": 4, "f8": 1, "sf8": 1}
"""Bytes of an element."""


def packed_phases(
    precision: Precision, phases: Sequence[Phase], units: int, offset: int, *, has_peepholes: bool
) -> tuple[PackedPhase, ...]:
    """All phases of packed weights that begin at an offset of the blob."""
    found = []
    for phase in phases:
        if isinstance(precision, Full):
            packed, size = _full(phase, offset, has_peepholes)
        else:
            packed, size = _quantized(precision, phase, offset)
        found.append(packed)
        offset += units * size
    return tuple(found)


def _full(phase: Phase, offset: int, has_peepholes: bool) -> tuple[PackedPhase, int]:
    """Of float32, without any padding; also the bytes of a unit."""
    counts = [phase.accumulators, _PEEPHOLES if has_peepholes else 0]
    counts += [section.extent * len(section.gates) for section in phase.sections]
    size = 4 * sum(counts)
    bias, peepholes, *places = (offset + 4 * sum(counts[:k]) for k in range(len(counts)))
    sections = []
    for section, place in zip(phase.sections, places, strict=True):
        gates = len(section.gates)
        stretch = Stretch(place, (section.extent, 1), (gates, gates, 1))
        sections.append(PackedSection((stretch,), size // 4, gates, WeightForm.F32, None))
    return PackedPhase(
        Part(bias, size, phase.accumulators, "f32"),
        Part(peepholes, size, _PEEPHOLES, "f32") if has_peepholes else None,
        tuple(sections),
    ), size


def _quantized(
    precision: Stored | Bytes | Integer, phase: Phase, offset: int
) -> tuple[PackedPhase, int]:
    """Of the quantized layouts; also the bytes of a unit."""
    form, at = precision.form, 0
    places: list[tuple[Piece, int]] = []
    for piece in form.pieces((phase,), 1):
        if piece.part is Kind.END:
            at += form.padding(piece, at)
            continue
        places.append((piece, offset + at))
        dtype, shape = form.type_of(piece)
        at += dtype.itemsize * math.prod(shape)
    unit = _Unit(form, at, places)
    bias = unit.part(Kind.BIAS)
    assert bias is not None
    sections = tuple(
        PackedSection(
            unit.stretches(section),
            at // ITEMS[read_as.stored],
            len(section.gates),
            read_as,
            unit.scales(section, phase),
            unit.group_scales(section),
        )
        for section in phase.sections
        for read_as in (weight_form(precision, section.source),)
    )
    return PackedPhase(bias, unit.part(Kind.PEEPHOLE), sections), at


@dataclass(frozen=True, slots=True)
class _Unit:
    """The pieces of a unit: where the first unit's stand in the blob."""

    form: Form
    stride: int
    places: list[tuple[Piece, int]]

    def part(self, kind: Kind, section: Section | None = None, more: int = 0) -> Part | None:
        """Biases, scales or peepholes, multiplied by 2^more."""
        for piece, at in self.places:
            if piece.part is kind and piece.section == section:
                return self._numbers(piece, at, more)
        return None

    def group_scales(self, section: Section) -> tuple[Part, ...]:
        """Those of each group of int4, as float32 in the image."""
        return tuple(
            replace(self._numbers(piece, at), image="f32")
            for piece, at in self.places
            if piece.part is Kind.GROUP_SCALE and piece.section == section
        )

    def _numbers(self, piece: Piece, at: int, more: int = 0) -> Part:
        dtype, shape = self.form.type_of(piece)
        name = _NAMES[dtype.str.lstrip("<|=")]
        exponent, image = more, None
        if name == "i8":
            code = self.codes.x if _is_input(piece) else self.codes.h
            assert code is not None
            name, exponent, image = "sf8" if code.is_signed else "f8", more + code.exponent, "f32"
        if piece.part is Kind.BIAS and self.codes.bias is not None:
            exponent, image = self.codes.bias, "f32"
        return Part(at, self.stride, shape[0], name, exponent, image)

    def scales(self, section: Section, phase: Phase) -> Part | None:
        """Of a section's rows; those of the frame may be others' times a power of two."""
        ratio = self.codes.ratio
        if ratio is not None and section is not phase.sections[-1]:
            return self.part(Kind.SCALE, phase.sections[-1], ratio)
        return self.part(Kind.SCALE, section)

    @property
    def codes(self) -> LineCodes:
        """How what stands beside the weights is coded."""
        return self.form.codes if isinstance(self.form, CompactForm) else LineCodes()

    def stretches(self, section: Section) -> tuple[Stretch, ...]:
        """The weights of a section in the order of its inputs."""
        gates, found = len(section.gates), []
        for piece, at in self.places:
            if piece.section != section:
                continue
            count = piece.columns[1] - piece.columns[0]
            if piece.part is Kind.WEIGHTS:
                found.append(Stretch(at, (count, 1), (gates, gates, 1)))
            elif piece.part is Kind.GROUP_WEIGHTS:
                found.append(Stretch(at, (-(-count // 2), 1), (gates, gates, 1)))
            elif piece.part is Kind.DOT_WEIGHTS:
                groups = -(-count // K_GROUP)
                found.append(Stretch(at, (groups, K_GROUP), (K_GROUP * gates, 1, K_GROUP)))
            elif piece.part is Kind.TAIL:
                found.append(Stretch(at, (1, count), (count * gates, 1, count)))
        return tuple(found)


def _is_input(piece: Piece) -> bool:
    return piece.section is not None and piece.section.source is Source.X


_NAMES = {"f4": "f32", "f2": "f16", "i4": "i32", "i2": "i16", "u1": "i8"}
