"""Turns instructions into Python functions of the threads that execute them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.cuda.emulator.arithmetic import (
    COMPARISONS,
    LOGIC,
    TYPES,
    convert,
    function_of,
    pack_halves,
)
from tests.cuda.emulator.memory import GlobalMemory, SharedMemory, bytes_at, read, write
from tests.cuda.emulator.program import Instruction, Program

Array = NDArray[Any]
Execute = Callable[[Array], None]
Fetch = Callable[[Array], Any]
_ADDRESS = re.compile(r"\[([%\w.$]+)\s*(?:\+?\s*(-?\d+))?\]")
_REGISTER_TYPES = {"pred": np.bool_, "b16": np.uint16, "b32": np.uint32, "b64": np.uint64}


class UnknownInstructionError(Exception):
    """The emulator has no such instruction."""


class Registers:
    """The registers of all threads, one array for each name."""

    def __init__(self, program: Program, threads: int, rng: np.random.Generator) -> None:
        self.arrays: dict[str, Array] = {}
        for name, kind in program.registers.items():
            dtype = _REGISTER_TYPES.get(kind) or TYPES[kind]
            noise = rng.integers(0, 2, threads, np.uint8)
            self.arrays[name] = noise.astype(dtype)


class Context:
    """What instructions act on.

    Args:
        program: the kernel.
        registers: of all threads.
        specials: arrays of %tid.x and the like.
        parameters: values by name.
        memory: global memory.
        shared: shared memory.
        blocks: the block of every thread.
        clock: nanoseconds by now.
    """

    def __init__(
        self,
        program: Program,
        registers: Registers,
        specials: dict[str, Array],
        parameters: dict[str, int],
        memory: GlobalMemory,
        shared: SharedMemory,
        blocks: Array,
        clock: Callable[[], int],
    ) -> None:
        self.program = program
        self.registers = registers.arrays
        self.specials = specials
        self.parameters = parameters
        self.memory = memory
        self.shared = shared
        self.blocks = blocks
        self.clock = clock

    def fetch(self, operand: str, kind: str) -> Fetch:
        """How an operand is read as a type."""
        dtype = TYPES[kind]
        if operand in self.registers:
            register = self.registers[operand]
            if register.dtype == np.dtype(dtype):
                return lambda idx: register[idx]
            if register.dtype.itemsize == np.dtype(dtype).itemsize:
                view = register.view(dtype)
                return lambda idx: view[idx]
            unsigned = TYPES[f"u{np.dtype(dtype).itemsize * 8}"]
            return lambda idx: register[idx].astype(unsigned).view(dtype)
        if operand == "%globaltimer":
            return lambda idx: np.full(len(idx), self.clock(), dtype)
        if operand in self.specials:
            special = self.specials[operand].astype(dtype)
            return lambda idx: special[idx]
        if operand in self.program.shared:
            place = dtype(self.program.shared[operand])
            return lambda idx: np.full(len(idx), place)
        value = _immediate(operand, dtype)
        return lambda idx: np.full(len(idx), value)

    def store(self, operand: str, idx: Array, values: Array) -> None:
        """Write a result into a register of the same or another width."""
        if operand == "_":
            return
        register = self.registers[operand]
        data = np.asarray(values)
        if data.dtype == register.dtype:
            register[idx] = data
        elif data.dtype.itemsize == register.dtype.itemsize:
            register[idx] = data.view(register.dtype)
        else:  # loads of narrow types extend
            register[idx] = data.astype(np.int64 if data.dtype.kind == "i" else np.uint64).astype(
                register.dtype
            )


def compile_instruction(context: Context, instruction: Instruction) -> Execute:
    """The function of an instruction that is no control flow.

    Raises:
        UnknownInstructionError: it is not known.
    """
    execute = _unguarded(context, instruction)
    if not instruction.guard:
        return execute
    guard, negated = context.registers[instruction.guard], instruction.negated

    def guarded(idx: Array) -> None:
        taken = idx[guard[idx] != negated]
        if taken.size:
            execute(taken)

    return guarded


def _unguarded(context: Context, instruction: Instruction) -> Execute:
    parts, operands = instruction.parts, instruction.operands
    name, kind = parts[0], parts[-1]
    if name == "ld":
        return _load(context, parts, operands)
    if name == "st":
        return _store(context, parts, operands)
    if name == "mapa":
        return _map_peer(context, operands)
    if name in ("fence", "membar"):
        return _fence(context, parts)
    if name == "nanosleep":
        return lambda idx: time.sleep(0)  # the host's thread may go on
    if name == "setp":
        return _compare(context, parts, operands)
    if name == "selp":
        return _select(context, kind, operands)
    if name == "cvt" and parts[-2] == "f16x2":
        high, low = (context.fetch(word, kind) for word in operands[1:])
        return lambda idx: context.store(operands[0], idx, pack_halves(high(idx), low(idx)))
    if name == "cvt":
        source = context.fetch(operands[1], kind)
        target = TYPES[parts[-2]]
        return lambda idx: context.store(operands[0], idx, convert(source(idx), target, parts))
    if kind == "pred":
        inputs = [_predicate(context, word) for word in operands[1:]]
        logic = LOGIC[name]
        return lambda idx: context.store(operands[0], idx, logic(*(f(idx) for f in inputs)))
    if name == "mov" and (operands[0].startswith("{") or operands[1].startswith("{")):
        return _move_parts(context, kind, operands)
    if name == "mma":
        raise UnknownInstructionError("mma is executed by the warp")
    function = function_of(parts)
    if function is None:
        raise UnknownInstructionError(instruction.text)
    kinds = [kind] * (len(operands) - 1)
    if name in ("shl", "shr"):
        kinds[1] = "u32"
        kinds[0] = kind.replace("b", "u")
    if name == "bfi":
        kinds[2:] = ["u32", "u32"]
    if "wide" in parts and name in ("mad", "fma"):
        kinds[2] = kind[0] + "64"
    fetches = [context.fetch(word, each) for word, each in zip(operands[1:], kinds, strict=True)]
    return lambda idx: context.store(operands[0], idx, function(*(f(idx) for f in fetches)))


def _predicate(context: Context, operand: str) -> Fetch:
    if operand in context.registers:
        register = context.registers[operand]
        return lambda idx: register[idx]
    value = int(operand, 0) != 0
    return lambda idx: np.full(len(idx), value)


def _address(context: Context, operand: str) -> Fetch:
    found = _ADDRESS.match(operand)
    if found is None:
        raise UnknownInstructionError(operand)
    base, offset = found.group(1), int(found.group(2) or 0)
    fetch = context.fetch(base, "u64")
    return lambda idx: fetch(idx).astype(np.int64) + offset


def _words(operand: str) -> list[str]:
    return [word.strip() for word in operand.strip("{}").split(",")]


def _space(parts: tuple[str, ...]) -> str:
    for part in parts:
        space = part.split("::")[0]
        if space in ("param", "global", "shared"):
            return space
    raise UnknownInstructionError(".".join(parts))


def _places(context: Context, space: str, idx: Array, addresses: Array, size: int) -> Array:
    if space == "global":
        return context.memory.places(addresses, size)
    return context.shared.places(addresses, context.blocks[idx], size)


def _load(context: Context, parts: tuple[str, ...], operands: tuple[str, ...]) -> Execute:
    space, dtype = _space(parts), TYPES[parts[-1]]
    if space == "param":
        found = _ADDRESS.match(operands[1])
        assert found is not None
        value = context.parameters[found.group(1)]
        size = np.dtype(dtype).itemsize
        raw = np.frombuffer((value & ((1 << 8 * size) - 1)).to_bytes(size, "little"), dtype)
        return lambda idx: context.store(operands[0], idx, np.repeat(raw, len(idx)))
    targets = _words(operands[0])
    address = _address(context, operands[1])
    item = np.dtype(dtype).itemsize
    data = context.memory.data if space == "global" else context.shared.data
    is_host_scope = space == "global" and ("sys" in parts or "volatile" in parts)

    def execute(idx: Array) -> None:
        at = _places(context, space, idx, address(idx), item * len(targets))
        if is_host_scope:
            context.memory.acquire(None if "acquire" in parts else bytes_at(at, item))
        for k, target in enumerate(targets):
            context.store(target, idx, read(data, at + k * item, dtype))

    return execute


def _store(context: Context, parts: tuple[str, ...], operands: tuple[str, ...]) -> Execute:
    space, dtype = _space(parts), TYPES[parts[-1]]
    sources = [context.fetch(word, parts[-1]) for word in _words(operands[1])]
    address = _address(context, operands[0])
    item = np.dtype(dtype).itemsize
    data = context.memory.data if space == "global" else context.shared.data
    is_global = space == "global"
    is_host_scope = is_global and ("sys" in parts or "volatile" in parts)

    def execute(idx: Array) -> None:
        at = _places(context, space, idx, address(idx), item * len(sources))
        if "release" in parts and is_host_scope:
            context.memory.release()
        for k, source in enumerate(sources):
            write(data, at + k * item, source(idx).astype(dtype, copy=False))
        if is_global:
            context.memory.note_store(bytes_at(at, item * len(sources)))
        if is_host_scope:
            context.memory.release(bytes_at(at, item))

    return execute


def _fence(context: Context, parts: tuple[str, ...]) -> Execute:
    """Only fences towards the host do something: blocks see each other's stores at once."""
    if "sys" not in parts:
        return lambda idx: None

    def execute(idx: Array) -> None:
        context.memory.release()
        context.memory.acquire()

    return execute


