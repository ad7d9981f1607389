"""The settings of time, units and decoding out of a TOML file.

```toml
on-gap = "interpolate"             # feed, hold, interpolate, reset
gap-limit = 1.0                    # seconds; behind a longer gap the model starts afresh
gap-after = 0.05                   # seconds; a longer step is a gap
reorder = 0.1                      # seconds that samples wait for earlier ones
resample = true                    # to the model's rate
silent = 0.5                       # seconds behind which a sensor is silent
offset = {wrist = -0.02}           # seconds, by source; or one for all
scale = {acc_x = 9.81}             # by column; or one for all
decode = "phases.toml"             # or a table, see edgelstm.io.decoding.recipe
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelstm.io.decoding.recipe import read_recipe, recipe_of
from edgelstm.io.gaps import ON_GAP
from edgelstm.io.toml_table import TomlTable, is_number

TIME_KEYS = (
    "on-gap",
    "gap-limit",
    "gap-after",
    "reorder",
    "resample",
    "silent",
    "offset",
    "scale",
    "decode",
)

_SECONDS = {
    "gap-limit": "gap_limit_s",
    "gap-after": "gap_after_s",
    "reorder": "reorder_s",
    "silent": "silent_s",
}
_LONGEST_S = 86_400.0


def read_time(path: Path, whole: TomlTable) -> dict[str, Any]:
    """What a file says of these, under the names of `TimeSettings`.

    Args:
        path: of the file; a recipe that it names is looked for beside it.
        whole: the file.

    Raises:
        RecordingError: something means nothing; names the line.
    """
    table = whole.with_hyphens()
    values = table.values
    found: dict[str, Any] = {}
    on_gap = table.text("on-gap", None, ON_GAP)
    if on_gap is not None:
        found["on_gap"] = on_gap
    for key, name in _SECONDS.items():
        seconds = table.number(key, None, 0.0, _LONGEST_S)
        if seconds is not None:
            found[name] = seconds
    if "resample" in values:
        found["is_resampled"] = table.flag("resample", False)
    for key, name in (("offset", "offsets_s"), ("scale", "scale")):
        if key in values:
            found[name] = _numbers(table, key)
    if isinstance(values.get("decode"), str):
        found["decode"] = read_recipe(path.parent / values["decode"])
    elif (recipe := table.table("decode")) is not None:
        found["decode"] = recipe_of(recipe)
    return found


def _numbers(table: TomlTable, key: str) -> dict[str, float]:
    found = table.values[key]
    numbers = found if isinstance(found, dict) else {"": found}
    for name, value in numbers.items():
        if not is_number(value) or (key == "scale" and value == 0):
            path = (key, name) if isinstance(found, dict) else (key,)
            raise table.fault(f"is {value!r}, not a number, or numbers by name", *path)
    return {name: float(value) for name, value in numbers.items()}
