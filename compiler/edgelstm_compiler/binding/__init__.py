"""Gives every free dimension of a model a number: time, batch, or what the user must tell."""

from edgelstm_compiler.binding.attention import AttentionBound, bound_of, bounded, seen_frames
from edgelstm_compiler.binding.bind import (
    Admit,
    Binding,
    bind_call,
    bind_states,
    bind_stream,
    bind_window,
    time_axes,
)

__all__ = [
    "Admit",
    "AttentionBound",
    "Binding",
    "bind_call",
    "bind_states",
    "bind_stream",
    "bind_window",
    "bound_of",
    "bounded",
    "seen_frames",
    "time_axes",
]
