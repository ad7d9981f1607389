"""How well a model does by groups of people: accuracy, errors and delays with their uncertainty.

People are drawn anew, never samples: those of one person are alike, and an interval that forgets
it is far too narrow.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.errors import RecordingError
from edgelstm.io.files import open_source

DRAWS = 2000
FEWEST_PEOPLE = 3
"""People below which no interval is given."""

_SUFFIXES = (".csv", ".ndjson", ".npy", ".npz")


@dataclass(frozen=True, slots=True)
class Judged:
    """One recording, judged.

    Args:
        recording: its file name.
        person: whose it is; people are drawn anew for intervals.
        groups: the person's group by attribute, such as `{"sex": "f"}`.
        samples, errors: how many have a label, and how many of these got another one.
        delays_s: for each phase that was found, how late.
        missed, phases: phases that were never found in their time, of so many.
    """

    recording: str
    person: str
    groups: Mapping[str, str]
    samples: int
    errors: int
    delays_s: tuple[float, ...]
    missed: int
    phases: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; NaN where there are too few people for one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class GroupResult:
    """How a group fares."""

    attribute: str
    group: str
    people: int
    recordings: int
    samples: int
    accuracy: Estimate
    missed: Estimate
    delay_s: Estimate


@dataclass(frozen=True, slots=True)
class Audit:
    """All groups, and what stands behind them.

    Args:
        results: everyone first (attribute ""), then each group.
        judged: every recording.
        labels: of the model.
    """

    results: tuple[GroupResult, ...]
    judged: tuple[Judged, ...]
    labels: tuple[str, ...]

    @property
    def smallest(self) -> GroupResult | None:
        """The group with the fewest people; None without groups."""
        groups = [result for result in self.results if result.attribute]
        return min(groups, key=lambda each: (each.people, each.samples), default=None)

    def gaps(self) -> list[tuple[str, GroupResult, GroupResult]]:
        """By attribute the groups with the lowest and the highest accuracy."""
        found = []
        for attribute in dict.fromkeys(r.attribute for r in self.results if r.attribute):
            own = [result for result in self.results if result.attribute == attribute]
            ordered = sorted(own, key=lambda each: each.accuracy.value)
            if len(ordered) > 1:
                found.append((attribute, ordered[0], ordered[-1]))
        return found


def read_groups(path: Path) -> dict[str, dict[str, str]]:
    """The table of recordings: by file name (with or without its suffix), attribute to group.

    Raises:
        RecordingError: it has no column `recording`, no other one, or a recording twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as exc:
        raise RecordingError(f"cannot read {path}: {exc}") from exc
    reader = csv.DictReader(text.splitlines())
    names = [name.strip() for name in reader.fieldnames or ()]
    if "recording" not in names or len(names) < 2:
        raise RecordingError(
            f"{path}: the table needs a column `recording` with the names of the files, and one "
            f"for each attribute, as recording,person,age,sex; found {', '.join(names) or 'none'}"
        )
    groups: dict[str, dict[str, str]] = {}
    for line, row in enumerate(reader, 2):
        cells = {(name or "").strip(): (value or "").strip() for name, value in row.items() if name}
        key = cells.pop("recording")
        if key in groups:
            raise RecordingError(f"{path}:{line}: recording {key!r} is there already")
        groups[key] = cells
    return groups


def audit_model(
    model: Artifact,
    folder: Path,
    groups: Mapping[str, Mapping[str, str]],
    *,
    label_column: str = "label",
    labels: Sequence[str] = (),
    output: str = "",
    columns: Sequence[str] = (),
    rate_hz: float | None = None,
    seed: int = 0,
) -> Audit:
    """Run a model over labelled recordings, and compare its groups.

    Args:
        model: compiled as a stream.
        folder: with the recordings.
        groups: from `read_groups`; `person` is no group but says whose a recording is.
        label_column: of the recordings.
        labels: of the model's classes; empty: as its description says.
        output: whose elements are the classes; "" where there is one.
        columns: that feed the model.
        rate_hz: of the samples.
        seed: of the bootstrap.

    Raises:
        RecordingError: a recording or its group is missing, or labels do not fit the model.
    """
    name, classes = _classes(model, output, labels)
    rate = rate_hz or model.description.rate_hz or model.signature.rate_hz
    if rate is None:
        raise RecordingError("delays count in seconds: give --rate HZ")
    files = {
        path.name: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES
    }
    found = {_file(key, files, folder): dict(row) for key, row in groups.items()}
    if left := sorted(set(files) - set(found)):
        raise RecordingError(f"{folder}: {', '.join(left[:5])} stand in no row of the groups")
    judged = []
    for file, row in found.items():
        said, truth = _predict(model, files[file], name, label_column, columns)
        unknown = sorted(set(truth) - set(classes) - {""})
        if unknown:
            raise RecordingError(
                f"{file}: label {unknown[0]!r} is none of the model's: {', '.join(classes)}"
            )
        person = row.pop("person", "") or file
        judged.append(_judge(file, person, row, [classes[k] for k in said], truth, rate))
    return Audit(tuple(_results(judged, seed)), tuple(judged), tuple(classes))


