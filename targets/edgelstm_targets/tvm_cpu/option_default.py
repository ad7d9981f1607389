"""Options of targets whose default stands in an environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from edgelstm.errors import CapabilityError


def chosen(raw: Mapping[str, str], option: str, variable: str, values: Sequence[str]) -> str:
    """What an option says; else what the variable says; else the first of the values.

    Raises:
        CapabilityError: it is none of them; whichever of the two said so is named.
    """
    value = raw.get(option, os.environ.get(variable, values[0]))
    if value not in values:
        where = f"option {option}" if option in raw else f"the environment variable {variable}"
        *others, last = map(repr, values)
        raise CapabilityError(f"{where} is {value!r}; expected {', '.join(others)} or {last}")
    return value
