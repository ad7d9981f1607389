"""Lays the weight blob of an artifact out as CUDA kernels read it.

The blob stands once in an artifact, in the program's own order; what each kernel wants is a list of
strided views of it, padded with zeros, split and transposed. The compiler writes that list into the
manifest, the engine follows it when it loads the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ArtifactFormatError

PART_ALIGNMENT = 256
_TYPES = {
    "f32": np.float32,
    "f16": np.float16,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
}


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
        stored: element type in the blob, any of them.
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

    @property
    def nbytes(self) -> int:
        """Size in the image."""
        return int(np.prod(self.split)) * np.dtype(_TYPES[self.dtype]).itemsize

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
                **{name: tuple(_count(item) for item in data[name]) for name in lists},
            )
            fits = (
                len(layout.shape) == len(layout.strides) == len(layout.padded)
                and all(a <= b for a, b in zip(layout.shape, layout.padded, strict=True))
                and np.prod(layout.padded) == np.prod(layout.split)
                and sorted(layout.order) == list(range(len(layout.split)))
                and layout.dtype in _TYPES
                and layout.stored in _TYPES
                and layout.source % np.dtype(_TYPES[layout.stored]).itemsize == 0
                and layout.place % PART_ALIGNMENT == 0
            )
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
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        stored = np.dtype(_TYPES[self.stored])
        item = stored.itemsize
        if self.source + item * (last + 1) > blob.size or not all(self.shape):
            raise ArtifactFormatError(
                "the manifest's layout of weights reaches beyond them; compile the model again"
            )
        elements = np.frombuffer(blob, stored, last + 1, self.source)
        view = np.lib.stride_tricks.as_strided(
            elements, self.shape, [item * step for step in self.strides]
        )
        wider = [(0, b - a) for a, b in zip(self.shape, self.padded, strict=True)]
        parts = np.pad(view, wider).reshape(self.split).transpose(self.order)
        return np.ascontiguousarray(parts, _TYPES[self.dtype]).reshape(-1)


def image_bytes(layouts: Sequence[Layout]) -> int:
    """Size of an image."""
    return max((layout.place + layout.nbytes for layout in layouts), default=0)


def make_image(blob: NDArray[np.uint8], layouts: Sequence[Layout]) -> NDArray[np.uint8]:
    """The image of the weights for one kernel."""
    image = np.zeros(max(image_bytes(layouts), PART_ALIGNMENT), np.uint8)
    for layout in layouts:
        image[layout.place : layout.place + layout.nbytes] = layout.apply(blob).view(np.uint8)
    return image


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError(f"{value!r} is no count")
    return value
