"""Reductions, logic, computed indices, Einsum and other heads: against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.errors import ModelError, UnsupportedOpError
from edgelstm_compiler.ir.evaluate import evaluate
from tests.unit.onnx_import.one_node import (
    check_folded,
    check_node,
    imported,
    ints,
    normal,
    one_node,
)

REDUCTIONS = [
    "ReduceSum",
    "ReduceProd",
    "ReduceMax",
    "ReduceMin",
    "ReduceMean",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSumExp",
]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(op: str, keepdims: int) -> None:
    """Axes as attribute and as input, negative, all of them; constants are folded."""
    x = normal(2, 3, 4)
    for axes in ([1], [0, 2], [-1]):
        check_node(op, [x, ints(*axes)], opset=18, keepdims=keepdims, runtime=(0,))
        if op != "ReduceSum":
            check_node(op, [x], opset=13, axes=axes, keepdims=keepdims)
    check_node(op, [x], opset=11, keepdims=keepdims)
    check_folded(op, [x], opset=11, keepdims=keepdims)
    check_node(op, [np.abs(x)], opset=11, keepdims=keepdims)


def test_reductions_that_do_nothing() -> None:
    """No axes and `noop_with_empty_axes`."""
    check_node("ReduceSum", [normal(2, 3)], opset=13, noop_with_empty_axes=1)
    check_node("ReduceSum", [normal(2, 3), ints()], opset=13, noop_with_empty_axes=1, runtime=(0,))


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_index_of_extremes(op: str) -> None:
    """Each axis, first and last of equals."""
    x = normal(3, 4, 5).round()
    for axis in (0, 1, -1):
        for last in (0, 1):
            check_node(op, [x], opset=13, axis=axis, select_last_index=last, keepdims=last)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(largest: int) -> None:
    """Values and indices, of equals the first first."""
    x = normal(3, 6).round(1)
    for k in (1, 4, 6):
        check_node("TopK", [x, ints(k)], outputs=2, largest=largest, runtime=(0,), opset=11)
        check_node("TopK", [x.T.copy(), ints(k)], axis=0, outputs=2, runtime=(0,), opset=11)


def test_cum_sum() -> None:
    """Either direction, with the element itself or without."""
    for exclusive in (0, 1):
        for reverse in (0, 1):
            operands = [normal(3, 4), np.array(1, np.int32)]
            options = {"exclusive": exclusive, "reverse": reverse}
            check_node("CumSum", operands, runtime=(0,), opset=14, **options)


@pytest.mark.parametrize("op", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_comparisons(op: str) -> None:
    """Broadcasting; floats and integers."""
    check_node(op, [normal(3, 4).round(), normal(4, seed=1).round()], opset=16, runtime=(0, 1))
    a, b = (np.arange(6).reshape(2, 3) % n for n in (4, 3))
    check_node(op, [a, b], opset=16, runtime=(0, 1))


def test_logic() -> None:
    """Truth values, selection, triangles, one of many."""
    a, b = (np.arange(6).reshape(2, 3) % n == 1 for n in (2, 3))
    for op in ("And", "Or", "Xor"):
        check_node(op, [a, b], opset=13, runtime=(0, 1))
    check_node("Not", [a])
    check_node("Where", [a, normal(2, 3), normal(3, seed=1)], opset=16, runtime=(0, 1, 2))
    for upper in (0, 1):
        for k in (-1, 0, 2):
            operands = [normal(2, 4, 5), np.array(k)]
            check_node("Trilu", operands, opset=14, upper=upper, runtime=(0,))
    values = np.array([-1, 2], np.float32)
    for axis in (-1, 0, 1):
        operands = [np.array([[0, 3, -1], [2, 1, 0]]), np.array(4), values]
        check_node("OneHot", operands, opset=11, axis=axis, runtime=(0,))


@pytest.mark.parametrize("op", ["Floor", "Ceil", "Round", "Sign"])
def test_whole_numbers(op: str) -> None:
    """Halves of both signs."""
    check_node(op, [np.array([-2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 3.2, -7.9], np.float32)])


def test_mod() -> None:
    """The sign of the divisor or of the dividend."""
    a, b = np.array([7, -7, 7, -7, 6]), np.array([3, 3, -3, -3, 3])
    check_node("Mod", [a, b], opset=13, runtime=(0, 1))
    check_node("Mod", [a, b], opset=13, fmod=1, runtime=(0, 1))
    x, y = 5 * normal(4, 5), normal(4, 5, seed=1)
    check_node("Mod", [x, y], opset=13, fmod=1, runtime=(0, 1))
    x[0], y[0] = [7, -7, 7, -7, 6], [3, 3, -3, -3, 3]
    model, given = one_node("Mod", [x, y], opset=28, runtime=(0, 1))
    assert np.array_equal(evaluate(imported(model), given).outputs["o0"], np.mod(x, y))
    with pytest.raises(ModelError, match="before opset 28 fmod must be 1"):
        imported(one_node("Mod", [x, y], opset=13, runtime=(0, 1))[0])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_at_indices(axis: int) -> None:
    """Computed and constant indices, negative ones, every way to merge."""
    x = normal(3, 4, 5)
    extent = x.shape[axis]
    indices = np.random.default_rng(1).integers(-extent, extent, (2, 3, 4))
    for runtime in ((0,), (0, 1)):
        check_node("GatherElements", [x, indices], opset=13, axis=axis, runtime=runtime)
    updates = normal(2, 3, 4, seed=2)
    for merge in ("add", "mul", "max", "min"):
        operands = [x, indices, updates]
        options = {"axis": axis, "reduction": merge}
        check_node("ScatterElements", operands, opset=18, runtime=(0, 1, 2), **options)
    unique = np.zeros((1, 3, 4), np.int64) if axis == 0 else np.zeros((2, 1, 4), np.int64)
    if axis != -1:
        check_node(
            "ScatterElements",
            [x, unique, updates[: unique.shape[0], : unique.shape[1]]],
            opset=13,
            axis=axis,
            runtime=(0, 1, 2),
        )


def test_slices_at_index_vectors() -> None:
    """With and without batch axes; slices replaced and added."""
    x = normal(3, 4, 5)
    check_node("GatherND", [x, np.array([[0, 1], [2, -1]])], opset=13, runtime=(0, 1))
    check_node("GatherND", [x, np.array([[1], [0], [-1]])], opset=13, batch_dims=1, runtime=(0, 1))
    check_node(
        "ScatterND", [x, np.array([[0, 1], [2, 3]]), normal(2, 5)], opset=16, runtime=(0, 1, 2)
    )
    operands = [x, np.array([[1], [1]]), normal(2, 4, 5)]
    check_node("ScatterND", operands, opset=16, reduction="add", runtime=(0, 1, 2))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ijk->j", [(2, 3, 4)]),
        ("i,j->ij", [(2,), (3,)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("btd,d->bt", [(2, 3, 4), (4,)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("ij,jk", [(2, 3), (3, 4)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    """Products, outer products, sums, transpositions; operands folded from the left."""
    operands = [normal(*shape, seed=k) for k, shape in enumerate(shapes)]
    runtime = tuple(range(len(operands)))
    check_node("Einsum", operands, opset=12, equation=equation, runtime=runtime)


NORMS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("LpNormalization", [normal(3, 4)], {"p": 1}),
    ("LpNormalization", [normal(3, 4)], {"axis": 0}),
    ("InstanceNormalization", [normal(2, 3, 5), normal(3, seed=1), normal(3, seed=2)], {}),
    ("InstanceNormalization", [normal(2, 3, 5, 4), normal(3, seed=1), normal(3, seed=2)], {}),
    ("MeanVarianceNormalization", [normal(2, 3, 4, 5)], {}),
    ("Hardmax", [normal(3, 4)], {"axis": 0}),
    ("Gelu", [3 * normal(30)], {"opset": 20}),
    ("Gelu", [3 * normal(30)], {"opset": 20, "approximate": "tanh"}),
    ("Mish", [3 * normal(30)], {"opset": 18}),
    ("Shrink", [normal(30)], {"lambd": 0.4, "bias": 0.1}),
    ("IsNaN", [normal(5)], {}),
    ("IsInf", [normal(5)], {}),
]


@pytest.mark.parametrize(("op", "operands", "options"), NORMS, ids=lambda item: str(item)[:24])
def test_norms_and_functions(op: str, operands: list[Any], options: dict[str, Any]) -> None:
    """Composites of simpler operators."""
    check_node(op, operands, **{"opset": 17, **options, "runtime": (0,)})


@pytest.mark.parametrize("power", [0, 0.5, 1, 1.5, 2, 3, 4, -1, -0.5, -2])
def test_powers(power: float) -> None:
    """Whole and half exponents of either sign."""
    check_node("Pow", [np.abs(normal(3, 4)) + 0.1, np.asarray(power, np.float32)], opset=15)


def test_powers_by_element() -> None:
    """An exponent for each element; integers."""
    check_node("Pow", [normal(2, 3), np.array([1, 2, 3], np.float32)], opset=15)
    check_node("Pow", [np.arange(-3, 3), np.asarray(3)], opset=15)
    with pytest.raises(UnsupportedOpError, match=r"\[-1.0\].*cast to float32 before"):
        imported(one_node("Pow", [np.arange(-3, 3), np.asarray(-1)], opset=15)[0])


def test_any_powers() -> None:
    """Computed exponents and many of them; negative numbers, zeros, computed integers."""
    x, y = 5 * normal(4, 5), normal(4, 5, seed=1)
    check_node("Pow", [np.abs(x), y], opset=15, runtime=(0, 1))
    check_node("Pow", [np.abs(x), y])
    check_node("Pow", [x, (2 * y).round()], opset=15, runtime=(0, 1))
    check_node("Pow", [x, (2 * y).round().astype(np.int64)], opset=15, runtime=(0, 1))
    check_node("Pow", [np.array(10, np.float32), y], opset=15, runtime=(1,))
    check_node("Pow", [np.abs(x), np.array(0.3, np.float32)], opset=15)
    zeros = np.array([0, 0, 0, 1, 2], np.float32)
    check_node("Pow", [zeros, np.array([0, 2, 1.5, 7, 0], np.float32)], runtime=(0, 1))
    model, given = one_node("Pow", [np.array([-2, -2], np.float32), y[0, :2]], runtime=(0, 1))
    assert np.isnan(evaluate(imported(model), given).outputs["o0"]).all()


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_reversed_rows(axes: tuple[int, int]) -> None:
    """Rows turned around up to their lengths, and whole."""
    x, (time, batch) = normal(4, 4, 3), axes
    for lengths in (ints(4, 2, 1, 3), ints(4, 4, 4, 4)):
        operands = [x, lengths]
        check_node("ReverseSequence", operands, opset=10, time_axis=time, batch_axis=batch)


def test_constants_of_counting() -> None:
    """Range, NonZero, Size and EyeLike of what is known."""
    check_folded("Range", [np.asarray(1), np.asarray(9), np.asarray(2)])
    check_folded("NonZero", [np.array([[0, 1], [2, 0]], np.float32)], opset=13)
    check_folded("Size", [normal(2, 3)])
    check_folded("EyeLike", [normal(3, 4)], k=1)


@pytest.mark.parametrize(
    "op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli", "RandomNormal", "Multinomial"]
)
def test_random_numbers_are_refused(op: str) -> None:
    """By name, with the way out."""
    operands = [] if op == "RandomNormal" else [np.abs(normal(2, 3))]
    options: dict[str, Any] = {"shape": [2, 3]} if op == "RandomNormal" else {}
    runtime = (0,) if operands else ()
    model, given = one_node(op, operands, opset=15, runtime=runtime, **options)
    with pytest.raises(UnsupportedOpError, match=r"random numbers.*evaluation mode"):
        imported(model, given)
