"""Units as people write them, and which one was meant where numbers are off by a factor."""

from __future__ import annotations

import math

_SPELLINGS = {
    "m/s^2": "m/s^2 m/s2 m/s² m/s**2 m/s/s m·s⁻² m*s^-2 ms^-2 ms-2 m.s-2 meter/second^2",
    "g": "g g0 gee gees grav",
    "mg": "mg milli-g",
    "deg/s": "deg/s °/s dps deg/sec degree/s degrees/s deg·s⁻¹ deg/second",
    "rad/s": "rad/s rad/sec rads/s radian/s radians/s rad·s⁻¹",
    "deg": "deg degree degrees °",
    "rad": "rad radian radians",
    "V": "V volt volts",
    "mV": "mV millivolt millivolts",
    "uV": "uV µV μV microvolt microvolts",
    "T": "T tesla",
    "uT": "uT µT μT microtesla",
    "G": "gauss Gs",
    "N": "N newton newtons",
    "kN": "kN",
    "m": "m meter meters metre metres",
    "cm": "cm",
    "mm": "mm",
    "Pa": "Pa",
    "hPa": "hPa mbar",
    "kPa": "kPa",
}
_CANONICAL = {
    spelling.lower() if len(spelling) > 2 else spelling: unit
    for unit, spellings in _SPELLINGS.items()
    for spelling in spellings.split()
}
_SIZES: tuple[dict[str, float], ...] = (
    {"m/s^2": 1.0, "g": 9.80665, "mg": 9.80665e-3},
    {"deg/s": 1.0, "rad/s": 180 / math.pi},
    {"deg": 1.0, "rad": 180 / math.pi},
    {"V": 1.0, "mV": 1e-3, "uV": 1e-6},
    {"uT": 1.0, "G": 100.0, "T": 1e6},
    {"N": 1.0, "kN": 1e3},
    {"m": 1.0, "cm": 1e-2, "mm": 1e-3},
    {"Pa": 1.0, "hPa": 100.0, "kPa": 1000.0},
)
"""Units of one quantity, and how large each is."""

_CLOSE = 1.7
"""A factor is believed to come from two units where it is that near to theirs."""


def is_unit(text: str) -> bool:
    """Whether a text is the name of a unit that is known here."""
    text = text.strip().strip("[]()").replace(" ", "")
    return text in _CANONICAL or text.lower() in _CANONICAL


def plain_unit(unit: str) -> str:
    """One spelling of a unit; what is not known stays as it is."""
    unit = unit.strip().strip("[]()").replace(" ", "")
    return _CANONICAL.get(unit) or _CANONICAL.get(unit.lower(), unit)


def is_other_unit(one: str, other: str) -> bool:
    """Whether both are known and are not the same."""
    return bool(one and other) and plain_unit(one).lower() != plain_unit(other).lower()


def likely_unit(factor: float, unit: str) -> str:
    """Which unit the data may be in where they are so many times what they should be; or "".

    Args:
        factor: of the data over what was expected.
        unit: that was expected, "" where it is not known: then sensors of motion are.
    """
    expected = [plain_unit(unit)] if unit else ["m/s^2", "g", "deg/s", "rad/s"]
    found: list[tuple[float, str]] = []
    for name in expected:
        for sizes in _SIZES:
            if name not in sizes:
                continue
            for other, size in sizes.items():
                # Numbers are larger in a smaller unit.
                ratio = abs(math.log(factor * size / sizes[name]))
                turned = abs(math.log(factor * sizes[name] / size))
                if other != name and ratio < math.log(_CLOSE):
                    found.append((ratio, f"{other} instead of {name}"))
                elif other != name and turned < math.log(_CLOSE):
                    found.append((1 + turned, f"{other} and {name} mixed up"))
    if found:
        return min(found)[1]
    return "raw counts of the sensor" if factor > 200 else ""
