"""An operator's fields as plain data, and back: what manifests, text forms and NumPy share."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.ops import OPERATORS
from edgelstm_compiler.ir.types import Op

_BY_KIND: dict[str, type[Op]] = {operator.__name__: operator for operator in OPERATORS}
_HINTS = {cls: get_type_hints(cls) for cls in (*OPERATORS, Activation)}


def op_fields(op: Op) -> dict[str, Any]:
    """The fields as JSON data: enums by value, activations as objects, tuples as lists."""
    return {name: plain(getattr(op, name)) for name in field_names(type(op))}


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
    if dataclasses.is_dataclass(hint):
        return hint(**_typed_fields(hint, value))  # type: ignore[arg-type, operator]
    if hint not in (bool, int, float):
        return value
    # JSON knows no difference between 1 and 1.0, but true is no number.
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise ValueError(f"{value!r} is not of type {hint.__name__}")
    return hint(value)
