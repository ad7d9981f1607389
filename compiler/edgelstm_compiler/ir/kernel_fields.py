"""A kernel's fields as plain data, and back; operators inside of it keep their kind."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgelstm_compiler.ir.fields import field_names, make_op, op_fields, plain, typed
from edgelstm_compiler.ir.kernels import (
    CopyKernel,
    DenseKernel,
    Kernel,
    OpKernel,
    Phase,
    RecurrentKernel,
)
from edgelstm_compiler.ir.quantized_kernels import (
    Int8DenseKernel,
    Int8RecurrentKernel,
    IntegerDenseKernel,
    IntegerRecurrentKernel,
    StoredDenseKernel,
    StoredRecurrentKernel,
)
from edgelstm_compiler.ir.types import Op

KERNELS: tuple[type[Kernel], ...] = (
    RecurrentKernel,
    DenseKernel,
    OpKernel,
    CopyKernel,
    StoredRecurrentKernel,
    StoredDenseKernel,
    Int8RecurrentKernel,
    Int8DenseKernel,
    IntegerRecurrentKernel,
    IntegerDenseKernel,
)
"""Every kernel that may stand in a Program."""

_BY_KIND = {kernel.__name__: kernel for kernel in KERNELS}
_HINTS = {kernel: get_type_hints(kernel) for kernel in KERNELS}


def kernel_fields(kernel: Kernel, phases: dict[tuple[Phase, ...], int]) -> dict[str, Any]:
    """The fields as JSON data.

    Args:
        kernel: of which.
        phases: phases by number; those of this kernel are added and stand in the fields as numbers.
    """
    fields: dict[str, Any] = {}
    for name in field_names(type(kernel)):
        value = getattr(kernel, name)
        if name == "phases":
            fields[name] = phases.setdefault(value, len(phases))
        elif isinstance(value, Op):
            fields[name] = {value.kind: op_fields(value)}
        elif isinstance(value, Kernel):
            fields[name] = kernel_fields(value, phases)
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
    return _make(_BY_KIND[kind], fields, phases)


def _make(
    cls: type[Kernel], fields: Mapping[str, Any], phases: Mapping[int, tuple[Phase, ...]]
) -> Kernel:
    values: dict[str, Any] = {}
    for name, value in fields.items():
        hint = _HINTS[cls][name]
        if name == "phases":
            values[name] = phases[value]
        elif _is_op(hint):
            ((kind, inner),) = value.items()
            values[name] = make_op(kind, inner)
        elif isinstance(hint, type) and issubclass(hint, Kernel):
            values[name] = _make(hint, value, phases)
        else:
            values[name] = typed(hint, value)
    return cls(**values)


def _is_op(hint: Any) -> bool:
    """Whether a field holds an operator, or one of several."""
    if get_origin(hint) in (Union, types.UnionType):
        return all(_is_op(inner) for inner in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Op)
