"""Models whose states are inputs and outputs: which belong together, and the step made of them."""

from __future__ import annotations

from edgelstm_compiler.streaming.carry.chunking import with_chunks
from edgelstm_compiler.streaming.carry.pairing import Evidence, Pair, Pairing, find_pairs
from edgelstm_compiler.streaming.carry.request import (
    CarryRequest,
    carry_request,
    request_of,
)
from edgelstm_compiler.streaming.carry.steps import Carried, CarriedState, Overlap, carry_steps

__all__ = [
    "Carried",
    "CarriedState",
    "CarryRequest",
    "Evidence",
    "Overlap",
    "Pair",
    "Pairing",
    "carry_request",
    "carry_steps",
    "find_pairs",
    "request_of",
    "with_chunks",
]
