"""The option `streams` of CPU targets: whether there is code that steps many streams at once."""

from __future__ import annotations

import os
from collections.abc import Mapping

from edgelstm.errors import CapabilityError

OPTION = "streams"
_ENVIRONMENT = "EDGELSTM_STREAMS"
"""Environment variable with the default: "no" saves most of the time that compiling takes."""


def has_streams(raw: Mapping[str, str]) -> bool:
    """The option's value.

    Raises:
        CapabilityError: it is neither "yes" nor "no".
    """
    value = raw.get(OPTION, os.environ.get(_ENVIRONMENT, "yes"))
    if value not in ("yes", "no"):
        raise CapabilityError(f"option {OPTION} is {value!r}; expected 'yes' or 'no'")
    return value == "yes"
