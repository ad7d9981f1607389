"""What the numbers of a model mean: kept, checked, matched by name, and held against the data."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.description import Column, Description
from edgelstm.errors import ArtifactFormatError, RecordingError
from edgelstm.io.files import open_sink
from edgelstm.io.named_outputs import NamedOutputs, NamedSink
from edgelstm.io.units import is_other_unit, likely_unit
from edgelstm.io.watch import WatchedSource, time_unit
from edgelstm.signature import Signature
from tests.unit.runtime.tables import open_csv, open_ndjson, read_all, signature_of
from tests.unit.runtime.toy_models import leaky_reference

ACC = Description(
    {"x": (Column("acc_x", "m/s^2", -10.0, 10.0), Column("acc_y", "m/s^2", -12.0, 8.0))},
    {},
    100.0,
)
NAMES = ("acc_x", "acc_y")


def described(description: Any) -> Artifact:
    """The toy model with this description in its manifest."""
    container = leaky_reference().container
    data = description.to_json() if isinstance(description, Description) else description
    manifest = {**container.manifest, "description": data}
    return Artifact(Container(manifest, {k: bytes(v) for k, v in container.sections.items()}))


def test_a_description_survives_the_file(tmp_path: Path) -> None:
    """Names, units, ranges, labels and rate come back; the model's identity is as without."""
    full = Description(ACC.inputs, {"y": ("sit", "walk")}, 62.5)
    described(full).save(tmp_path / "m.edgelstm")
    loaded = Artifact.load(tmp_path / "m.edgelstm")
    assert loaded.description == full
    assert loaded.description.names(loaded.signature) == NAMES
    assert loaded.model_id == leaky_reference().model_id


def test_an_artifact_without_one_says_nothing() -> None:
    """Older artifacts have none."""
    artifact = leaky_reference()
    assert not artifact.description
    assert artifact.description.names(artifact.signature) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "no object"),
        ({"inputs": [], "outputs": {}}, "no object"),
        ({"inputs": {"x": [{"name": "a"}]}, "outputs": {}}, "1 columns for input 'x'"),
        ({"inputs": {"z": []}, "outputs": {}}, "no input 'z'"),
        ({"inputs": {"x": [{"name": "a"}] * 2}, "outputs": {}}, "column 'a' stands twice"),
        ({"inputs": {"x": [{"name": 1}] * 2}, "outputs": {}}, "malformed"),
        ({"inputs": {"x": [{"name": "a\x1b"}, {"name": "b"}]}, "outputs": {}}, "no column"),
        ({"inputs": {"x": [{"name": "a", "range": [2, 1]}, {"name": "b"}]}, "outputs": {}}, "rang"),
        ({"inputs": {"x": [{"name": "a", "unit": "\n"}, {"name": "b"}]}, "outputs": {}}, "unit"),
        ({"inputs": {}, "outputs": {"y": ["a"]}}, "1 labels for output 'y', which has 2"),
        ({"inputs": {}, "outputs": {"y": ["a", 1]}}, "no list of texts"),
        ({"inputs": {}, "outputs": {}, "rate_hz": -1}, "rate"),
        ({"inputs": {}, "outputs": {}, "rate_hz": "1"}, "rate"),
        ({"inputs": {}, "outputs": {}, "rate_hz": True}, "rate"),
    ],
)
def test_a_malformed_description_is_refused(change: Any, message: str) -> None:
    """At load, as any other contradiction in the manifest."""
    with pytest.raises(ArtifactFormatError, match=message):
        described(change)


@pytest.mark.parametrize(
    "header", ["acc_x,acc_y", "Acc_X (m/s^2),acc y [m/s^2]", " ACC.X , 'acc-y' "]
)
def test_columns_are_matched_by_name(header: str) -> None:
    """Order, case, units and further columns are free."""
    first, second = header.split(",")
    text = f"t,{second},gyro,{first},label\n0,2,9,1,a\n1,4,9,3,b\n"
    assert read_all(open_csv(text, signature_of(), described=NAMES)) == [[1, 2], [3, 4]]


