"""Division of 32-bit integers in LLVM IR, for processors without an instruction for it (ARMv6-M).

LLVM then calls a function that C programs find in libgcc; our objects bring their own, as they do
for memcpy and memset (`stubs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

_SIGNED = ("__divsi3", "__aeabi_idiv")

# Long division, one bit of the quotient a turn: %quotient holds what is left of the dividend above
# the bits found. The remainder stays below the divisor, so doubling it does not overflow.
_DIVISION = """\
define internal i32 @{name}(i32 %dividend, i32 %divisor) nounwind {{
entry:
  %signs = xor i32 %dividend, %divisor
  %dividend.below = icmp slt i32 %dividend, 0
  %dividend.minus = sub i32 0, %dividend
  %above = select i1 %dividend.below, i32 %dividend.minus, i32 %dividend
  %divisor.below = icmp slt i32 %divisor, 0
  %divisor.minus = sub i32 0, %divisor
  %below = select i1 %divisor.below, i32 %divisor.minus, i32 %divisor
  br label %turn
turn:
  %left = phi i32 [ 32, %entry ], [ %left.next, %turn ]
  %quotient = phi i32 [ %above, %entry ], [ %quotient.next, %turn ]
  %remainder = phi i32 [ 0, %entry ], [ %remainder.next, %turn ]
  %top = lshr i32 %quotient, 31
  %twice = shl i32 %remainder, 1
  %with.top = or i32 %twice, %top
  %shifted = shl i32 %quotient, 1
  %fits = icmp uge i32 %with.top, %below
  %less = sub i32 %with.top, %below
  %remainder.next = select i1 %fits, i32 %less, i32 %with.top
  %bit = zext i1 %fits to i32
  %quotient.next = or i32 %shifted, %bit
  %left.next = sub i32 %left, 1
  %is.done = icmp eq i32 %left.next, 0
  br i1 %is.done, label %done, label %turn
done:
  %is.negative = icmp slt i32 %signs, 0
  %minus = sub i32 0, %quotient.next
  %result = select i1 %is.negative, i32 %minus, i32 %quotient.next
  ret i32 %result
}}"""


def is_division(name: str) -> bool:
    """Whether `division_functions` provides it."""
    return name in _SIGNED


def division_functions(wanted: Sequence[str]) -> list[str]:
    """Those of the wanted functions that divide, rounding towards zero; by zero: any number."""
    return [_DIVISION.format(name=name) for name in sorted(wanted) if is_division(name)]
