"""Sliding windows over some axes: what convolutions and pooling are made of."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from edgelstm_compiler.ir.ops import Windows
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu.expressions import Element
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Expr


def windows(op: Windows, kind: TensorType) -> Element:
    """X (N, C, *extents) -> (N, *positions, C, *kernel)."""
    rank = len(op.kernel)
    dtype = NAMES[kind.dtype]

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        batch, positions, channel = indices[0], indices[1 : rank + 1], indices[rank + 1]
        offsets = indices[rank + 2 :]
        coordinates, is_inside, is_element = [], [], []
        for s in range(rank):
            extent = kind.shape[s + 2]
            spread = op.spread[s]
            at = positions[s] * op.stride[s] + offsets[s] * op.dilation[s] - op.begin[s]
            if op.begin[s]:
                is_inside.append(at >= 0)
            if op.end[s]:
                is_inside.append(at < (extent - 1) * spread + 1)
            if spread > 1:
                is_element.append(tirx.truncmod(at, spread) == 0)
                at = tirx.truncdiv(at, spread)
            if op.begin[s] or op.end[s]:
                at = tirx.max(0, tirx.min(at, extent - 1))
            coordinates.append(at)
        value = tensors[0][(batch, channel, *coordinates)]
        if is_element:
            value = tirx.Select(tirx.all(*is_element), value, tirx.const(0, dtype))
        if is_inside:
            value = tirx.Select(tirx.all(*is_inside), value, tirx.const(op.fill, dtype))
        return value

    return element
