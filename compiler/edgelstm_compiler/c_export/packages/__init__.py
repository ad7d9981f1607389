"""How an exported model is laid out for a build system: one file each, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgelstm_compiler.c_export.packages import arduino, cmake, zephyr
from edgelstm_compiler.c_export.pieces import Pieces

PACKAGES: Mapping[str, Callable[[Pieces], dict[str, bytes]]] = {
    "cmake": cmake.arrange,
    "arduino": arduino.arrange,
    "zephyr": zephyr.arrange,
}
"""By name: the files of the package by path."""
