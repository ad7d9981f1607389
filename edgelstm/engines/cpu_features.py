"""Which CPU this is and which instruction-set extensions it has, in the words of /proc/cpuinfo."""

from __future__ import annotations

import importlib
import platform
import struct
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_NUMPY_NAMES = {
    "sse3": "pni",
    "sse41": "sse4_1",
    "sse42": "sse4_2",
    "fma3": "fma",
    "popcnt": "popcnt",
    "avx512vnni": "avx512_vnni",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512ifma": "avx512ifma",
    "asimdfhm": "asimdfhm",
}
"""Names that NumPy spells otherwise; all others only differ in case."""

ELF_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""`e_machine` of an ELF file."""

_MACHINE_NAMES = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "arm64": "aarch64",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "i686": "i386",
}


def machine() -> str:
    """The architecture that this process runs on: `x86_64`, `aarch64`, `arm`, ...

    A 32-bit process on a 64-bit kernel runs 32-bit code only.
    """
    name = platform.machine().lower()
    name = _MACHINE_NAMES.get(name, name)
    if struct.calcsize("P") == 4:
        name = {"x86_64": "i386", "aarch64": "arm"}.get(name, name)
    return name


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Extensions of this CPU as /proc/cpuinfo names them (x86 `flags`, ARM `Features`).

    Where that file is missing, NumPy's own detection, under the same names.
    """
    try:
        text = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    return parse_cpuinfo(text) or _numpy_flags()


def parse_cpuinfo(text: str) -> frozenset[str]:
    """The flags of the first core listed that has any.

    Cores of a big.LITTLE system have the same extensions: Linux offers what all of them have.
    """
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features") and value.strip():
            return frozenset(value.split())
    return frozenset()


def _numpy_flags() -> frozenset[str]:
    features: dict[str, bool] = {}
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            features = importlib.import_module(module).__cpu_features__
        except (ImportError, AttributeError):
            continue
        break
    names = (name.lower() for name, present in features.items() if present)
    return frozenset(_NUMPY_NAMES.get(name.replace("_", ""), name) for name in names)
