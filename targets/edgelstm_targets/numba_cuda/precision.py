"""In what numbers a layer computes, and how its packed weights and the frames meet in words.

A product reads weights in words of 32 bits: `WeightForm` says how many weights a word holds and of
what elements the vector is that it is multiplied with. Where the parts of a unit stand in the
weight blob follows from the layouts of `ir/kernels.py` and `ir/quantized_kernels.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_compiler.ir.ops import IntegerDense, IntegerRecurrent, Storage
from edgelstm_compiler.ir.quantized_kernels import LINE
from edgelstm_compiler.lowering.quantized_layout import Form
from edgelstm_compiler.lowering.quantized_layout import Part as Piece
from edgelstm_compiler.lowering.quantized_packing import int8_form, integer_form, stored_form

_PEEPHOLES = 3


class WeightForm(Enum):
    """What a word of weights holds.

    The value: inputs of a word, elements of the blob, inputs of such an element, bytes of an
    element of the vector, instructions for a word.
    """

    F32 = (1, "f32", 1, 4, 1)
    F16 = (2, "f16", 1, 4, 4)  # half, computed with in float32
    I8 = (4, "i8", 1, 4, 12)  # int8, computed with in float32
    BYTES = (4, "i32", 4, 1, 2)  # dot products of bytes with int8
    PAIRS = (4, "i32", 4, 2, 4)  # of bytes with int16

    @property
    def inputs(self) -> int:
        """Inputs, and so weights, of a word."""
        return self.value[0]

    @property
    def stored(self) -> str:
        """Element type in the blob."""
        return self.value[1]

    @property
    def element_inputs(self) -> int:
        """Inputs of an element of the blob."""
        return self.value[2]

    @property
    def vector_bytes(self) -> int:
        """Size of an element of the vector."""
        return self.value[3]

    def chunk(self, words: int) -> int:
        """Inputs that stand together: those of as many words as 16 bytes of the vector are for."""
        return min(words * self.inputs, 16 // self.vector_bytes)

    @property
    def instructions(self) -> int:
        """For a word of one gate, roughly."""
        return self.value[4]

    @property
    def is_whole(self) -> bool:
        """Whether sums are whole numbers."""
        return self in (WeightForm.BYTES, WeightForm.PAIRS)

    def words(self, extent: int, lanes: int) -> int:
        """Words that a lane reads at a time: as many as possible without much padding."""
        if self is WeightForm.F32:
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

    storage: Storage


@dataclass(frozen=True, slots=True)
class Bytes:
    """Scheme int8: products of bytes, sums scaled by row; the rest in float32.

    Args:
        x_dtype: of the quantized frame.
        h_inverse: what h (and r*h) is multiplied with before it is rounded; 0 for dense layers.
    """

    x_dtype: DType
    h_inverse: float = 0.0


@dataclass(frozen=True, slots=True)
class Integer:
    """Scheme int8-full.

    Args:
        op: with the shifts.
        x_dtype: of the frame.
        tables: offset of the tables in the weight blob, or None.
        table_count: how many.
    """

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
            return _STORED[precision.storage]
        case _ if source is Source.X and precision.x_dtype is DType.I16:
            return WeightForm.PAIRS
    return WeightForm.BYTES


_STORED = {Storage.F16: WeightForm.F16, Storage.I8: WeightForm.I8}


@dataclass(frozen=True, slots=True)
class Part:
    """An array in the packed weights of each unit of a phase.

    Args:
        offset: of the first unit's, in the blob.
        stride: from unit to unit, in bytes.
        rows: elements of a unit (in a section, of an input).
        dtype: of an element.
    """

    offset: int
    stride: int
    rows: int
    dtype: str


@dataclass(frozen=True, slots=True)
class PackedPhase:
    """Where a phase's parts are.

    Args:
        bias, peepholes: by unit; no peepholes: None.
        scales: of each section, by unit: scales or multipliers of its rows, or None.
        sections: weights.
        forms: of the sections.
    """

    bias: Part
    peepholes: Part | None
    scales: tuple[Part | None, ...]
    sections: tuple[Part, ...]
    forms: tuple[WeightForm, ...]


def packed_phases(
    precision: Precision, phases: Sequence[Phase], units: int, offset: int, *, has_peepholes: bool
) -> tuple[PackedPhase, ...]:
    """All phases of packed weights that begin at an offset of the blob."""
    found = []
    for phase in phases:
        if isinstance(precision, Full):
            packed, size = _full(phase, offset, has_peepholes)
        else:
            form = _form(precision, has_peepholes)
            packed, size = _quantized(precision, form, phase, offset)
        found.append(packed)
        offset += units * size
    return tuple(found)


def _full(phase: Phase, offset: int, has_peepholes: bool) -> tuple[PackedPhase, int]:
    """Of float32, without any padding; also the bytes of a unit."""
    counts = [phase.accumulators, _PEEPHOLES if has_peepholes else 0]
    counts += [section.extent * len(section.gates) for section in phase.sections]
    size = 4 * sum(counts)
    places = [offset + 4 * sum(counts[:index]) for index in range(len(counts))]
    rows = [phase.accumulators, _PEEPHOLES, *(len(section.gates) for section in phase.sections)]
    bias, peepholes, *sections = (
        Part(place, size, row, "f32") for place, row in zip(places, rows, strict=True)
    )
    return PackedPhase(
        bias,
        peepholes if has_peepholes else None,
        (None,) * len(sections),
        tuple(sections),
        (WeightForm.F32,) * len(sections),
    ), size


def _form(precision: Stored | Bytes | Integer, has_peepholes: bool) -> Form:
    if isinstance(precision, Stored):
        return stored_form(precision.storage, 1, has_peepholes=has_peepholes)
    make = int8_form if isinstance(precision, Bytes) else integer_form
    return make(1, 0, has_peepholes=has_peepholes)


def _quantized(
    precision: Precision, form: Form, phase: Phase, offset: int
) -> tuple[PackedPhase, int]:
    """Of the quantized layouts; also the bytes of a unit."""
    places: dict[tuple[Piece, Section | None], tuple[int, int, str]] = {}
    at = 0
    for piece in form.pieces((phase,), 1):
        if piece.part is Piece.END:
            at = _padded(at, LINE)
            continue
        dtype, shape = form.type_of(piece)
        rows = shape[0] if piece.section is None else len(piece.section.gates)
        name = _NAMES[dtype.str.lstrip("<|=")]
        places[piece.part, piece.section] = (offset + at, rows, name)
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        at += size
    unit_bytes = at

    def part(kind: Piece, section: Section | None = None) -> Part | None:
        found = places.get((kind, section))
        return None if found is None else Part(found[0], unit_bytes, found[1], found[2])

    bias = part(Piece.BIAS)
    assert bias is not None
    forms = tuple(weight_form(precision, section.source) for section in phase.sections)
    packed_as = Piece.DOT_WEIGHTS if form.storage is None else Piece.WEIGHTS
    sections = []
    for section, read_as in zip(phase.sections, forms, strict=True):
        weights = part(packed_as, section)
        assert weights is not None
        sections.append(Part(weights.offset, unit_bytes, weights.rows, read_as.stored))
    scales = tuple(part(Piece.SCALE, section) for section in phase.sections)
    return PackedPhase(bias, part(Piece.PEEPHOLE), scales, tuple(sections), forms), unit_bytes


_NAMES = {"f4": "f32", "f2": "f16", "i4": "i32", "i2": "i16", "i1": "i8", "u1": "i8"}