def test_keys_of_ndjson_are_matched_by_name() -> None:
    """The same for objects."""
    text = '{"gyro": 9, "acc_y": 2, "acc_x": 1}\n'
    assert read_all(open_ndjson(text, signature_of(), described=NAMES)) == [[1, 2]]


def test_a_missing_column_is_named() -> None:
    """Even where the number of columns would fit."""
    for source in (
        lambda: open_csv("acc_x,gyro\n1,2\n", signature_of(), described=NAMES),
        lambda: read_all(open_ndjson('{"acc_x": 1, "gyro": 2}', signature_of(), described=NAMES)),
    ):
        with pytest.raises(RecordingError, match="no column is named 'acc_y'; the model takes acc"):
            source()


def test_columns_that_are_asked_for_come_first() -> None:
    """`--columns` is stronger than the description."""
    text = "acc_x,acc_y,b,c\n1,2,3,4\n"
    source = open_csv(text, signature_of(), columns=("c", "b"), described=NAMES)
    assert read_all(source) == [[4, 3]]


def watch(text: str, description: Description = ACC, **options: Any) -> list[str]:
    """What is said about a table."""
    said: list[str] = []
    names = description.names(signature_of())
    source = open_csv(text, signature_of(), described=names, **options)
    for _ in WatchedSource(source, signature_of(), description, said.append).batches():
        pass
    return said


def table(values: Any, header: str = "acc_x,acc_y", times: Any = None) -> str:
    """CSV of these rows, with time stamps in front."""
    rows = [",".join(map(repr, row)) for row in np.asarray(values).tolist()]
    if times is not None:
        rows = [f"{t!r},{row}" for t, row in zip(np.asarray(times).tolist(), rows, strict=True)]
    return "\n".join([header, *rows]) + "\n"


WALK = np.random.default_rng(0).uniform(-8, 8, (200, 2))


@pytest.mark.parametrize("is_live", [False, True])
def test_data_within_the_known_ranges_are_fed_in_silence(is_live: bool) -> None:
    """So are those that leave them by a hair."""
    assert watch(table(WALK), is_live=is_live) == []
    assert watch(table(np.vstack([WALK, [[10.5, -12.5]]])), is_live=is_live) == []


def test_data_beyond_the_known_ranges_are_said() -> None:
    """Which column, how often, and from where to where."""
    data = WALK.copy()
    data[5:8, 1] = 14
    (said,) = watch(table(data))
    assert "'acc_y' leaves the range" in said
    assert "-12 to 8 m/s^2" in said
    assert "3 of 200 frames" in said


def test_a_factor_is_said_at_once_with_the_likely_unit() -> None:
    """Milli-g for m/s^2: before the frame is fed, and again at the end where it grew."""
    text = table(np.vstack([WALK, WALK * 1000 / 9.81]))
    said: list[str] = []
    source = open_csv(text, signature_of(), described=NAMES, is_live=True)
    watched = WatchedSource(source, signature_of(), ACC, said.append).batches()
    for _ in range(201):
        assert said == []
        next(watched)
    assert len(said) == 2
    assert "times what the model saw (-10 to 10 m/s^2)" in said[0]
    for _ in watched:
        pass
    assert said[-1].endswith("times what the model saw (-12 to 8 m/s^2): mg instead of m/s^2?")
    assert watch(text)[0].endswith("mg instead of m/s^2?")


def test_data_that_stay_small_are_said() -> None:
    """As g are, where the model saw m/s^2."""
    (said,) = watch(table(WALK / 9.81))
    assert "acc_x, acc_y stay within" in said
    assert said.endswith("g instead of m/s^2?")
    assert watch(table((WALK / 9.81)[:20])) == []


def test_a_contradicting_unit_is_said() -> None:
    """In the name of a column, or in the row of units; other spellings are the same."""
    (said,) = watch(table(WALK, "acc_x [g],acc_y (m/s²)"))
    assert said == "column 'acc_x' is in g in the recording, the model takes m/s^2"
    text = table(WALK, "acc_x,acc_y\nm/s2,g")
    assert "'acc_y' is in g" in watch(text)[0]


