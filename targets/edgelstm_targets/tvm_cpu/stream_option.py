"""The option `streams` of CPU targets: whether there is code that steps many streams at once."""

from __future__ import annotations

from collections.abc import Mapping

from edgelstm_targets.tvm_cpu.option_default import chosen

OPTION = "streams"
_ENVIRONMENT = "EDGELSTM_STREAMS"
"""Environment variable with the default: "no" saves most of the time that compiling takes."""


def has_streams(raw: Mapping[str, str]) -> bool:
    """The option's value.

    Raises:
        CapabilityError: it is neither "yes" nor "no".
    """
    return chosen(raw, OPTION, _ENVIRONMENT, ("yes", "no")) == "yes"
