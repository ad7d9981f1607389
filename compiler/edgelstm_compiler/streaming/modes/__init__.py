"""The modes as the compiler sees them, one in each file; here is the table of them."""

from __future__ import annotations

from edgelstm.errors import ModelError
from edgelstm_compiler.streaming.modes.base import CompileMode
from edgelstm_compiler.streaming.modes.call import CALL
from edgelstm_compiler.streaming.modes.stream import STREAM

__all__ = ["MODES", "CompileMode", "compile_mode"]

MODES: dict[str, CompileMode] = {mode.name: mode for mode in (STREAM, CALL)}
"""By name, in the order in which `inspect` tries them."""


def compile_mode(name: str) -> CompileMode:
    """The mode of this name.

    Raises:
        ModelError: there is none.
    """
    mode = MODES.get(name)
    if mode is None:
        raise ModelError(f"there is no mode {name!r}; there are {', '.join(MODES)}")
    return mode
