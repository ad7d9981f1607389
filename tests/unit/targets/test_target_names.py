"""Names of boards and misspelt targets lead to a target, or to the news that there is none."""

from __future__ import annotations

import pytest

from edgelstm.errors import TargetNotFoundError
from edgelstm_compiler.target import find_target, target_names
from edgelstm_targets.processors.boards import BOARDS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stm32", "cortex-m4"),
        ("stm32f407", "cortex-m4"),
        ("STM32H743", "cortex-m7"),
        ("stm32u5", "cortex-m33"),
        ("stm32f103", "cortex-m3"),
        ("nrf52", "cortex-m4"),
        ("nRF52840", "cortex-m4"),
        ("nrf5340", "cortex-m33"),
        ("pico", "cortex-m0plus"),
        ("rp2040", "cortex-m0plus"),
        ("pico2", "cortex-m33"),
        ("raspberrypi", "rpi4"),
        ("raspberry-pi-4", "rpi4"),
        ("pi5", "rpi5"),
        ("rpi-zero-2w", "rpi3"),
        ("jetson", "jetson-orin"),
        ("arm64", "aarch64"),
        ("cortexm4", "cortex-m4"),
        ("cortex_m7", "cortex-m7"),
        ("m33", "cortex-m33"),
        ("cortex-m23", "cortex-m0plus"),
        ("cortex-m35p", "cortex-m33"),
        ("cortex-m85", "cortex-m55"),
        ("x86_64", "host"),
        ("Host", "host"),
        ("hots", "host"),
        ("refrence", "reference"),
        ("gpu", "cuda"),
        ("cortex-m44", "cortex-m4"),
        ("teensy4.1", "cortex-m7"),
    ],
)
def test_the_right_target_is_suggested(name: str, meant: str) -> None:
    """The message names it behind --target."""
    with pytest.raises(TargetNotFoundError) as caught:
        find_target(name)
    hint = str(caught.value).partition("(installed")[0]
    assert "--target" in hint
    assert meant in hint.replace(",", "").replace("?", "").split()


@pytest.mark.parametrize(
    ("name", "what"),
    [("esp32", "Xtensa"), ("esp32-c3", "RISC-V"), ("uno", "AVR"), ("riscv64", "RISC-V")],
)
def test_processors_without_a_target(name: str, what: str) -> None:
    """What there is no target for is said."""
    with pytest.raises(TargetNotFoundError, match=f"no target for {what}"):
        find_target(name)


def test_every_suggestion_is_installed() -> None:
    """The table names targets that are there."""
    for _, targets in BOARDS:
        if not targets.startswith("=") and "{" not in targets:
            assert set(targets.split()) <= set(target_names())


def test_emulation_is_promised_where_it_works() -> None:
    """Unicorn does not know the Helium instructions of the Cortex-M55."""
    assert "verify --emulate" not in find_target("cortex-m55").probe().reason
    assert "export-c" in find_target("cortex-m55").probe().reason
    for target in ("cortex-m4", "rpi4"):
        probe = find_target(target).probe()
        assert probe.can_run or not probe.can_build or "verify --emulate" in probe.reason
