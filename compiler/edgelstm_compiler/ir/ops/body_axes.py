"""Axes that run through a body from frame to frame unmixed: independent streams, mostly."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from edgelstm_compiler.ir.ops.scan import Body

Axis: TypeAlias = "tuple[int, int]"
"""Number of a value of the body, and one of its axes."""


@lru_cache(maxsize=256)
def unmixed_axes(body: Body, states: int) -> tuple[frozenset[Axis], ...]:
    """Classes of axes along which every slice is computed by itself, in all frames.

    Args:
        body: of a Scan.
        states: number of values that it carries.
    """
    types = body.types()
    parent: dict[Axis, Axis] = {}

    def find(axis: Axis) -> Axis:
        while parent.get(axis, axis) != axis:
            axis = parent[axis]
        return axis

    def join(a: Axis, b: Axis) -> None:
        first, second = find(a), find(b)
        if first != second:
            parent[second] = first

    mixed: list[Axis] = []
    at = len(body.inputs)
    for node in body.nodes:
        given = [None if number is None else types[number] for number in node.inputs]
        outputs = node.op.infer(given)
        tied: set[Axis] = set()
        made: set[Axis] = set()
        for tie in node.op.ties(given, outputs):
            source = node.inputs[tie.input] if tie.input < len(node.inputs) else None
            if source is None:
                continue
            tied.add((tie.input, tie.input_axis))
            made.add((tie.output, tie.output_axis))
            join((source, tie.input_axis), (at + tie.output, tie.output_axis))
        for position, number in enumerate(node.inputs):
            if number is not None:
                mixed += [
                    (number, axis)
                    for axis in range(types[number].rank)
                    if (position, axis) not in tied and types[number].shape[axis] > 1
                ]
        mixed += [
            (at + position, axis)
            for position, kind in enumerate(outputs)
            for axis in range(kind.rank)
            if (position, axis) not in made
        ]
        at += len(outputs)
    for position in range(states):
        for axis in range(types[position].rank):
            join((position, axis), (body.outputs[position], axis))
    lost = {find(axis) for axis in mixed}
    classes: dict[Axis, set[Axis]] = {}
    for number, kind in enumerate(types):
        for axis in range(kind.rank):
            root = find((number, axis))
            if root not in lost:
                classes.setdefault(root, set()).add((number, axis))
    return tuple(frozenset(found) for found in classes.values())
