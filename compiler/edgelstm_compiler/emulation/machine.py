"""An emulated processor that calls functions of an image. The only place that knows Unicorn."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.errors import (
    ArtifactError,
    ArtifactFormatError,
    InternalError,
    TargetUnavailableError,
)
from edgelstm.install_hint import install_hint
from edgelstm_compiler.elf import AARCH64, ARM, X86_64
from edgelstm_compiler.emulation.image import Image
from edgelstm_compiler.processor import Emulator

NO_UNICORN = f"unicorn is not installed: {install_hint('emulate')}"
_CODE, _DATA, _STACK = 0x0010_0000, 0x2000_0000, 0x6000_0000
_PAGE = 0x1000
_STACK_BYTES = 1 << 20
_RETURN = _CODE - _PAGE  # Cortex-M executes nothing from peripheral addresses
_PAINT = 0xA5
_FPU_ON = 0xF << 20
_FPEXC_ON = 1 << 30
_SSE_ON = 3 << 9


@dataclass(frozen=True, slots=True)
class Word:
    """An argument of 64 bits; a plain int is one of the width of an address."""

    value: int


class Machine:
    """One emulated processor with one image and memory for its data.

    Args:
        image: the code.
        emulator: the model of the processor.

    Raises:
        TargetUnavailableError: Unicorn is missing.
        ArtifactFormatError: the code is for another processor.
    """

    def __init__(self, image: Image, emulator: Emulator) -> None:
        if importlib.util.find_spec("unicorn") is None:
            raise TargetUnavailableError(NO_UNICORN)
        import unicorn

        self._image = image
        if image.machine != emulator.machine:
            raise ArtifactFormatError(
                f"the code is for {image.machine}, its name in the artifact says {emulator.machine}"
            )
        calls = {AARCH64: self._call_64, ARM: self._call_32, X86_64: self._call_x86}
        self._enter_at = calls[emulator.machine]
        self._uc = _MACHINES[emulator.machine](emulator)
        self._next = _DATA
        self._blocks: dict[tuple[int, int], int] = {}
        self._hook: Any = None
        self._count = 0
        self._stack = _STACK
        self._failure = unicorn.UcError
        self._uc.mem_map(_CODE, -(-image.size // _PAGE) * _PAGE)
        for address, data in image.segments:
            self._uc.mem_write(_CODE + address, data)
        self._uc.mem_map(_RETURN, _PAGE)
        self._uc.mem_map(_STACK, _STACK_BYTES)

    def allocate(self, size: int) -> int:
        """The address of new memory, zeroed, at a page boundary; a page of nothing follows it.

        Raises:
            ArtifactError: there is not as much between data and stack.
        """
        room = -(-max(size, 1) // _PAGE) * _PAGE
        if self._next + room > _STACK - _PAGE:
            raise ArtifactError(
                f"the artifact wants {size} bytes of memory, more than the emulated processor has "
                f"({_STACK - _DATA}): it is damaged, or made for shapes that are too large"
            )
        address = self._next
        self._uc.mem_map(address, room)
        self._next += room + _PAGE
        return address

    def write(self, address: int, data: bytes) -> None:
        """Write memory."""
        self._uc.mem_write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """Read memory."""
        return bytes(self._uc.mem_read(address, size))

    def numbers(self, symbol: str, count: int) -> tuple[int, ...] | None:
        """Constants of 64 bits in the image; None where there are none of that name."""
        address = self._image.symbols.get(symbol)
        if address is None:
            return None
        return struct.unpack(f"<{count}q", self.read(_CODE + address, 8 * count))

    @property
    def instructions(self) -> int:
        """Instructions that the last call took, where `call` was told to count them."""
        return self._count

    def call(self, symbol: str, arguments: Sequence[int | Word], *, count: bool = False) -> int:
        """Call a function.

        Args:
            symbol: its name.
            arguments: numbers.
            count: count instructions, which takes longer.

        Returns:
            Its result, an int32.

        Raises:
            InternalError: the code did something that no code may do.
        """
        self._watch(count)
        entry = _CODE + self._image.symbols[symbol]
        self._count = 0
        stack = _STACK + _STACK_BYTES - _PAGE
        result = self._enter_at(entry, stack, arguments)
        return result - (1 << 32) if result >> 31 else result

    def paint_stack(self) -> None:
        """Fill the stack, so that `stack_used` can see how deep a call went."""
        self._uc.mem_write(_STACK, bytes([_PAINT]) * (_STACK_BYTES - _PAGE))

    def stack_used(self) -> int:
        """Bytes that calls have written below their arguments since the stack was painted."""
        below = self.read(_STACK, self._stack - _STACK)
        return len(below.lstrip(bytes([_PAINT])))

    def _call_64(self, entry: int, stack: int, arguments: Sequence[int | Word]) -> int:
        from unicorn import arm64_const as arm64

        registers = (
            arm64.UC_ARM64_REG_X0,
            arm64.UC_ARM64_REG_X1,
            arm64.UC_ARM64_REG_X2,
            arm64.UC_ARM64_REG_X3,
            arm64.UC_ARM64_REG_X4,
            arm64.UC_ARM64_REG_X5,
        )
        for register, argument in zip(registers, arguments, strict=False):
            value = argument.value if isinstance(argument, Word) else argument
            self._uc.reg_write(register, value)
        self._uc.reg_write(arm64.UC_ARM64_REG_SP, stack)
        self._uc.reg_write(arm64.UC_ARM64_REG_LR, _RETURN)
        self._start(entry, arm64.UC_ARM64_REG_PC, stack, arm64.UC_ARM64_REG_SP)
        return int(self._uc.reg_read(arm64.UC_ARM64_REG_X0)) & 0xFFFF_FFFF

    def _call_32(self, entry: int, stack: int, arguments: Sequence[int | Word]) -> int:
        from unicorn import arm_const as arm

        registers = (
            arm.UC_ARM_REG_R0,
            arm.UC_ARM_REG_R1,
            arm.UC_ARM_REG_R2,
            arm.UC_ARM_REG_R3,
        )
        # Source: AAPCS32, 6.4: four core registers, then the stack; 64 bits at even places.
        words: list[int] = []
        for argument in arguments:
            if isinstance(argument, Word):
                words += [0] * (len(words) % 2)
                words += [argument.value & 0xFFFF_FFFF, argument.value >> 32 & 0xFFFF_FFFF]
            else:
                words.append(argument)
        for register, word in zip(registers, words, strict=False):
            self._uc.reg_write(register, word)
        rest = words[len(registers) :]
        place = stack - len(rest) * 4 & -8
        self._uc.mem_write(place, b"".join(word.to_bytes(4, "little") for word in rest))
        self._uc.reg_write(arm.UC_ARM_REG_SP, place)
        self._uc.reg_write(arm.UC_ARM_REG_LR, _RETURN | (entry & 1))
        self._start(entry, arm.UC_ARM_REG_PC, place, arm.UC_ARM_REG_SP)
        return int(self._uc.reg_read(arm.UC_ARM_REG_R0)) & 0xFFFF_FFFF

    def _call_x86(self, entry: int, stack: int, arguments: Sequence[int | Word]) -> int:
        from unicorn import x86_const as x86

        registers = (
            x86.UC_X86_REG_RDI,
            x86.UC_X86_REG_RSI,
            x86.UC_X86_REG_RDX,
            x86.UC_X86_REG_RCX,
            x86.UC_X86_REG_R8,
            x86.UC_X86_REG_R9,
        )
        for register, argument in zip(registers, arguments, strict=False):
            value = argument.value if isinstance(argument, Word) else argument
            self._uc.reg_write(register, value)
        # Source: System V ABI, 3.2.2: at entry the return address is on top, aligned below it.
        self._uc.mem_write(stack - 8, _RETURN.to_bytes(8, "little"))
        self._uc.reg_write(x86.UC_X86_REG_RSP, stack - 8)
        self._start(entry, x86.UC_X86_REG_RIP, stack, x86.UC_X86_REG_RSP)
        return int(self._uc.reg_read(x86.UC_X86_REG_RAX)) & 0xFFFF_FFFF

    def _start(self, entry: int, counter: int, stack: int, pointer: int) -> None:
        try:
            self._stack = stack
            self._uc.emu_start(entry, _RETURN)
        except self._failure as error:
            where = self._uc.reg_read(counter) - _CODE
            raise InternalError(f"the emulated code failed at {where:#x}: {error}") from error
        if self._uc.reg_read(pointer) != stack:
            raise InternalError("the emulated code did not restore the stack pointer")

    def _watch(self, wanted: bool) -> None:
        import unicorn

        if wanted and self._hook is None:
            self._hook = self._uc.hook_add(unicorn.UC_HOOK_BLOCK, self._enter)
        elif not wanted and self._hook is not None:
            self._uc.hook_del(self._hook)
            self._hook = None

    def _enter(self, uc: Any, address: int, size: int, user: Any) -> None:
        """Add the instructions of a block that is about to run: no branch leaves it half-way."""
        key = (address, size)
        known = self._blocks.get(key)
        if known is None:
            known = self._blocks[key] = self._length(address, size)
        self._count += known

    def _length(self, address: int, size: int) -> int:
        is_thumb = any(value & 1 for value in self._image.symbols.values())
        if not is_thumb:
            return size // 4
        code = self.read(address, size)
        at = found = 0
        while at < size:
            at += 4 if code[at + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2
            found += 1
        return found


def emulator_version() -> str:
    """Unicorn's name and version; "" if it is not installed."""
    if importlib.util.find_spec("unicorn") is None:
        return ""
    import unicorn

    return f"unicorn {unicorn.__version__}"