def _map_peer(context: Context, operands: tuple[str, ...]) -> Execute:
    address, rank = context.fetch(operands[1], "u32"), context.fetch(operands[2], "u32")
    shift = np.uint32(SharedMemory.PEER_SHIFT)

    def execute(idx: Array) -> None:
        marked = address(idx) | ((rank(idx) + np.uint32(1)) << shift)
        context.store(operands[0], idx, marked)

    return execute


def _compare(context: Context, parts: tuple[str, ...], operands: tuple[str, ...]) -> Execute:
    # An unordered comparison of bits is one of unsigned integers.
    kind = parts[-1].replace("b", "u")
    compare = COMPARISONS[parts[1]]
    a, b = context.fetch(operands[1], kind), context.fetch(operands[2], kind)
    return lambda idx: context.store(operands[0], idx, compare(a(idx), b(idx)))


def _select(context: Context, kind: str, operands: tuple[str, ...]) -> Execute:
    a, b = context.fetch(operands[1], kind), context.fetch(operands[2], kind)
    condition = context.registers[operands[3]]
    return lambda idx: context.store(
        operands[0], idx, np.where(condition[idx], a(idx), b(idx)).astype(TYPES[kind])
    )


def _move_parts(context: Context, kind: str, operands: tuple[str, ...]) -> Execute:
    whole = TYPES[kind]
    half_kind = {"b64": "u32", "b32": "u16"}[kind]
    half = TYPES[half_kind]
    bits = whole(np.dtype(half).itemsize * 8)
    if operands[0].startswith("{"):
        low, high = _words(operands[0])
        source = context.fetch(operands[1], kind)

        def split(idx: Array) -> None:
            values = source(idx)
            context.store(low, idx, values.astype(half))
            context.store(high, idx, (values >> bits).astype(half))

        return split
    parts = [context.fetch(word, half_kind) for word in _words(operands[1])]

    def join(idx: Array) -> None:
        low_part, high_part = (part(idx).astype(whole) for part in parts)
        context.store(operands[0], idx, low_part | (high_part << bits))

    return join


def _immediate(text: str, dtype: Any) -> Any:
    if text.startswith(("0f", "0F")):
        return np.array([int(text[2:], 16)], np.uint32).view(np.float32)[0]
    if text.startswith(("0d", "0D")):
        return np.array([int(text[2:], 16)], np.uint64).view(np.float64)[0]
    if text == "WARP_SZ":
        return dtype(32)
    if np.issubdtype(dtype, np.floating):
        return dtype(float(text))
    bits = np.dtype(dtype).itemsize * 8
    raw = int(text, 0) & ((1 << bits) - 1)
    return np.array([raw], TYPES[f"u{bits}"]).view(dtype)[0]
