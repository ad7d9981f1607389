"""Static shapes of the inputs, from the model and from what the caller gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgelstm.errors import ShapeError
from edgelstm_compiler.onnx_import.read import InputInfo


def resolve_shapes(
    inputs: Sequence[InputInfo], given: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    """One static shape for each input.

    A symbolic extent that one input settles ("batch") is settled for all of them.

    Raises:
        ShapeError: an extent is not known, contradicts the model, or is not positive.
    """
    names = [item.name for item in inputs]
    for name in given:
        if name not in names:
            known = ", ".join(names) or "none"
            raise ShapeError(f"a shape is given for '{name}'; the inputs of the model are: {known}")
    symbols: dict[str, tuple[int, str]] = {}
    for item in inputs:
        if item.name in given:
            _check_given(item, tuple(int(extent) for extent in given[item.name]), symbols)
    shapes = {}
    for item in inputs:
        if item.name in given:
            shape: tuple[int | str | None, ...] = tuple(int(e) for e in given[item.name])
        elif item.dims is None:
            raise ShapeError(
                f"the model does not say how many axes the input '{item.name}' has; give its "
                f"shape, e.g. --shape {item.name}=1,30,6"
            )
        else:
            shape = tuple(
                symbols[dim][0] if isinstance(dim, str) and dim in symbols else dim
                for dim in item.dims
            )
        extents = [extent for extent in shape if isinstance(extent, int)]
        if len(extents) != len(shape):
            dims = ", ".join("?" if dim is None else str(dim) for dim in item.dims or ())
            raise ShapeError(
                f"the input '{item.name}' has the dynamic shape ({dims}); give all of it, "
                f"e.g. --shape {item.name}={_example(shape)}"
            )
        if any(extent < 1 for extent in extents):
            raise ShapeError(
                f"the input '{item.name}' has the shape {tuple(extents)}, which holds no elements"
            )
        shapes[item.name] = tuple(extents)
    return shapes


def _check_given(
    item: InputInfo, shape: tuple[int, ...], symbols: dict[str, tuple[int, str]]
) -> None:
    text = ",".join(map(str, shape))
    if item.dims is None:
        return
    if len(shape) != len(item.dims):
        raise ShapeError(
            f"--shape {item.name}={text} has {len(shape)} axes, the model's input has "
            f"{len(item.dims)}: {item}"
        )
    for axis, (extent, dim) in enumerate(zip(shape, item.dims, strict=True)):
        if isinstance(dim, int) and dim != extent:
            raise ShapeError(
                f"--shape {item.name}={text} says {extent} for axis {axis}, the model says {dim}: "
                f"{item}; export the model with that axis dynamic, or give {dim}"
            )
        if isinstance(dim, str):
            other, owner = symbols.setdefault(dim, (extent, item.name))
            if other != extent:
                raise ShapeError(
                    f"--shape {item.name}={text} says {extent} for '{dim}', and '{owner}' says "
                    f"{other}"
                )


_TIME_WORDS = ("time", "seq", "frame", "step", "len")


def _example(shape: Sequence[int | str | None]) -> str:
    """A shape to show: batch 1, and 30 frames for the next unknown axes."""
    found = []
    for axis, extent in enumerate(shape):
        if isinstance(extent, int):
            found.append(extent)
        else:
            name = extent.lower() if isinstance(extent, str) else ""
            is_time = name == "t" or any(word in name for word in _TIME_WORDS)
            is_batch = "batch" in name or (axis == 0 and not is_time)
            found.append(1 if is_batch else 30)
    return ",".join(map(str, found))
