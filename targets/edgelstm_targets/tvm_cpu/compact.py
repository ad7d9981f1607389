"""Small code for microcontrollers, out of an optimizer that TVM cannot tell to save space.

LLVM unrolls every loop four times for processors of ARM's M profile, unless a function wants to be
small; TVM marks no function so. The optimizer is therefore told that the processor is of another
profile, and code generation hears the truth, and that functions are to be small.
"""

from __future__ import annotations

import re

OTHER_PROFILE = "-mclass"
"""LLVM feature that loops are optimized with; `compacted` takes it back."""

NEAR_PAIRS = ("-arm-prera-ldst-opt-reorder-limit:uint=2",)
"""LLVM option: two loads become one instruction where they are neighbours already. Moving them
together takes registers that inner loops do not have."""

_FEATURE = re.compile(
    r'"target-features"="-mclass" ?|(\\22)?,(\\22)?-mclass|(?<=\[)\\22-mclass\\22'
)
_ALLOCA = re.compile(r"(= alloca [^\n]*, align) (?:16|32|64)\b")
_ATTRIBUTES = re.compile(r"^attributes (#\d+) = \{", re.M)


def compacted(listing: str, *, has_vectors: bool) -> str:
    """An optimized module as code generation is to see it.

    Args:
        listing: LLVM IR of a module that was optimized with `OTHER_PROFILE` as its last feature.
        has_vectors: vectors may stand on the stack; else nothing there is aligned to more than its
            words, which would cost every function with an array a register and moves.
    """
    if not has_vectors:
        listing = _ALLOCA.sub(r"\1 8", listing)
    return _ATTRIBUTES.sub(r"attributes \1 = { optsize", _FEATURE.sub("", listing))
