"""What people and exporters say about a model's numbers, made into the artifact's `Description`.

It comes from options, from a TOML file, or from the model's `metadata_props`; where several
say the same thing, the first of these counts. The TOML file beside `gait.onnx` is `gait.toml`:

```toml
columns = ["acc_x", "acc_y", "gyro_z"]     # elements of all inputs in order
units = ["m/s^2", "m/s^2", "deg/s"]        # or one for all: "g"
ranges = [[-20, 20], [-20, 20], [-500, 500]]
labels = ["stand", "walk", "run"]          # of the output that has as many elements
rate_hz = 100

[outputs]                                  # labels by output, where there are several
phase = ["stance", "swing"]

[decoding.phases]                          # how outputs become events: edgelstm.io.decoding
minimum_s = 0.3
```
In ONNX files the keys of `metadata_props` are `edgelstm.columns`, `edgelstm.units`,
`edgelstm.ranges`, `edgelstm.labels` and `edgelstm.rate_hz`; a value is JSON, or names separated
by commas.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgelstm.description import Column, Description, described_size, description_faults
from edgelstm.errors import ModelError, RecordingError
from edgelstm.io.decoding.model_decoder import make_decoder
from edgelstm.io.decoding.recipe import recipe_from_json
from edgelstm.signature import Signature
from edgelstm_compiler.ir.types import Array

METADATA_PREFIX = "edgelstm."
KEYS = ("columns", "units", "ranges", "labels", "rate_hz", "outputs", "decoding")

_EXPECTED = {
    "columns": 'a list of names, as ["acc_x", "acc_y"]',
    "units": 'one unit, or a list with one for each column, as ["g", "g"]',
    "ranges": "a list of [low, high] pairs, one for each column",
    "labels": 'a list of names, as ["stand", "walk"]',
    "rate_hz": "a number of frames per second above 0",
    "outputs": 'a table of labels by output, as phase = ["stance", "swing"]',
    "decoding": "a table, as [decoding.phases]",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What one source, or several, say; None where they say nothing.

    Args:
        columns: names of the elements of all inputs in order.
        units: one for all columns, or one a column.
        ranges: smallest and largest value of each column.
        labels: classes of the output that has as many elements.
        outputs: classes by output.
        rate_hz: frames per second.
        decoding: how outputs become events.
        origins: who says each, for messages.
    """

    columns: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None
    ranges: tuple[tuple[float, float], ...] | None = None
    labels: tuple[str, ...] | None = None
    outputs: Mapping[str, tuple[str, ...]] | None = None
    rate_hz: float | None = None
    decoding: Mapping[str, Any] | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def over(self, other: Said) -> Said:
        """This, and what only the other says."""
        merged: dict[str, Any] = {}
        origins = dict(other.origins)
        for item in fields(self):
            if item.name == "origins":
                continue
            own = getattr(self, item.name)
            merged[item.name] = getattr(other, item.name) if own is None else own
            if own is not None:
                origins[item.name] = self.origins.get(item.name, item.name)
        return Said(**merged, origins=origins)


def said_by_caller(
    columns: Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ranges: Sequence[Sequence[float]] | None = None,
    rate_hz: float | None = None,
) -> Said:
    """What the arguments of a call or a command say.

    Raises:
        ModelError: one of them has another form.
    """
    data: dict[str, Any] = {"columns": columns, "units": units, "ranges": ranges}
    if isinstance(labels, Mapping):
        data["outputs"] = labels
    else:
        data["labels"] = labels
    data["rate_hz"] = rate_hz
    given = {key: value for key, value in data.items() if value is not None}
    return _read(given, {key: key for key in given})


