"""What step it is and where the recording ended, as values of the step graph, and what follows.

They are states of the graph, so that snapshots and resets take them along like all others. A graph
in which nothing is late and nothing comes behind the end has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgelstm.signature import CLOCK, END, NO_END
from edgelstm_compiler.ir.graph import State
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Compare,
    Comparison,
    Connective,
    Logic,
    Where,
)
from edgelstm_compiler.ir.time import Time
from edgelstm_compiler.ir.types import Constant, Value

if TYPE_CHECKING:
    from edgelstm_compiler.streaming.builder import StepBuilder

_WRAP = 1 << 30


class Clock:
    """Numbers and truth values of shape (1,), each computed once a step.

    Args:
        builder: gets the nodes and states.
        drains: steps follow behind the last frame, in which values may have no element any more.
    """

    def __init__(self, builder: StepBuilder, *, drains: bool) -> None:
        self._builder = builder
        self.drains = drains
        self._known: dict[str, Value] = {}
        self._strides: set[int] = {1}
        self._states: dict[str, Value] = {}

    def ticks(self, time: Time) -> Value | None:
        """Whether this step would have an element, had the recording no end; None: always."""
        return self._both(self.has_begun(time), self._is_on_time(time))

    def lives(self, time: Time) -> Value | None:
        """Whether the element of this step is one of the recording, not behind it; None: always."""
        if not self.drains:
            return None
        return self._compare(
            Comparison.LESS_OR_EQUAL, self.frame(), self._plus(self.end(), time.slack + time.delay)
        )

    def has(self, time: Time) -> Value | None:
        """Whether this step has an element; None: always."""
        return self._both(self.ticks(time), self.lives(time))

    def index(self, time: Time) -> Value:
        """The number of the newest element, at least 0."""
        self._strides.add(time.stride)
        passed = self._over(self._plus(self.frame(), -time.delay), time.stride)
        return self._arithmetic(Arithmetic.MAX, passed, self.number(0))

    def count(self, time: Time) -> Value:
        """How many elements of the recording there were so far, at least 1."""
        self._strides.add(time.stride)
        newest = self.frame()
        if self.drains:
            last = self._plus(self.end(), time.slack + time.delay)
            newest = self._arithmetic(Arithmetic.MIN, newest, last)
        passed = self._over(self._plus(newest, -time.delay), time.stride)
        return self._plus(self._arithmetic(Arithmetic.MAX, passed, self.number(0)), 1)

    def total(self, time: Time) -> Value:
        """How many elements the recording has in all: past any number before its end is known."""
        return self._plus(self._over(self._plus(self.end(), time.slack), time.stride), 1)

    def frame(self) -> Value:
        """The number of this step."""
        return self._state(CLOCK)

    def end(self) -> Value:
        """Frames of the recording, `NO_END` before that is known."""
        return self._state(END)

    def show(self, tail: int) -> None:
        """Count frames, for those who ask which outputs are new; and know the end, where one is."""
        self.frame()
        if tail:
            self.end()

    def states(self, strides: list[int]) -> list[State]:
        """The states in use, with what they are in the next step.

        Args:
            strides: of the outputs.
        """
        self._strides.update(strides)
        states = []
        for name, read in self._states.items():
            write, init = read, NO_END
            if name == CLOCK:
                # Wrapped by a whole number of all periods, long before 32 bits are over.
                period = _WRAP // 2 // math.lcm(*self._strides) * math.lcm(*self._strides)
                later = self._plus(read, 1)
                is_late = self._compare(Comparison.GREATER_OR_EQUAL, later, self.number(_WRAP))
                write = self._builder.compute(Where(), is_late, self._plus(later, -period), later)
                init = 0
            data = Constant.of("", np.full(1, init, np.int32)).data
            states.append(State(name, read.type, data, read, write))
        return states

    def number(self, value: int) -> Value:
        """A constant."""
        data = np.full(1, value, np.int32)
        return self._once(
            f"clock.{value}", lambda: self._builder.add_constant(f"clock.{value}", data)
        )

    def both(self, a: Value | None, b: Value | None) -> Value | None:
        """Whether both hold; None holds always."""
        return self._both(a, b)

    def below(self, a: Value, b: Value) -> Value:
        """Whether one number is below another."""
        return self._compare(Comparison.LESS, a, b)

    def minus(self, a: Value, b: Value) -> Value:
        """The difference of two numbers."""
        return self._arithmetic(Arithmetic.SUB, a, b)

    def plus(self, a: Value, number: int) -> Value:
        """A number and a constant."""
        return self._plus(a, number)

    def least(self, a: Value, b: Value) -> Value:
        """The smaller of two numbers."""
        return self._arithmetic(Arithmetic.MIN, a, b)

    def most(self, a: Value, b: Value) -> Value:
        """The larger of two numbers."""
        return self._arithmetic(Arithmetic.MAX, a, b)

    def has_begun(self, time: Time) -> Value | None:
        """Whether this is no step before the first element; None: it never is."""
        if time.delay <= 0:
            return None
        return self._compare(Comparison.GREATER_OR_EQUAL, self.frame(), self.number(time.delay))

    def _is_on_time(self, time: Time) -> Value | None:
        if time.stride == 1:
            return None
        self._strides.add(time.stride)
        passed = self._plus(self.frame(), -time.delay)
        whole = self._arithmetic(
            Arithmetic.MUL, self._over(passed, time.stride), self.number(time.stride)
        )
        return self._compare(Comparison.EQUAL, whole, passed)

    def _state(self, name: str) -> Value:
        if name not in self._states:
            kind = Constant.of("", np.zeros(1, np.int32)).value.type
            self._states[name] = Value(self._builder.fresh_name(name), kind)
        return self._states[name]

    def _plus(self, value: Value, number: int) -> Value:
        if number == 0:
            return value
        return self._arithmetic(Arithmetic.ADD, value, self.number(number))

    def _over(self, value: Value, number: int) -> Value:
        if number == 1:
            return value
        return self._arithmetic(Arithmetic.DIV, value, self.number(number))

    def _arithmetic(self, kind: Arithmetic, a: Value, b: Value) -> Value:
        return self._once(
            f"{kind.value} {a.name} {b.name}", lambda: self._builder.compute(Binary(kind), a, b)
        )

    def _compare(self, kind: Comparison, a: Value, b: Value) -> Value:
        return self._once(
            f"{kind.value} {a.name} {b.name}", lambda: self._builder.compute(Compare(kind), a, b)
        )

    def _both(self, a: Value | None, b: Value | None) -> Value | None:
        if a is None or b is None:
            return b if a is None else a
        return self._once(
            f"and {a.name} {b.name}",
            lambda: self._builder.compute(Logic(Connective.AND), a, b),
        )

    def _once(self, key: str, make: Callable[[], Value]) -> Value:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]
