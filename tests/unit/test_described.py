"""What is said about a model's numbers: by options, a TOML file, or the exporter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelstm.artifact import Artifact, load
from edgelstm.description import Column
from edgelstm.errors import ModelError
from edgelstm_compiler import compile_model
from edgelstm_compiler.described import said_by_caller, said_by_file, said_by_metadata

COLUMNS = ("acc_x", "acc_y", "gyro_z")


def classifier(layout: str = "squeezed") -> onnx.ModelProto:
    """An LSTM with softmax over three units, as different exporters leave its output."""
    rng = np.random.default_rng(0)
    weights = {
        "W": rng.standard_normal((1, 12, 3)).astype(np.float32),
        "R": rng.standard_normal((1, 12, 3)).astype(np.float32),
        "axis": np.array([1], np.int64),
        "last": np.array([0, -1, 3], np.int64),
    }
    nodes = [helper.make_node("LSTM", ["x", "W", "R"], ["Y"], hidden_size=3)]
    if layout == "whole":
        nodes.append(helper.make_node("Softmax", ["Y"], ["p"], axis=-1))
    else:
        nodes.append(helper.make_node("Squeeze", ["Y", "axis"], ["s"]))
        nodes.append(helper.make_node("Softmax", ["s"], ["p"], axis=-1))
    graph = helper.make_graph(
        nodes,
        "gait",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 1, 3])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def compiled(source: Any = None, **options: Any) -> Artifact:
    return compile_model(
        classifier() if source is None else source, target="reference", check=False, **options
    )


def test_options() -> None:
    """Columns, units, labels and rate stand in the artifact."""
    found = compiled(
        columns=COLUMNS, units=["g", "g", "deg/s"], labels=["sit", "walk", "run"], rate_hz=100
    ).description
    assert found.inputs["x"] == (
        Column("acc_x", "g"),
        Column("acc_y", "g"),
        Column("gyro_z", "deg/s"),
    )
    assert found.outputs == {"p": ("sit", "walk", "run")}
    assert found.rate_hz == 100


def test_nothing_said_is_nothing_kept() -> None:
    """The manifest has no entry then."""
    artifact = compiled()
    assert not artifact.description
    assert "description" not in artifact.manifest


def test_ranges_of_recordings() -> None:
    """What the calibration saw, quantized or not, from recordings and from a calibration."""
    frames = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32) * [1, 5, 100]
    frames = frames.astype(np.float32)
    low, high = frames.min(axis=0).tolist(), frames.max(axis=0).tolist()
    for scheme in (None, "int8"):
        found = compiled(columns=COLUMNS, calibration=[frames], quantize=scheme).description
        assert [(c.low, c.high) for c in found.inputs["x"]] == list(zip(low, high, strict=True))


@pytest.mark.parametrize("name", ["gait.toml", "other.toml"])
def test_a_file_beside_the_model_or_named(name: str, tmp_path: Path) -> None:
    """`gait.toml` is found beside `gait.onnx`; options are stronger than it."""
    onnx.save(classifier(), str(tmp_path / "gait.onnx"))
    (tmp_path / name).write_text(
        'columns = ["acc_x", "acc_y", "gyro_z"]\nunits = "g"\nrate_hz = 50\n'
        "ranges = [[-1, 1], [-2, 2.5], [0, 3]]\n[outputs]\np = ['a', 'b', 'c']\n"
    )
    told = {} if name == "gait.toml" else {"description": tmp_path / name}
    found = compiled(tmp_path / "gait.onnx", units=["m", "m", "s"], **told).description
    assert found.inputs["x"][1] == Column("acc_y", "m", -2.0, 2.5)
    assert found.outputs == {"p": ("a", "b", "c")}
    assert found.rate_hz == 50


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """TOML beside the model without any of our keys."""
    onnx.save(classifier(), str(tmp_path / "gait.onnx"))
    (tmp_path / "gait.toml").write_text("[training]\nepochs = 3\n")
    assert not compiled(tmp_path / "gait.onnx").description
    with pytest.raises(ModelError, match=r"gait.toml:1: training is not known"):
        compiled(tmp_path / "gait.onnx", description=tmp_path / "gait.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns = [", r"f.toml: not TOML: .*line 1"),
        ("\ncolumns = 3", r"f.toml:2: columns: expected a list of names.*found 3"),
        ("columns = []", r"f.toml:1: columns: expected"),
        ('rate_hz = 1\nunits = ["g", 1]', r"f.toml:2: units: expected one unit, or a list"),
        ("ranges = [[1, 0]]", r"f.toml:1: ranges: expected a list of \[low, high\]"),
        ("ranges = [[0, nan]]", r"f.toml:1: ranges: expected"),
        ("rate_hz = true", r"f.toml:1: rate_hz: expected a number"),
        ("rate_hz = -1", r"f.toml:1: rate_hz: expected a number"),
        ('rate_hz = 1\ncolums = ["a"]', r"f.toml:2: colums is not known; known are columns"),
        ("rate_hz = 1\n[outputs]\np = 1", r"f.toml:2: outputs: expected a table"),
    ],
)
def test_files_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    """The line, and what was expected."""
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(ModelError, match=message):
        said_by_file(tmp_path / "f.toml")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Missing, a folder, or bytes that are no text."""
    (tmp_path / "f.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "f.toml"):
        with pytest.raises(ModelError, match=r"cannot read|not TOML"):
            said_by_file(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["a"]}, "columns: 1 names, the model takes 3 columns"),
        ({"columns": ["a", "a", "b"]}, "column 'a' stands twice"),
        ({"columns": ["a", "b", ""]}, "'' is no column"),
        ({"units": ["g"]}, "units: which columns"),
        ({"columns": COLUMNS, "units": ["g", "g"]}, "units: 2 of them, the model takes 3"),
        ({"labels": ["a"]}, r"labels: no output has 1 elements \(p has 3\)"),
        ({"labels": ["a", "a", "b"]}, "label 'a' stands twice"),
        ({"labels": {"q": ["a", "b", "c"]}}, "outputs: no output 'q'; there are p"),
        ({"labels": {"p": ["a", "b"]}}, "outputs: 2 for 'p', which has 3"),
    ],
)
def test_what_does_not_fit_the_model(options: dict[str, Any], message: str) -> None:
    """Refused with who said it, and what the model has."""
    with pytest.raises(ModelError, match=message):
        compiled(**options)