@pytest.mark.parametrize(
    ("name", "step", "message"),
    [
        ("Time (s)", 0.01, ""),
        ("Time (s)", 0.0105, ""),
        ("time_ms", 10.0, ""),
        ("t", 0.01, ""),
        ("t", 10.0, ""),
        ("timestamp", 1e7, ""),
        ("Time (s)", 0.02, "0.02 s apart, which is 50 Hz; the model takes 100 Hz"),
        ("Time (s)", 10.0, "10 s apart"),
        ("t", 0.02, "50 Hz; the model takes 100 Hz"),
        ("t", 0.0, "do not advance"),
    ],
)
def test_time_stamps_that_contradict_the_rate(name: str, step: float, message: str) -> None:
    """In the unit of their name, or in any where it has none."""
    text = table(WALK, f"{name},acc_x,acc_y", np.arange(200) * step)
    said = " ".join(watch(text))
    assert (message in said) if message else said == ""


@pytest.mark.parametrize(
    ("name", "unit"),
    [("Time (s)", "s"), ("time_ms", "ms"), ("t", None), ("timestamp (µs)", "us"), ("time", None)],
)
def test_units_of_time(name: str, unit: str | None) -> None:
    """From the name."""
    assert time_unit(name) == unit


def test_units() -> None:
    """Spellings of one unit are one; factors between units of one quantity are known."""
    assert not is_other_unit("m/s^2", "m/s²")
    assert not is_other_unit("deg/s", "°/s")
    assert not is_other_unit("", "g")
    assert is_other_unit("deg/s", "rad/s")
    assert likely_unit(1 / 9.81, "m/s²") == "g instead of m/s^2"
    assert likely_unit(9.8, "g") == "m/s^2 instead of g"
    assert likely_unit(57, "rad/s") == "deg/s instead of rad/s"
    assert likely_unit(1000, "V") == "mV instead of V"
    assert likely_unit(16384, "g") == "raw counts of the sensor"
    assert likely_unit(3, "g") == ""


def labelled(shape: tuple[int, ...], kept: tuple[str, ...] = ()) -> NamedOutputs:
    """A model with one output of three classes."""
    inner = signature_of(shape)
    signature = Signature("m", "stream", inner.inputs, inner.outputs, (), 12, 12)
    return NamedOutputs(signature, Description({}, {"x": ("sit", "walk", "run")}), kept)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3), (3, 1)])
@pytest.mark.parametrize("into", ["csv", "ndjson", "npz"])
def test_predictions_under_their_names(shape: tuple[int, ...], into: str, tmp_path: Path) -> None:
    """One layout, whatever shape the exporter left: what passes, the label, the classes."""
    named = labelled(shape, ("t",))
    path = tmp_path / f"out.{into}"
    values = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], [np.nan, 0, 0]], np.float32)
    with open_sink(str(path), named.signature, kept=named.kept) as sink:
        NamedSink(sink, named).write({"x": values.reshape(-1, *shape)}, {"t": [1, 2, 3]})
    if into == "csv":
        rows = list(csv.reader(path.read_text().splitlines()))
        assert rows[0] == ["t", "label", "sit", "walk", "run"]
        assert rows[1] == ["1", "walk", "0.1", "0.7", "0.2"]
        assert rows[3][1] == ""
    elif into == "ndjson":
        first = json.loads(path.read_text().splitlines()[0])
        assert first == {"t": 1, "label": "walk", "sit": 0.1, "walk": 0.7, "run": 0.2}
    else:
        with np.load(path) as archive:
            assert archive["label"].tolist() == ["walk", "sit", ""]
            np.testing.assert_array_equal(archive["run"], values[:, 2])


def test_names_that_are_taken() -> None:
    """A label that passes through stands beside the predicted one."""
    named = labelled((3,), ("label", "walk"))
    assert named.kept == ("label", "walk", "predicted_label")
    assert [spec.name for spec in named.signature.outputs] == ["sit", "x.walk", "run"]