def _arm(emulator: Emulator) -> Any:
    import unicorn
    from unicorn import arm_const as arm

    profile = (
        unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        if emulator.is_microcontroller
        else unicorn.UC_MODE_ARM
    )
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM, profile)
    uc.ctl_set_cpu_model(getattr(arm, f"UC_CPU_ARM_{emulator.model}"))
    uc.reg_write(arm.UC_ARM_REG_C1_C0_2, _FPU_ON)
    uc.reg_write(arm.UC_ARM_REG_FPEXC, _FPEXC_ON)
    return uc


def _aarch64(emulator: Emulator) -> Any:
    import unicorn
    from unicorn import arm64_const as arm64

    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    uc.ctl_set_cpu_model(getattr(arm64, f"UC_CPU_ARM64_{emulator.model}"))
    uc.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, 3 << 20)
    return uc


def _x86_64(emulator: Emulator) -> Any:
    import unicorn
    from unicorn import x86_const as x86

    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.ctl_set_cpu_model(getattr(x86, f"UC_CPU_X86_{emulator.model}"))
    uc.reg_write(x86.UC_X86_REG_CR4, uc.reg_read(x86.UC_X86_REG_CR4) | _SSE_ON)
    return uc


_MACHINES: Mapping[str, Callable[[Emulator], Any]] = {
    ARM: _arm,
    AARCH64: _aarch64,
    X86_64: _x86_64,
}
"""An emulated processor with its vector unit on, by `Emulator.machine`."""
