"""Lays the weight blob of an artifact out as CUDA kernels read it.

The blob stands once in an artifact, in the program's own order; what each kernel wants is a list of
strided views of it, padded with zeros, split and transposed. The compiler writes that list into the
manifest, the engine follows it when it loads the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ArtifactFormatError
from edgelstm.signature import LARGEST_BLOCK_BYTES

PART_ALIGNMENT = 256
_TYPES = {
    "f32": np.float32,
    "f16": np.float16,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "f8": np.uint8,
    "sf8": np.uint8,
}
_F8_MANTISSA = 4


@dataclass(frozen=True, slots=True)
class View:
    """A strided view of the blob; see `Layout`."""

    source: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def joined(self) -> tuple[int, ...]:
        """Its extents with all axes between the first and the last as one."""
        if len(self.shape) <= 3:
            return self.shape
        return self.shape[0], int(math.prod(self.shape[1:-1])), self.shape[-1]

    def of(self, blob: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
        """Its elements, with the extents `joined`.

        Raises:
            ArtifactFormatError: it reaches beyond the blob.
        """
        stored = np.dtype(_TYPES[dtype])
        item = stored.itemsize
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if self.source + item * (last + 1) > blob.size or not all(self.shape):
            raise ArtifactFormatError(
                "the manifest's layout of weights reaches beyond them; compile the model again"
            )
        elements = np.frombuffer(blob, stored, last + 1, self.source)
        view = np.lib.stride_tricks.as_strided(
            elements, self.shape, [item * step for step in self.strides]
        )
        return view.reshape(self.joined)

    def to_json(self) -> list[Any]:
        """What goes into the manifest."""
        return [self.source, list(self.shape), list(self.strides)]

    @classmethod
    def from_json(cls, data: Any) -> View:
        """Read what `to_json` wrote; raises ValueError or TypeError."""
        source, shape, strides = data
        if len(shape) != len(strides):
            raise ValueError(f"view {data!r}")
        return cls(_count(source), tuple(map(_count, shape)), tuple(map(_count, strides)))


@dataclass(frozen=True, slots=True)
class Layout:
    """One part of an image: elements of the blob in another order.

    Args:
        place: offset in the image, in bytes.
        source: offset in the blob, in bytes.
        shape: extents of the view.
        strides: its strides, in elements.
        padded: extents after padding with zeros at the ends.
        split: extents that the padded ones are split into, row-major.
        order: permutation of `split`.
        dtype: element type in the image: "f32", "f16", "i8", "i16" or "i32".
        stored: element type in the blob: any of them, or "f8", whose e (4 bits) and m (4 bits)
            stand for 2^e * (1 + m / 16), or "sf8", where the highest bit of e is the sign.
        exponent: elements are multiplied by 2^exponent.
        more: views whose elements follow on the second axis of three.
    """

    place: int
    source: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    padded: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    dtype: str = "f32"
    stored: str = "f32"
    exponent: int = 0
    more: tuple[View, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size in the image."""
        return int(math.prod(self.split)) * np.dtype(_TYPES[self.dtype]).itemsize

    def to_json(self) -> dict[str, Any]:
        """What goes into the manifest."""
        return {
            "place": self.place,
            "source": self.source,
            "shape": list(self.shape),
            "strides": list(self.strides),
            "padded": list(self.padded),
            "split": list(self.split),
            "order": list(self.order),
            "dtype": self.dtype,
            "stored": self.stored,
            "exponent": self.exponent,
            "more": [view.to_json() for view in self.more],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """Read what `to_json` wrote.

        Raises:
            ArtifactFormatError: it is no layout.
        """
        try:
            lists = ("shape", "strides", "padded", "split", "order")
            layout = cls(
                place=_count(data["place"]),
                source=_count(data["source"]),
                dtype=data["dtype"],
                stored=data["stored"],
                exponent=_exponent(data["exponent"]),
                more=tuple(View.from_json(view) for view in data["more"]),
                **{name: tuple(_count(item) for item in data[name]) for name in lists},
            )
            fits = layout._fits()
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactFormatError(
                f"the manifest's layout of weights is malformed ({error}); compile the model again"
            ) from error
        if not fits:
            raise ArtifactFormatError(
                "the manifest's layout of weights contradicts itself; compile the model again"
            )
        return layout

    def apply(self, blob: NDArray[np.uint8]) -> NDArray[Any]:
        """The elements of this part, flat.

        Raises:
            ArtifactFormatError: it reaches beyond the blob.
        """
        views = [view.of(blob, self.stored) for view in self._views()]
        whole = views[0] if len(views) == 1 else np.concatenate(views, axis=1)
        if self.stored in ("f8", "sf8"):
            whole = _decoded(whole, is_signed=self.stored == "sf8")
        if self.exponent:
            whole = np.ldexp(whole.astype(np.float32), self.exponent)
        wider = [(0, b - a) for a, b in zip(whole.shape, self.padded, strict=True)]
        parts = np.pad(whole, wider).reshape(self.split).transpose(self.order)
        return np.ascontiguousarray(parts, _TYPES[self.dtype]).reshape(-1)

    def _views(self) -> tuple[View, ...]:
        return View(self.source, self.shape, self.strides), *self.more

    def _fits(self) -> bool:
        """Whether its numbers go together."""
        if self.dtype not in _TYPES or self.stored not in _TYPES:
            return False
        item = np.dtype(_TYPES[self.stored]).itemsize
        extents = list(self._views()[0].joined)
        for view in self.more:
            if len(extents) != 3 or view.joined[::2] != tuple(extents[::2]):
                return False
            extents[1] += view.joined[1]
        return (
            len(self.shape) == len(self.strides)
            and len(extents) == len(self.padded)
            and all(a <= b for a, b in zip(extents, self.padded, strict=True))
            and math.prod(self.padded) == math.prod(self.split)
            and sorted(self.order) == list(range(len(self.split)))
            and all(view.source % item == 0 for view in self._views())
            and self.place % PART_ALIGNMENT == 0
            and self.place + self.nbytes <= LARGEST_BLOCK_BYTES
        )


def image_bytes(layouts: Sequence[Layout]) -> int:
    """Size of an image."""
    return max((layout.place + layout.nbytes for layout in layouts), default=0)


def make_image(blob: NDArray[np.uint8], layouts: Sequence[Layout]) -> NDArray[np.uint8]:
    """The image of the weights for one kernel."""
    image = np.zeros(max(image_bytes(layouts), PART_ALIGNMENT), np.uint8)
    for layout in layouts:
        image[layout.place : layout.place + layout.nbytes] = layout.apply(blob).view(np.uint8)
    return image


def _decoded(codes: NDArray[Any], *, is_signed: bool) -> NDArray[Any]:
    """What 8-bit floats stand for."""
    size = codes & np.uint8(127) if is_signed else codes
    mantissa = (size & np.uint8((1 << _F8_MANTISSA) - 1)) / np.float32(1 << _F8_MANTISSA)
    numbers = np.ldexp(np.float32(1) + mantissa, size >> _F8_MANTISSA)
    return np.asarray(np.where(codes >= 128, -numbers, numbers) if is_signed else numbers)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError(f"{value!r} is no count")
    return value


def _exponent(value: Any) -> int:
    if type(value) is not int or abs(value) > 300:
        raise ValueError(f"{value!r} is no exponent")
    return value
