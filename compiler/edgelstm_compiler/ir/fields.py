"""An operator's fields as plain data, and back: what manifests, text forms and NumPy share."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.cells import CELLS
from edgelstm_compiler.ir.ops import OPERATORS, Int8Recurrent, IntegerRecurrent, Recurrent
from edgelstm_compiler.ir.ops.recurrent import P
from edgelstm_compiler.ir.types import Op

KINDS: tuple[type[Op], ...] = (*OPERATORS, *CELLS)
"""Every operator that text forms may name."""

_BY_KIND: dict[str, type[Op]] = {operator.__name__: operator for operator in KINDS}
_SILENT = {"kept": None, "h_exponent": 0}
"""Fields that came later, and what they are where nothing is said of them."""
_HINTS = {cls: get_type_hints(cls) for cls in (*KINDS, Activation)}


def op_fields(op: Op) -> dict[str, Any]:
    """The fields as JSON data: enums by value, activations as objects, tuples as lists.

    An operator inside of another is an object of one entry: its kind, and its fields.
    """
    return _said(op, field_names(type(op)))


def executed(op: Op, inputs: Sequence[object]) -> tuple[str, dict[str, Any]]:
    """The kind and fields that `edgelstm.engines.numpy_ops.apply` computes; cells as data.

    Args:
        op: the operator.
        inputs: its inputs, None where one is absent.
    """
    layer = op if isinstance(op, Recurrent) else getattr(op, "cell", None)
    if not isinstance(layer, Recurrent):
        return op.kind, op_fields(op)
    has_p = len(inputs) > P and inputs[P] is not None
    shared = _said(layer, field_names(Recurrent))
    cell = layer.cell(peepholes=has_p)
    if isinstance(op, Recurrent):
        return Recurrent.__name__, {**shared, "cell": cell}
    assert isinstance(op, (Int8Recurrent, IntegerRecurrent))
    if isinstance(op, IntegerRecurrent):
        cell = op.integer_cell(peepholes=has_p)
    return op.kind, {**shared, **op_fields(op), "cell": cell}


def _said(op: Op, names: Sequence[str]) -> dict[str, Any]:
    """Those fields; some only where they say something, as in all of older texts and programs."""
    fields = {name: getattr(op, name) for name in names}
    return {k: plain(v) for k, v in fields.items() if k not in _SILENT or v != _SILENT[k]}


def make_op(kind: str, fields: Mapping[str, Any]) -> Op:
    """The operator of that kind with those fields, as `op_fields` wrote them.

    Raises:
        KeyError: no such operator or field.
        ValueError: a value that does not fit its field.
    """
    cls = _BY_KIND[kind]
    return cls(**_typed_fields(cls, fields))


def field_names(cls: type[Any]) -> tuple[str, ...]:
    """Names of a dataclass' fields in order."""
    return tuple(field.name for field in dataclasses.fields(cls))


def plain(value: Any) -> Any:
    """A field's value as JSON data; `typed` reads it back."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Op):
        return {value.kind: op_fields(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in field_names(type(value))}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def _typed_fields(cls: type[Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    hints = _HINTS[cls] if cls in _HINTS else get_type_hints(cls)
    return {name: typed(hints[name], value) for name, value in fields.items()}


def typed(hint: Any, value: Any) -> Any:
    """A value of the type that a field is annotated with, from JSON data.

    Raises:
        ValueError: it does not fit.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
        return typed(inner, value)
    if origin is tuple:
        return tuple(typed(get_args(hint)[0], item) for item in value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if isinstance(hint, type) and issubclass(hint, Op):
        ((kind, fields),) = value.items()
        return make_op(kind, fields)
    if dataclasses.is_dataclass(hint):
        return hint(**_typed_fields(hint, value))  # type: ignore[arg-type, operator]
    if hint not in (bool, int, float):
        return value
    # JSON knows no difference between 1 and 1.0, but true is no number.
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise ValueError(f"{value!r} is not of type {hint.__name__}")
    return hint(value)
