"""The option `ram` of microcontrollers: what the board has for a model, "64K" or in bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgelstm.errors import CapabilityError

OPTION = "ram"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


def ram_bytes(raw: Mapping[str, str]) -> int | None:
    """The option's value; None where it is not given.

    Raises:
        CapabilityError: it is no number of bytes.
    """
    value = raw.get(OPTION)
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,12})([KM]?)B?", value, re.ASCII | re.IGNORECASE)
    size = 0 if found is None else int(found[1]) * _UNITS[found[2].upper()]
    if size < 1:
        raise CapabilityError(f"option {OPTION} is {value!r}; expected bytes, such as 65536 or 64K")
    return size