@pytest.mark.parametrize("is_json", [False, True])
def test_what_an_exporter_wrote(is_json: bool) -> None:
    """`metadata_props` as JSON or as words; a TOML file and options are stronger."""
    model = classifier()
    values = {"columns": list(COLUMNS), "units": ["g", "g", "dps"], "labels": ["a", "b", "c"]}
    for key, value in values.items():
        entry = model.metadata_props.add()
        entry.key = f"edgelstm.{key}"
        entry.value = json.dumps(value) if is_json else ", ".join(value)
    entry = model.metadata_props.add()
    entry.key, entry.value = "edgelstm.rate_hz", "62.5"
    model.metadata_props.add().key = "names"
    found = compiled(model, rate_hz=50).description
    assert found.names(compiled(model).signature) == COLUMNS
    assert found.inputs["x"][2].unit == "dps"
    assert found.outputs == {"p": ("a", "b", "c")}
    assert found.rate_hz == 50
    assert compiled(model).description.rate_hz == 62.5


def test_metadata_that_cannot_be_read() -> None:
    """The key is named."""
    with pytest.raises(ModelError, match=r"metadata_props edgelstm.rate_hz: expected a number"):
        said_by_metadata({"edgelstm.rate_hz": "fast"})


def test_the_first_that_says_something_counts() -> None:
    """Key by key."""
    merged = said_by_caller(columns=["a"]).over(said_by_caller(columns=["b"], rate_hz=2))
    assert merged.columns == ("a",)
    assert merged.rate_hz == 2


@pytest.mark.parametrize("layout", ["whole", "squeezed"])
def test_labels_fit_any_layout_of_an_exporter(layout: str) -> None:
    """The output has so many elements, in whatever shape."""
    found = compiled(classifier(layout), labels=["a", "b", "c"]).description
    assert found.outputs == {"p": ("a", "b", "c")}


def test_a_call_describes_its_last_axis() -> None:
    """Features along the last axis, whatever the window."""
    found = compiled(
        mode="call", shapes={"x": (5, 1, 3)}, columns=COLUMNS, labels=["a", "b", "c"]
    ).description
    assert [column.name for column in found.inputs["x"]] == list(COLUMNS)


def test_a_decoding_stands_in_the_artifact_and_must_fit_the_model(tmp_path: Path) -> None:
    """The table of the TOML file is kept; what the model has not is refused with its place."""
    path = tmp_path / "gait.toml"
    text = "labels = ['sit', 'walk', 'run']\n[decoding.phases]\nminimum_s = {%s = 0.5}\n"
    path.write_text(text % "walk", encoding="utf-8")
    artifact = compiled(description=path, rate_hz=100)
    assert artifact.description.decoding == {"phases": {"minimum_s": {"walk": 0.5}}}
    artifact.save(tmp_path / "gait.edgelstm")
    assert load(tmp_path / "gait.edgelstm").description == artifact.description
    path.write_text(text % "fly", encoding="utf-8")
    with pytest.raises(ModelError, match=r"phases\.minimum_s names 'fly'"):
        compiled(description=path, rate_hz=100)
    path.write_text("[decoding]\nphases = 3\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"gait\.toml:1: decoding: phases: is 3, not a table"):
        compiled(description=path, rate_hz=100)
