"""What people call their boards, and the targets that compile for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_NONE = "there is no target for {0}; --target reference runs on anything with Python and NumPy"

_BOARDS: tuple[tuple[str, str], ...] = (
    (r"stm32(f0|g0|l0|c0|u0|wb0|wl)", "cortex-m0plus"),
    (r"stm32(f1|f2|l1|w1)", "cortex-m3"),
    (r"stm32(f3|f4|g4|l4|wb)", "cortex-m4"),
    (r"stm32(f7|h7(?!rs|r|s))", "cortex-m7"),
    (r"stm32(h7r|h7s)", "cortex-m7"),
    (r"stm32(l5|u5|h5|wba|u3)", "cortex-m33"),
    (r"stm32n6", "cortex-m55"),
    (r"stm32mp", "armv7 aarch64"),
    (r"stm32", "cortex-m0plus cortex-m3 cortex-m4 cortex-m7 cortex-m33 cortex-m55"),
    (r"nrf51", "cortex-m0plus"),
    (r"nrf52", "cortex-m4"),
    (r"nrf(53|54|91)", "cortex-m33"),
    (r"nrf", "cortex-m0plus cortex-m4 cortex-m33"),
    (r"(raspberrypi|rpi)?pico2w?|rp2350", "cortex-m33"),
    (r"(raspberrypi|rpi)?picow?|rp2040", "cortex-m0plus"),
    (r"(raspberrypi|rpi|pi|raspi)(zero2w?|02w?)", "rpi3"),
    (r"(raspberrypi|rpi|pi|raspi)(zerow?|1|0)", "=the ARMv6 of Raspberry Pi 1 and Zero"),
    (r"(raspberrypi|rpi|pi|raspi)2b?", "armv7"),
    (r"(raspberrypi|rpi|pi|raspi)([345])b?(plus)?", "rpi{2}"),
    (r"raspberrypi|rpi|raspberry|raspi|pi|raspbian", "rpi3 rpi4 rpi5"),
    (r"(jetson)?orin(nano|nx|agx)?|jetson", "jetson-orin jetson-orin-gpu"),
    (r"jetson(nano|tx[12]|xavier)", "aarch64"),
    (r"beaglebone.*|zynq.*|imx6.*", "armv7"),
    (r"imx8.*|rockchip.*|rk3\d+|coral.*", "aarch64"),
    (r"imxrt.*|teensy4.*|portenta.*|giga.*|nicla.*vision", "cortex-m7"),
    (r"teensy3.*|nano33(ble)?.*|microbit2?|microbitv2|nano33blesense", "cortex-m4"),
    (r"samd21|zero|mkr.*|rp", "cortex-m0plus"),
    (r"due|samd?3x.*", "cortex-m3"),
    (r"samd51|max32660|apollo3|apollo", "cortex-m4"),
    (r"apollo4", "cortex-m4"),
    (r"apollo5|alif.*|ensemble", "cortex-m55"),
    (r"uno(r4|r4wifi|r4minima)", "cortex-m4"),
    (r"uno|mega|avr.*|atmega.*|leonardo", "=AVR"),
    (r"arduino", "cortex-m0plus cortex-m4 cortex-m7"),
    (
        r"zephyr|mbed|microcontroller|mcu|cortexm|baremetal|embedded",
        "cortex-m4 cortex-m7 cortex-m33",
    ),
    (r"esp32(c|h|p).*|risc-?v.*|rv32.*|rv64.*|gd32v.*", "=RISC-V"),
    (r"esp.*|xtensa.*", "=Xtensa (ESP32)"),
    (r"cortexa(5|7|8|9|15|17)", "armv7"),
    (r"cortexa\d+(ae)?", "aarch64"),
    (r"(cortex)?m0(plus)?\+?|armv6m", "cortex-m0plus"),
    (r"(cortex)?m3|armv7m", "cortex-m3"),
    (r"(cortex)?m4f?|armv7em", "cortex-m4"),
    (r"(cortex)?m7", "cortex-m7"),
    (r"(cortex)?m33|m23|armv8m", "cortex-m33"),
    (r"(cortex)?(m55|m85|helium|mve)", "cortex-m55"),
    (r"arm64|armv8a?|aarch64.*|graviton.*", "aarch64"),
    (r"arm|armhf|arm32|armv7[al]?", "armv7 aarch64"),
    (r"armv6l?", "=ARMv6 with Linux"),
    (r"gpu|nvidia|cudnn|h100|h200|a100|rtx.*|tensorrt|cuda.*|sm\d+", "cuda"),
    (r"x8664.*|x86.*|amd64|intel|pc|cpu|linux|native|local|desktop|llvm|avx.*|tvm", "host"),
    (r"numpy|python|pure|interpreter", "reference"),
    (r"m1|m2|apple.*|mac.*|darwin|ios|iphone|android|windows|win64|wasm.*|web", "={0}"),
)
"""Names without case, spaces, dashes and underscores -> targets; after = what there is none for."""


def suggest(name: str, installed: Sequence[str]) -> str:
    """A sentence on which target is meant by a name that is none, or ""."""
    base = name.partition(":")[0]
    plain = re.sub(r"[\s_.-]+", "", base.lower())
    by_plain = {re.sub(r"[\s_.-]+", "", target): target for target in installed}
    if plain in by_plain:
        return f"did you mean --target {by_plain[plain]}?"
    for pattern, targets in _BOARDS:
        match = re.fullmatch(pattern, plain) or (
            re.match(pattern, plain) if pattern.startswith(("stm32", "nrf")) else None
        )
        if match is None:
            continue
        if targets.startswith("="):
            return _NONE.format(targets[1:].format(base))
        names = [t.format(*_groups(match)) for t in targets.split()]
        found = [target for target in names if target in installed]
        if found:
            return f"for {base}: --target {' or '.join(found)}"
    close = difflib.get_close_matches(plain, list(by_plain), n=3, cutoff=0.6)
    if close:
        return f"did you mean --target {' or '.join(by_plain[match] for match in close)}?"
    return ""


def _groups(match: re.Match[str]) -> list[str]:
    return [match.group(0), *(group or "" for group in match.groups())]
