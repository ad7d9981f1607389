"""The free dimensions of a model: trial extents for them, and their own names in messages."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgelstm_compiler.onnx_import.read import InputInfo, OnnxModel
from edgelstm_compiler.onnx_import.tensors import to_array

Shapes = dict[str, tuple[int, ...]]
Key = str | tuple[str, int]
"""A dimension: its name in the model, or input and axis where it has none."""

Trial = dict[Key, int]

# Primes that the model does not hold, so that no product of its extents looks like one of them;
# small enough that a trial of time and batch at once stays below the largest tensor.
_SMALLEST, _PRIMES_AMONG = 211, 389
_MAX_LISTED = 64


def free_keys(inputs: Sequence[InputInfo], given: Mapping[str, Sequence[int]]) -> list[Key]:
    """The free dimensions, those of one name once."""
    keys: list[Key] = []
    for info in inputs:
        keys += [key for _, key in keys_of(info, given) if key not in keys]
    return keys


def keys_of(info: InputInfo, given: Mapping[str, Sequence[int]]) -> Iterator[tuple[int, Key]]:
    """Axis and key of the free dimensions of an input."""
    if info.name in given or info.dims is None:
        return
    for axis, dim in enumerate(info.dims):
        if isinstance(dim, str):
            yield axis, dim
        elif dim is None:
            yield axis, (info.name, axis)


def trial_extents(model: OnnxModel) -> Iterator[int]:
    """Primes that do not divide any extent or small integer of the model.

    They are more than the frames that attention sees.
    """
    first = max(_SMALLEST, (model.attention_context or 0) + 1)
    primes = [
        n
        for n in range(first, first + _PRIMES_AMONG)
        if all(n % d for d in range(2, math.isqrt(n) + 1))
    ]
    held: set[int] = set()
    for tensor in model.body.graph.initializer:
        held.update(tensor.dims)
        data = to_array(tensor) if len(tensor.dims) < 2 else np.zeros(0)
        if data.dtype.kind in "iu" and data.size <= _MAX_LISTED:
            held.update(map(int, data.reshape(-1)))
    for info in model.inputs:
        held.update(dim for dim in info.dims or () if isinstance(dim, int))
    held.discard(0)
    return (n for n in itertools.cycle(primes) if all(number % n for number in held))


def first_trials(
    inputs: Sequence[InputInfo],
    given: Mapping[str, Sequence[int]],
    keys: Sequence[Key],
    primes: Iterator[int],
) -> list[Trial]:
    """All dimensions differ; and those at the same place of inputs are one.

    The second is what exporters write for two inputs over one time.
    """
    differing = {key: next(primes) for key in keys}
    placed = _by_place(inputs, given, differing)
    return [differing] if placed == differing else [differing, placed]


def single_trials(bases: Sequence[Trial]) -> Iterator[Trial]:
    """One dimension is one, as a batch that is baked into the model wants."""
    for base in bases:
        for extent in dict.fromkeys(base.values()):
            yield {key: 1 if found == extent else found for key, found in base.items()}


def next_trials(message: str, trial: Trial, inputs: Sequence[InputInfo]) -> Iterator[Trial]:
    """What a contradiction suggests: two dimensions that it names are one, or one has an extent.

    Args:
        message: of the contradiction.
        trial: that led to it.
        inputs: of the model; dimensions of one input are never one.
    """
    shapes = [
        tuple(int(word) for word in found.split(",") if word.strip())
        for found in re.findall(r"\(((?:\d+, ?)*\d*)\)", message)
    ]
    named = [
        key
        for key, extent in trial.items()
        if extent > 1 and any(n and n % extent == 0 for shape in shapes for n in shape)
    ]
    for a, b in itertools.combinations(named, 2):
        if trial[a] != trial[b] and not _stand_together(a, b, inputs):
            yield {key: trial[a] if e == trial[b] else e for key, e in trial.items()}
    held = set(trial.values())
    for first, second in itertools.permutations(shapes, 2):
        for n, m in zip(first, second, strict=False):
            keys = [key for key in named if trial[key] == n]
            if len(first) == len(second) and keys and m > 1 and all(m % e for e in held if e > 1):
                yield {key: m if e == n else e for key, e in trial.items()}


def _stand_together(a: Key, b: Key, inputs: Sequence[InputInfo]) -> bool:
    """Whether one input has both dimensions."""
    return any({a, b} <= {key for _, key in keys_of(info, {})} for info in inputs)


def _by_place(
    inputs: Sequence[InputInfo], given: Mapping[str, Sequence[int]], differing: Trial
) -> Trial:
    """The first dimension's extent for all that stand at its axis."""
    first: dict[int, int] = {}
    found = dict(differing)
    for info in inputs:
        for axis, key in keys_of(info, given):
            extent = first.setdefault(axis, found[key])
            if extent not in {found[other] for a, other in keys_of(info, given) if a != axis}:
                found[key] = extent
    return found


def shapes_of(
    inputs: Sequence[InputInfo], given: Mapping[str, Sequence[int]], extents: Mapping[Key, int]
) -> Shapes:
    """The shapes of all inputs that are not static, with these extents."""
    shapes = {name: tuple(shape) for name, shape in given.items()}
    for info in inputs:
        if info.name in given or info.dims is None or info.is_static:
            continue
        chosen = dict(keys_of(info, given))
        shapes[info.name] = tuple(
            extents[chosen[axis]] if axis in chosen else int(dim or 0)
            for axis, dim in enumerate(info.dims)
        )
    return shapes


def in_own_words(message: str, trial: Mapping[Key, int]) -> str:
    """A message with the names of the dimensions in place of the extents tried for them."""
    names: dict[int, str] = {}
    for key, extent in trial.items():
        if extent > 1:
            names.setdefault(extent, key if isinstance(key, str) else f"{key[0]}.{key[1]}")

    def named(match: re.Match[str]) -> str:
        number = int(match.group())
        for extent, name in names.items():
            factor = number // extent
            if number and number % extent == 0:
                rest = 1 if factor == 1 else factor
                inner = next(
                    (other for n, other in names.items() if rest > 1 and rest % n == 0), ""
                )
                if inner:
                    return f"{name}*{inner}"
                return name if factor == 1 else f"{factor}*{name}"
        return match.group()

    return re.sub(r"(?<![\w.])\d{3,}(?![\w.])", named, message)


def shapes_with(
    inputs: Sequence[InputInfo], time: Sequence[tuple[str, int]], frames: int
) -> Shapes:
    """A shape for every input with free dimensions: so many frames along time, else one."""
    return {
        info.name: tuple(
            dim if isinstance(dim, int) else frames if (info.name, axis) in time else 1
            for axis, dim in enumerate(info.dims)
        )
        for info in inputs
        if info.dims is not None and not info.is_static
    }


def shape_options(shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Shapes as on the command line."""
    words: list[str] = []
    for name, shape in shapes.items():
        words += ["--shape", f"{name}={','.join(map(str, shape))}"]
    return tuple(words)


def example_shapes(inputs: Sequence[InputInfo], time: Sequence[tuple[str, int]]) -> str:
    """The options that give every free input a window of 30 frames."""
    return " ".join(shape_options(shapes_with(inputs, time, 30)))
