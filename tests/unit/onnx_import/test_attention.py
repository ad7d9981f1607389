"""Attention and rotary positions of ONNX and com.microsoft: against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph
from tests.oracle import assert_close, run_onnxruntime
from tests.unit.onnx_import.one_node import (
    check_model,
    check_node,
    graph_model,
    imported,
    normal,
)

Array = NDArray[Any]
B, S, N, H = 2, 5, 3, 4
Q, K, V = (normal(B, S, N * H, seed=k) for k in range(3))


def check_contrib(
    op: str,
    inputs: list[Array | None],
    outputs: int = 1,
    constant: tuple[int, ...] = (),
    **attributes: Any,
) -> Graph:
    """One node of com.microsoft must compute what ONNX Runtime computes."""
    names = ["" if item is None else f"i{k}" for k, item in enumerate(inputs)]
    given = {f"i{k}": x for k, x in enumerate(inputs) if x is not None and k not in constant}
    stored = {f"i{k}": inputs[k] for k in constant}
    results = [f"o{k}" for k in range(outputs)]
    node = helper.make_node(op, names, results, domain="com.microsoft", **attributes)
    model = graph_model([node], given, results, stored, domains={"com.microsoft": 1})  # type: ignore[arg-type]
    return check_model(model, given)


@pytest.mark.parametrize("causal", [0, 1])
def test_heads_in_one_axis(causal: int) -> None:
    """Three axes: the heads stand side by side; grouped keys and values; a scale."""
    options = {"opset": 23, "runtime": (0, 1, 2), "is_causal": causal}
    check_node("Attention", [Q, K, V], q_num_heads=N, kv_num_heads=N, **options)
    grouped = [normal(B, S, 6 * H), normal(B, S, 2 * H, seed=1), normal(B, S, 2 * H, seed=2)]
    check_node("Attention", grouped, q_num_heads=6, kv_num_heads=2, scale=0.3, **options)


def test_masks() -> None:
    """Truth values, numbers, minus infinity in a constant; a soft cap."""
    options = {"opset": 23, "q_num_heads": N, "kv_num_heads": N}
    mask = np.tril(np.ones((S, S), np.bool_))
    check_node("Attention", [Q, K, V, mask], runtime=(0, 1, 2, 3), **options)
    added = normal(B, 1, S, S, seed=5)
    check_node("Attention", [Q, K, V, added], runtime=(0, 1, 2, 3), softcap=2.0, **options)
    infinite = np.where(mask, 0, -np.inf).astype(np.float32)
    check_node("Attention", [Q, K, V, infinite], runtime=(0, 1, 2), **options)


def test_past_keys() -> None:
    """Keys and values of earlier calls stand in front, and come back."""
    q, k, v = (normal(B, N, S, H, seed=n) for n in range(3))
    past = [normal(B, N, 3, H, seed=n) for n in (7, 8)]
    operands = [q, k, v, None, *past]
    check_node("Attention", operands, opset=23, outputs=3, runtime=(0, 1, 2, 4, 5))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_positions(interleaved: int) -> None:
    """By table and position, all of a head or a part of it, with three axes and with four."""
    angles = np.random.default_rng(0).uniform(0, 3, (9, H // 2))
    tables = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
    places = np.array([[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]])
    options = {"opset": 23, "interleaved": interleaved}
    four = normal(B, N, S, H)
    check_node("RotaryEmbedding", [four, *tables, places], runtime=(0,), **options)
    check_node("RotaryEmbedding", [Q, *tables, places], runtime=(0,), num_heads=N, **options)
    part = [table[:, :1] for table in tables]
    check_node(
        "RotaryEmbedding",
        [four, *part, places],
        runtime=(0, 3),
        rotary_embedding_dim=2,
        **options,
    )
    rows = [table[places] for table in tables]
    check_node("RotaryEmbedding", [four, *rows], runtime=(0,), **options)
    check_contrib(
        "RotaryEmbedding",
        [Q, places, *tables],
        constant=(1, 2, 3),
        num_heads=N,
        interleaved=interleaved,
    )
    check_contrib(
        "RotaryEmbedding",
        [four, np.array([2]), *tables],
        constant=(1, 2, 3),
        interleaved=interleaved,
    )


MASKS = [
    None,
    np.array([3, 5], np.int32),
    np.array([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0]], np.int32),
    np.tril(np.ones((B, S, S), np.int32)),
]


@pytest.mark.parametrize("mask", MASKS, ids=lambda item: str(None if item is None else item.ndim))
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_contrib_attention(mask: Array | None, unidirectional: int) -> None:
    """With the products in front; every form of mask; causal; a bias that is added."""
    weights, bias = normal(6, 3 * N * H), normal(3 * N * H, seed=1)
    x = normal(B, S, 6, seed=2)
    options: dict[str, Any] = {"num_heads": N, "unidirectional": unidirectional}
    check_contrib("Attention", [x, weights, bias, mask], constant=(1, 2), **options)
    added = normal(B, N, S, S, seed=4)
    check_contrib("Attention", [x, weights, bias, mask, None, added], constant=(1, 2), **options)


def test_contrib_attention_with_past() -> None:
    """Keys and values of earlier calls, packed into one tensor."""
    weights, bias = normal(6, 3 * N * H), normal(3 * N * H, seed=1)
    past = normal(2, B, N, 3, H, seed=3)
    check_contrib(
        "Attention",
        [normal(B, S, 6, seed=2), weights, bias, None, past],
        outputs=2,
        constant=(1, 2),
        num_heads=N,
        unidirectional=1,
    )


@pytest.mark.parametrize(
    "mask", MASKS[:3], ids=lambda item: str(None if item is None else item.ndim)
)
def test_multi_head_attention(mask: Array | None) -> None:
    """Queries, keys and values apart, with bias; keys longer than queries."""
    bias = normal(3 * N * H, seed=9)
    check_contrib("MultiHeadAttention", [Q, K, V, bias, mask], constant=(3,), num_heads=N)
    longer = [normal(B, 7, N * H, seed=n) for n in (1, 2)]
    check_contrib("MultiHeadAttention", [Q, *longer], num_heads=N, scale=0.2)


@pytest.mark.parametrize("packs_all", [False, True])
def test_packed_heads(packs_all: bool) -> None:
    """Keys and values (or all three) in one tensor: the same as apart, which ONNX Runtime runs."""
    names = ["q", "k", "v"]
    apart = graph_model(
        [helper.make_node("MultiHeadAttention", names, ["y"], domain="com.microsoft", num_heads=N)],
        dict(zip(names, (Q, K, V), strict=True)),
        ["y"],
        domains={"com.microsoft": 1},
    )
    expected = run_onnxruntime(apart, {"q": Q, "k": K, "v": V})
    parts = [item.reshape(B, S, N, H) for item in ((Q, K, V) if packs_all else (K, V))]
    given = {"p": np.stack(parts, axis=3)} if packs_all else {"q": Q, "p": np.stack(parts, axis=3)}
    node = helper.make_node(
        "MultiHeadAttention", list(given), ["y"], domain="com.microsoft", num_heads=N
    )
    model = graph_model([node], given, ["y"], domains={"com.microsoft": 1})
    assert_close(evaluate(imported(model), given).outputs, expected)


def test_multi_head_attention_with_past() -> None:
    """Earlier keys and values, which come back longer."""
    past = [normal(B, N, 2, H, seed=n) for n in (7, 8)]
    check_contrib("MultiHeadAttention", [Q, K, V, None, None, None, *past], outputs=3, num_heads=N)