def _classes(model: Artifact, output: str, labels: Sequence[str]) -> tuple[str, Sequence[str]]:
    described = model.description.outputs
    names = [spec.name for spec in model.signature.outputs]
    chosen = output or (next(iter(described)) if len(described) == 1 else "")
    if not chosen and len(names) == 1:
        chosen = names[0]
    if chosen not in names:
        raise RecordingError(f"which output has the classes? --output-name, of {', '.join(names)}")
    spec = next(spec for spec in model.signature.outputs if spec.name == chosen)
    found = tuple(labels) or described.get(chosen, ())
    size = int(np.prod(spec.shape))
    if len(found) != size:
        raise RecordingError(
            f"output {chosen!r} has {size} classes, and {len(found)} labels are known: --labels A,B"
        )
    return chosen, found


def _file(key: str, files: Mapping[str, Path], folder: Path) -> str:
    if key in files:
        return key
    same = [name for name in files if Path(name).stem == key]
    if len(same) != 1:
        raise RecordingError(f"{folder}: {len(same)} recordings are called {key!r}")
    return same[0]


def _predict(
    model: Artifact, path: Path, output: str, label_column: str, columns: Sequence[str]
) -> tuple[NDArray[np.intp], list[str]]:
    said: list[NDArray[np.intp]] = []
    truth: list[str] = []
    described = model.description.names(model.signature)
    specs = [spec.name for spec in model.signature.outputs]
    with (
        model.session() as session,
        open_source(
            str(path),
            model.signature,
            columns=tuple(columns),
            keep=(label_column,),
            described=described,
        ) as source,
    ):
        for batch in source.batches():
            if batch.faults:
                raise RecordingError(batch.faults[min(batch.faults)].message)
            if not len(batch):
                continue
            result = session.advance_all(batch.frames)
            arrays = result if isinstance(result, Mapping) else {specs[0]: result}
            table = np.asarray(arrays[output])
            said.append(np.argmax(table.reshape(len(batch), -1), axis=1))
            truth += [str(label).strip() for label in batch.kept[label_column]]
    if not said:
        raise RecordingError(f"{path}: the recording holds no frames")
    return np.concatenate(said), truth


def _judge(
    file: str,
    person: str,
    groups: Mapping[str, str],
    said: Sequence[str],
    truth: Sequence[str],
    rate: float,
) -> Judged:
    labelled = [(a, b) for a, b in zip(said, truth, strict=True) if b]
    delays: list[float] = []
    missed = phases = at = 0
    while at < len(truth):
        end = at
        while end < len(truth) and truth[end] == truth[at]:
            end += 1
        # What the recording begins with has no beginning of its own.
        if truth[at] and at:
            phases += 1
            late = next((i for i in range(at, end) if said[i] == truth[at]), None)
            if late is None:
                missed += 1
            else:
                delays.append((late - at) / rate)
        at = end
    errors = sum(a != b for a, b in labelled)
    return Judged(file, person, groups, len(labelled), errors, tuple(delays), missed, phases)


def _results(judged: Sequence[Judged], seed: int) -> list[GroupResult]:
    results = [_result("", "everyone", judged, seed)]
    attributes = dict.fromkeys(name for each in judged for name in each.groups)
    for attribute in attributes:
        values = sorted({each.groups.get(attribute, "") for each in judged})
        for value in values:
            own = [each for each in judged if each.groups.get(attribute, "") == value]
            results.append(_result(attribute, value or "(not given)", own, seed))
    return results


def _result(attribute: str, group: str, judged: Sequence[Judged], seed: int) -> GroupResult:
    people = list(dict.fromkeys(each.person for each in judged))
    sums = np.array(
        [
            [
                sum(j.samples - j.errors for j in own),
                sum(j.samples for j in own),
                sum(j.missed for j in own),
                sum(j.phases for j in own),
            ]
            for own in ([j for j in judged if j.person == person] for person in people)
        ],
        np.float64,
    )
    delays = [
        np.array([d for j in judged if j.person == person for d in j.delays_s]) for person in people
    ]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(people), (DRAWS, len(people)))
    total = sums.sum(axis=0)
    redrawn = sums[drawn].sum(axis=1)
    is_enough = len(people) >= FEWEST_PEOPLE
    medians = (
        np.array([_median(np.concatenate([delays[k] for k in row])) for row in drawn])
        if is_enough
        else np.array([np.nan])
    )
    return GroupResult(
        attribute,
        group,
        len(people),
        len(judged),
        int(total[1]),
        _estimate(_share(total[0], total[1]), _share(redrawn[:, 0], redrawn[:, 1]), is_enough),
        _estimate(_share(total[2], total[3]), _share(redrawn[:, 2], redrawn[:, 3]), is_enough),
        _estimate(np.float64(_median(np.concatenate(delays))), medians, is_enough),
    )


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _estimate(
    value: NDArray[np.float64] | np.float64, drawn: NDArray[np.float64], is_enough: bool
) -> Estimate:
    kept = drawn[np.isfinite(drawn)]
    if not is_enough or not len(kept):
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.percentile(kept, [2.5, 97.5]).tolist()
    return Estimate(float(value), low, high)