def said_by_file(path: Path, *, is_asked_for: bool = True) -> Said:
    """What a TOML file says.

    Args:
        path: of the file.
        is_asked_for: False where it only stands beside the model: then a file that has none of our
            keys is somebody else's.

    Raises:
        ModelError: it cannot be read, is no TOML, or holds something else; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as exc:
        raise ModelError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise ModelError(f"{path}: not TOML: no text in UTF-8: {exc.reason}") from exc
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        problem = str(exc).replace("end of document", f"line {len(text.splitlines())}, the end")
        raise ModelError(f"{path}: not TOML: {problem}") from exc
    if not is_asked_for and not set(data) & set(KEYS):
        return Said()
    origins = {key: f"{path}:{_line_of(key, text)}: {key}" for key in data}
    unknown = next((key for key in data if key not in KEYS), None)
    if unknown is not None:
        raise ModelError(f"{origins[unknown]} is not known; known are {', '.join(KEYS)}")
    return _read(data, origins)


def said_by_metadata(metadata: Mapping[str, str]) -> Said:
    """What a model's `metadata_props` say, see above; other keys are left alone.

    Raises:
        ModelError: one of ours cannot be read.
    """
    data: dict[str, Any] = {}
    for key in KEYS:
        text = metadata.get(METADATA_PREFIX + key)
        if text is None:
            continue
        try:
            data[key] = json.loads(text)
        except ValueError:
            data[key] = [word.strip() for word in text.split(",")]
    return _read(data, {key: f"metadata_props {METADATA_PREFIX}{key}" for key in data})


def said_by_zip_maps(labels: Mapping[str, tuple[str, ...]]) -> Said:
    """The class names that a model of scikit-learn brings with its probabilities."""
    named = {name: found for name, found in labels.items() if found and all(found)}
    return Said(outputs=named, origins={"outputs": "ZipMap"}) if named else Said()


def describe(
    said: Said, signature: Signature, seen: Mapping[str, tuple[Array, Array]]
) -> Description:
    """The description that stands in the artifact.

    Args:
        said: what is known.
        signature: of the model.
        seen: smallest and largest values of the elements of inputs in recordings.

    Raises:
        ModelError: what is said does not fit the model; says who said it, and what was expected.
    """
    sizes = {spec.name: described_size(spec, signature.mode) for spec in signature.inputs}
    total = sum(sizes.values())
    names = said.columns
    if names is not None and len(names) != total:
        raise _misfit(said, "columns", f"{len(names)} names, the model takes {total} columns")
    units = said.units
    if units is not None and len(units) == 1:
        units = units * total
    for key, items in (("units", units), ("ranges", said.ranges)):
        if items is not None and len(items) != total:
            raise _misfit(said, key, f"{len(items)} of them, the model takes {total} columns")
        if items is not None and names is None:
            raise _misfit(
                said, key, "which columns? name them: --columns A,B,... or columns = [...]"
            )
    inputs: dict[str, tuple[Column, ...]] = {}
    place = 0
    for name, size in sizes.items():
        limits = _limits_of(seen.get(name), size)
        if said.ranges is not None:
            limits = list(said.ranges[place : place + size])
        if names is not None:
            inputs[name] = tuple(
                Column(names[k], units[k] if units else "", *limits[k - place])
                for k in range(place, place + size)
            )
        place += size
    labels = _labels_of(said, signature)
    description = Description(inputs, labels, said.rate_hz, said.decoding)
    _check_decoding(said, description, signature)
    faults = description_faults(description, signature)
    if faults:
        raise ModelError(f"what is said about the model does not hold: {'; '.join(faults)}")
    return description


def _check_decoding(said: Said, description: Description, signature: Signature) -> None:
    if said.decoding is None:
        return
    origin = said.origins.get("decoding", "decoding")
    try:
        make_decoder(recipe_from_json(said.decoding, origin), signature, description)
    except RecordingError as exc:
        raise ModelError(str(exc)) from exc


def _labels_of(said: Said, signature: Signature) -> dict[str, tuple[str, ...]]:
    outputs = dict(said.outputs or {})
    sizes = {spec.name: described_size(spec, signature.mode) for spec in signature.outputs}
    for name, labels in outputs.items():
        if name not in sizes:
            raise _misfit(said, "outputs", f"no output {name!r}; there are {', '.join(sizes)}")
        if len(labels) != sizes[name]:
            raise _misfit(
                said, "outputs", f"{len(labels)} for {name!r}, which has {sizes[name]} elements"
            )
    if said.labels is not None:
        count = len(said.labels)
        fitting = [name for name, size in sizes.items() if size == count and name not in outputs]
        if len(fitting) != 1:
            found = ", ".join(f"{name} has {size}" for name, size in sizes.items())
            problem = "several outputs have" if fitting else "no output has"
            raise _misfit(
                said, "labels", f"{problem} {count} elements ({found}); say which: OUTPUT=A,B,..."
            )
        outputs[fitting[0]] = said.labels
    return outputs


def _limits_of(seen: tuple[Array, Array] | None, size: int) -> list[Any]:
    """Smallest and largest value of each element; None where they are not known."""
    if seen is None or len(seen[0]) != size:
        return [(None, None)] * size
    return list(zip(seen[0].tolist(), seen[1].tolist(), strict=True))


def _misfit(said: Said, key: str, problem: str) -> ModelError:
    return ModelError(f"{said.origins.get(key, key)}: {problem}")


def _read(data: Mapping[str, Any], origins: Mapping[str, str]) -> Said:
    """Values of the right kind, or an error that says what was expected."""
    values: dict[str, Any] = {}
    for key, value in data.items():
        read = _READERS[key](value)
        if read is None:
            raise ModelError(f"{origins[key]}: expected {_EXPECTED[key]}, found {value!r}")
        values[key] = read
    return Said(**values, origins=dict(origins))


def _names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, (list, tuple)) and value and all(isinstance(x, str) for x in value):
        return tuple(x.strip() for x in value)
    return None


def _units(value: Any) -> tuple[str, ...] | None:
    return (value.strip(),) if isinstance(value, str) else _names(value)


def _rate(value: Any) -> float | None:
    if isinstance(value, list) and len(value) == 1:  # metadata_props: one word
        value = value[0]
    try:
        rate = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError, OverflowError):
        return None
    return rate if 0 < rate < math.inf else None


def _ranges(value: Any) -> tuple[tuple[float, float], ...] | None:
    if not isinstance(value, (list, tuple)):
        return None
    pairs = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            return None
        if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in pair):
            return None
        low, high = map(float, pair)
        if not -math.inf < low <= high < math.inf:
            return None
        pairs.append((low, high))
    return tuple(pairs)


def _outputs(value: Any) -> dict[str, tuple[str, ...]] | None:
    if not isinstance(value, Mapping):
        return None
    labels = {str(name): _names(items) for name, items in value.items()}
    return (
        {name: items for name, items in labels.items() if items} if all(labels.values()) else None
    )


def _table(value: Any) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None


_READERS = {
    "columns": _names,
    "units": _units,
    "ranges": _ranges,
    "labels": _names,
    "rate_hz": _rate,
    "outputs": _outputs,
    "decoding": _table,
}


def _line_of(key: str, text: str) -> int:
    pattern = re.compile(rf"\s*(?:\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*(?:[=.\]]|$)")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return number
    return 1


def what_is_said(
    source: Any,
    columns: Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    rate_hz: float | None = None,
    description: str | Path | None = None,
) -> Said:
    """What the caller says about a model, and what the TOML file says that it names or has beside.

    Raises:
        ModelError: it cannot be read.
    """
    said = said_by_caller(columns, units, labels, rate_hz=rate_hz)
    path = description_file(source, description)
    if path is None:
        return said
    return said.over(said_by_file(path, is_asked_for=description is not None))


def description_file(source: Any, description: str | Path | None = None) -> Path | None:
    """The TOML file that is named, or stands beside the model; None where there is none."""
    if description is not None:
        return Path(description)
    beside = Path(source).with_suffix(".toml") if isinstance(source, (str, Path)) else None
    return beside if beside is not None and beside.is_file() else None
