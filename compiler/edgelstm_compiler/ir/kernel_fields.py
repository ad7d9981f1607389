"""A kernel's fields as plain data, and back; operators inside of it keep their kind."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgelstm_compiler.ir.fields import field_names, make_op, plain, typed
from edgelstm_compiler.ir.kernels import (
    CopyKernel,
    DenseKernel,
    Kernel,
    OpKernel,
    Phase,
    RecurrentKernel,
)
from edgelstm_compiler.ir.numerics import NUMERICS, Numerics
from edgelstm_compiler.ir.types import Op

KERNELS: tuple[type[Kernel], ...] = (
    RecurrentKernel,
    DenseKernel,
    OpKernel,
    CopyKernel,
)
"""Every kernel that may stand in a Program."""

_BY_KIND = {kernel.__name__: kernel for kernel in KERNELS}
_NUMERICS = {numerics.__name__: numerics for numerics in NUMERICS}
_HINTS = {cls: get_type_hints(cls) for cls in (*KERNELS, *NUMERICS)}


def kernel_fields(kernel: Kernel, phases: dict[tuple[Phase, ...], int]) -> dict[str, Any]:
    """The fields as JSON data.

    Args:
        kernel: of which.
        phases: phases by number; those of this kernel are added and stand in the fields as numbers.
    """
    fields: dict[str, Any] = {}
    for name in field_names(type(kernel)):
        value = getattr(kernel, name)
        if name == "columns" and value == 1:
            continue  # most kernels, and all of older texts
        if name == "phases":
            fields[name] = phases.setdefault(value, len(phases))
        elif isinstance(value, Numerics):
            fields[name] = {type(value).__name__: _plain_fields(value)}
        else:
            fields[name] = plain(value)
    return fields


def make_kernel(
    kind: str, fields: Mapping[str, Any], phases: Mapping[int, tuple[Phase, ...]]
) -> Kernel:
    """The kernel of that kind with those fields, as `kernel_fields` wrote them.

    Raises:
        KeyError: no such kernel, operator, field or phases.
        ValueError: a value that does not fit its field.
    """
    cls = _BY_KIND[kind]
    values: dict[str, Any] = {}
    for name, value in fields.items():
        hint = _HINTS[cls][name]
        if name == "phases":
            values[name] = phases[value]
        elif hint is Numerics:
            ((kind, inner),) = value.items()
            values[name] = _make_numerics(_NUMERICS[kind], inner)
        else:
            values[name] = _typed(hint, value)
    return cls(**values)


def _plain_fields(numerics: Numerics) -> dict[str, Any]:
    return {name: plain(getattr(numerics, name)) for name in field_names(type(numerics))}


def _make_numerics(cls: type[Numerics], fields: Mapping[str, Any]) -> Numerics:
    return cls(**{name: _typed(_HINTS[cls][name], value) for name, value in fields.items()})


def _typed(hint: Any, value: Any) -> Any:
    if not _is_op(hint):
        return typed(hint, value)
    ((kind, inner),) = value.items()
    return make_op(kind, inner)


def _is_op(hint: Any) -> bool:
    """Whether a field holds an operator, or one of several."""
    if get_origin(hint) in (Union, types.UnionType):
        return all(_is_op(inner) for inner in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Op)
