"""Dynamic inputs: what has to be given, and what may not be given."""

from __future__ import annotations

import pytest

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError
from edgelstm_compiler.onnx_import.read import InputInfo
from edgelstm_compiler.onnx_import.shapes import resolve_shapes

X = InputInfo("x", DType.F32, ("batch", None, 6))
H = InputInfo("h0", DType.F32, (1, "batch", 12))
STATIC = InputInfo("s", DType.F32, (2, 3))


def test_static_shapes_need_nothing() -> None:
    """The model's own numbers."""
    assert resolve_shapes([STATIC], {}) == {"s": (2, 3)}


def test_given_shapes() -> None:
    """A given shape settles the named extents of the other inputs."""
    assert resolve_shapes([X, H], {"x": [3, 10, 6]}) == {"x": (3, 10, 6), "h0": (1, 3, 12)}


def test_the_error_shows_the_option_to_give() -> None:
    """Input, its dimensions, and an example."""
    with pytest.raises(ShapeError, match=r"'x' .*\(batch, \?, 6\).*--shape x=1,30,6"):
        resolve_shapes([X], {})


def test_settled_extents_stand_in_the_example() -> None:
    """What another input settled is not asked for again."""
    other = InputInfo("z", DType.F32, ("batch", "time"))
    with pytest.raises(ShapeError, match=r"--shape z=4,30"):
        resolve_shapes([X, other], {"x": (4, 5, 6)})


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"x": (1, 2)}, r"x=1,2 has 2 axes, the model's input has 3: x: f32\[batch, \?, 6\]"),
        ({"x": (1, 2, 7)}, "x=1,2,7 says 7 for axis 2, the model says 6"),
        ({"x": (1, 0, 6)}, r"\(1, 0, 6\), which holds no elements"),
        ({"x": (1, -3, 6)}, "holds no elements"),
        ({"x": (2, 4, 6), "h0": (1, 3, 12)}, "says 3 for 'batch', and 'x' says 2"),
        ({"y": (1,)}, "'y'; the inputs of the model are: x, h0"),
    ],
)
def test_contradictions(given: dict[str, tuple[int, ...]], match: str) -> None:
    """Each names the option as it was given and what the model says."""
    with pytest.raises(ShapeError, match=match):
        resolve_shapes([X, H], given)


def test_unknown_rank() -> None:
    """An input of which not even the number of axes is known."""
    unknown = InputInfo("u", DType.F32, None)
    with pytest.raises(ShapeError, match="how many axes the input 'u' has"):
        resolve_shapes([unknown], {})
    assert resolve_shapes([unknown], {"u": (2, 3)}) == {"u": (2, 3)}
    assert str(unknown) == "u: f32[...]"


def test_is_static() -> None:
    """Whether every extent is a number."""
    assert STATIC.is_static
    assert not X.is_static
