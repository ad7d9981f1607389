"""Runs a kernel on all threads of a grid at once, in order or with warps in random order.

All blocks are resident. In order, every thread that stands at the earliest point of the program
goes on; with a seed, one warp chosen by chance runs for a while, so that a missing barrier shows as
a wrong result or as a deadlock. A block may be late, as blocks of a real grid are: all others run
on, for many frames if nothing holds them, before it moves a little. Threads of a warp that took
different ways meet where PTX says so: at shuffles and barriers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.cuda.emulator.execution import Context, Execute, Registers, compile_instruction
from tests.cuda.emulator.memory import GlobalMemory, MemoryFaultError, SharedMemory
from tests.cuda.emulator.program import Instruction, parse
from tests.cuda.emulator.tensor import multiply

Array = NDArray[Any]
WARP = 32
INSTRUCTION_NS = 10
"""The emulated clock: what an instruction of a group of threads takes."""

PATIENCE, TURN = 20_000, 2_000
"""Instructions that all other blocks execute while one is late, and those of its turn."""

_RUNNING, _AT_BARRIER, _AT_CLUSTER, _AT_WARP = range(4)
_CONTROL = ("bra", "ret", "exit", "bar", "barrier", "shfl", "mma")


class DeadlockError(Exception):
    """Threads wait for each other for ever."""


class EndlessError(Exception):
    """The kernel runs on and on: threads wait for a word that nobody writes."""


@dataclass(frozen=True)
class Launch:
    """How a kernel is started.

    Args:
        grid: blocks.
        block: threads of a block.
        shared_bytes: dynamic shared memory.
        cluster: blocks of a cluster.
    """

    grid: int
    block: int
    shared_bytes: int = 0
    cluster: int = 1


class Machine:
    """One launch of a kernel.

    Args:
        ptx: the text.
        entry: the kernel.
        launch: grid, block and so on.
        arguments: for pointers arrays, or an array and the offset where the pointer points in it;
            integers for the rest. Arrays are written back.
        seed: for random order, or None.
        shared_with_host: arrays that the host reads and writes while the kernel runs.
        late: the block that lags behind all others, or None.
    """

    def __init__(
        self,
        ptx: str,
        entry: str,
        launch: Launch,
        arguments: Sequence[Array | tuple[Array, int] | int],
        seed: int | None = None,
        shared_with_host: Sequence[Array] = (),
        late: int | None = None,
    ) -> None:
        self.late = late
        self.program = parse(ptx, entry)
        self.launch = launch
        threads = launch.grid * launch.block
        if launch.block % WARP or launch.grid % launch.cluster:
            raise ValueError("blocks are whole warps, and grids whole clusters")
        self.rng = np.random.default_rng(0 if seed is None else seed)
        self.is_random = seed is not None
        index = np.arange(threads)
        self.blocks = index // launch.block
        self.memory = GlobalMemory(shared_with_host)
        parameters = {
            name: self._place(value)
            for (_, name), value in zip(self.program.parameters, arguments, strict=True)
        }
        self.memory.load()
        size = self.program.static_bytes + launch.shared_bytes
        shared = SharedMemory(launch.grid, size, launch.cluster)
        specials = {
            "%tid.x": index % launch.block,
            "%ctaid.x": self.blocks,
            "%ntid.x": np.full(threads, launch.block),
            "%nctaid.x": np.full(threads, launch.grid),
            "%laneid": index % WARP,
            "%cluster_ctarank": self.blocks % launch.cluster,
        }
        registers = Registers(self.program, threads, self.rng)
        self.executed = 0
        self.context = Context(
            self.program,
            registers,
            specials,
            parameters,
            self.memory,
            shared,
            self.blocks,
            lambda: self.executed * INSTRUCTION_NS,
        )
        self.pc = np.zeros(threads, np.int64)
        self.laps = np.zeros(threads, np.int64)
        self.state = np.zeros(threads, np.int8)
        self.alive = np.ones(threads, bool)
        self.waiting_at = np.full(threads, -1)
        self.functions: list[Execute | None] = [
            None if each.parts[0] in _CONTROL else compile_instruction(self.context, each)
            for each in self.program.code
        ]
        self.block_ends = self._block_ends()

    def run(self, limit: int = 400_000) -> Machine:
        """Run to the end.

        Args:
            limit: groups of threads that are moved on, at most.

        Raises:
            DeadlockError, EndlessError, MemoryFaultError: what is wrong with the kernel.
        """
        with np.errstate(all="ignore"):
            for _ in range(limit):
                if not self.alive.any():
                    break
                self._advance(self._choose())
            else:
                raise EndlessError(f"{self.program.name}: not done after {limit} groups")
        self.memory.store()
        return self

    def _place(self, value: Array | tuple[Array, int] | int) -> int:
        if isinstance(value, int):
            return value
        array, offset = value if isinstance(value, tuple) else (value, 0)
        return self.memory.place(array) + offset

    def _block_ends(self) -> list[int]:
        """For each instruction, the next one that ends its basic block (a label begins another)."""
        code = self.program.code
        targets = set(self.program.labels.values())
        ends = [0] * len(code)
        end = len(code) - 1
        for index in range(len(code) - 1, -1, -1):
            if code[index].parts[0] in _CONTROL:
                end = index
            ends[index] = end
            if index in targets:
                end = index
        return ends

    def _choose(self) -> Array:
        """The threads that go on: all at one instruction."""
        ready = np.flatnonzero(self.alive & (self.state == _RUNNING))
        if ready.size == 0:
            counts = [int(np.sum(self.alive & (self.state == kind))) for kind in (1, 2, 3)]
            raise DeadlockError(
                f"{self.program.name}: {counts[0]} threads at barriers, {counts[1]} at the "
                f"cluster's, {counts[2]} at a meeting of their warp"
            )
        if self.late is not None:
            is_late = self.blocks[ready] == self.late
            chosen = ready[is_late == (self.executed % (PATIENCE + TURN) >= PATIENCE)]
            ready = chosen if chosen.size else ready
        if self.is_random:
            warp = ready[self.rng.integers(ready.size)] // WARP
            ready = ready[ready // WARP == warp]
        laps = self.laps[ready]
        ready = ready[laps == laps.min()]
        places = self.pc[ready]
        return ready[places == places.min()]

    def _advance(self, idx: Array) -> None:
        """Run one basic block, and the instruction that ends it."""
        start = int(self.pc[idx[0]])
        end = self.block_ends[start]
        at = start
        for at in range(start, end):
            self._execute(at, idx)
        at = end
        code = self.program.code[at]
        self.executed += end - start + 1
        if code.parts[0] not in _CONTROL:
            # The block ends because another begins.
            self.pc[idx] = at
            if at == start:
                self._execute(at, idx)
                self.pc[idx] = at + 1
            return
        self._control(at, code, idx)

    def _execute(self, at: int, idx: Array) -> None:
        function = self.functions[at]
        assert function is not None
        try:
            function(idx)
        except MemoryFaultError as error:
            code = self.program.code[at]
            raise MemoryFaultError(f"{error}, thread {int(idx[0])}: {code.text}") from error

    def _control(self, at: int, code: Instruction, idx: Array) -> None:
        taken = idx
        if code.guard:
            taken = idx[self.context.registers[code.guard][idx] != code.negated]
        name = code.parts[0]
        self.pc[idx] = at + 1
        if name == "bra":
            target = self.program.labels[code.operands[0]]
            self.pc[taken] = target
            if target <= at:
                self.laps[taken] += 1
        elif name in ("ret", "exit"):
            self.alive[taken] = False
            self._release_cluster()
        elif name in ("bar", "barrier") and code.parts[1] == "cluster":
            if code.parts[2] == "wait":
                self.state[taken] = _AT_CLUSTER
                self._release_cluster()
        elif name in ("bar", "barrier"):
            self._barrier(code, taken)
        else:
            self._meet_warp(at, code, taken)

    def _barrier(self, code: Instruction, idx: Array) -> None:
        number = self.context.fetch(code.operands[0], "u32")(idx)
        if len(code.operands) > 1:
            count = int(self.context.fetch(code.operands[1], "u32")(idx)[0])
        else:
            count = self.launch.block
        self.state[idx] = _AT_BARRIER
        self.waiting_at[idx] = number
        for block in np.unique(self.blocks[idx]):
            here = (self.blocks == block) & (self.state == _AT_BARRIER)
            here &= self.waiting_at == int(number[0])
            if here.sum() >= count:
                self.state[here] = _RUNNING

    def _release_cluster(self) -> None:
        size = self.launch.block * self.launch.cluster
        waiting = (self.state == _AT_CLUSTER).reshape(-1, size)
        done = ~self.alive.reshape(-1, size)
        ready = (waiting | done).all(axis=1) & waiting.any(axis=1)
        if ready.any():
            state = self.state.reshape(-1, size)
            state[ready] = np.where(waiting[ready], _RUNNING, state[ready])

    def _meet_warp(self, at: int, code: Instruction, idx: Array) -> None:
        """Shuffles and matrix products wait for the whole warp."""
        self.pc[idx] = at
        self.state[idx] = _AT_WARP
        here = (self.state == _AT_WARP) & (self.pc == at) & self.alive
        whole = np.repeat(here.reshape(-1, WARP).all(axis=1), WARP)
        ready = np.flatnonzero(whole)
        if ready.size == 0:
            return
        self.state[ready] = _RUNNING
        self.pc[ready] = at + 1
        if code.parts[0] == "mma":
            multiply(self.context, code, ready)
        else:
            self._shuffle(code, ready)

    def _shuffle(self, code: Instruction, idx: Array) -> None:
        target = code.operands[0].split("|")[0]
        values = self.context.fetch(code.operands[1], "u32")(idx)
        step = self.context.fetch(code.operands[2], "u32")(idx).astype(np.int64)
        lane = idx % WARP
        source = lane ^ step if code.parts[2] == "bfly" else step % WARP
        places = np.arange(idx.size) - lane + source
        self.context.store(target, idx, values[places])
