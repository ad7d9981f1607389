"""The image of the weights: views of the blob in other orders and types."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm.engines.cuda_image import Layout, View, make_image
from edgelstm.errors import ArtifactFormatError
from edgelstm_compiler.ir.compact import ScaleCode

PAIRS = Layout(0, 4, (3, 2), (1, 1), (3, 2), (3, 2), (0, 1), "i16", "i16")


def blob(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Four bytes of something else, then int16."""
    return np.frombuffer(bytes(4) + np.array(values, "<i2").tobytes(), np.uint8)


def test_elements_may_be_taken_twice() -> None:
    """Entries of a table with their successors, as 16-bit numbers."""
    image = make_image(blob([5, -6, 7, 8]), [PAIRS])
    found = image[: PAIRS.nbytes].view(np.int16).tolist()
    assert found == [5, -6, -6, 7, 7, 8]


def test_a_view_beyond_the_blob_is_refused() -> None:
    """The last element counts in its own size."""
    with pytest.raises(ArtifactFormatError, match="beyond"):
        make_image(blob([5, -6, 7]), [PAIRS])


def test_layouts_go_through_the_manifest() -> None:
    """JSON keeps both types; a type that is not known, or a source between elements, is refused."""
    assert Layout.from_json(PAIRS.to_json()) == PAIRS
    for changed in ({"stored": "f7"}, {"source": 3}):
        damaged = {**dataclasses.asdict(PAIRS), **changed}
        with pytest.raises(ArtifactFormatError, match="contradicts itself"):
            Layout.from_json(damaged)


def test_views_follow_each_other() -> None:
    """Inputs in groups of two and a tail of one, for one unit and two gates, padded to four."""
    groups = View(0, (1, 1, 2, 2), (8, 4, 1, 2))
    tail = View(4, (1, 1, 2), (8, 1, 1))
    order = (1, 4, 2), (1, 4, 2), (0, 2, 1)
    layout = Layout(0, 0, groups.shape, groups.strides, *order, "i8", "i8", 0, (tail,))
    assert Layout.from_json(layout.to_json()) == layout
    # Gate 0 has the weights 1, 2 and 5, gate 1 has 3, 4 and 6.
    image = make_image(np.array([1, 2, 3, 4, 5, 6, 0, 0], np.uint8), [layout])
    assert image[:8].tolist() == [1, 2, 5, 0, 3, 4, 6, 0]


@pytest.mark.parametrize(("stored", "sign"), [("f8", 1.0), ("sf8", -1.0)])
def test_coded_numbers(stored: str, sign: float) -> None:
    """8-bit floats times a power of two become float32: what `ir/compact.py` decodes."""
    code = ScaleCode(-3, is_signed=stored == "sf8")
    scales = np.array([0.125, sign * 0.1953125, 1.5], np.float32)
    layout = Layout(0, 0, (3, 1), (1, 1), (3, 1), (3, 1), (0, 1), "f32", stored, code.exponent)
    image = make_image(code.encode(scales), [layout])
    np.testing.assert_array_equal(image[:12].view(np.float32), scales)
