"""The modes as the compiler sees them, one in each file; here is the table of them."""

from __future__ import annotations

from edgelstm.errors import ModelError
from edgelstm_compiler.streaming.modes.base import CompileMode, ModeRequest, Windows
from edgelstm_compiler.streaming.modes.call import CALL
from edgelstm_compiler.streaming.modes.lookahead import LOOKAHEAD
from edgelstm_compiler.streaming.modes.stream import STREAM
from edgelstm_compiler.streaming.modes.window import WINDOW

__all__ = ["MODES", "CompileMode", "ModeRequest", "Windows", "compile_mode"]

MODES: dict[str, CompileMode] = {mode.name: mode for mode in (STREAM, CALL, WINDOW, LOOKAHEAD)}
"""By name, in the order in which `inspect` tries them."""


def compile_mode(name: str, request: ModeRequest | None = None) -> CompileMode:
    """The mode of this name, with what is asked of it.

    Raises:
        ModelError: there is none, or it has no such thing.
    """
    mode = MODES.get(name)
    if mode is None:
        raise ModelError(f"there is no mode {name!r}; there are {', '.join(MODES)}")
    return mode.asked(request or ModeRequest())
