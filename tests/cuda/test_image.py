"""The image of the weights: views of the blob in other orders and types."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm.engines.cuda_image import Layout, make_image
from edgelstm.errors import ArtifactFormatError

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
