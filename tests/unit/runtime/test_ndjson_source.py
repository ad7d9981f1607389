"""NDJSON as loggers write it: shapes, kinds of values, keys, and lines that are no frames."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.errors import RecordingError
from edgelstm.io.files import open_sink
from tests.unit.runtime.tables import messages, open_ndjson, read_all, signature_of

GOOD = [1.0, 2.0]


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[1, 2]", GOOD),
        ('{"x": [1, 2.0]}', GOOD),
        ('{"b": 1, "x": [1, 2], "a": "walk"}', GOOD),
        ("[[1, 2]]", "wrong shape"),
        ("[[1], [2]]", "wrong shape"),
        ("[1, [2]]", "wrong shape"),
        ("[1, 2, 3]", "wrong shape"),
        ("[]", "wrong shape"),
        ("1", "wrong shape"),
        ("[true, 2]", "not a number"),
        ('["1", 2]', "not a number"),
        ("[{}, 2]", "not a number"),
        ('{"x": {"a": 1}}', "not a number"),
        ("null", "not a number"),
        ('"text"', "not a number"),
        ("[1, 2", "not JSON"),
        ("[1_0, 2]", "not JSON"),
        ("[\u0661, 2]", "not JSON"),
        ("[01, 2]", "not JSON"),
        ("[1, 2] [3, 4]", "not JSON"),
        ('{"x": [1, 2], "x": [3, 4]}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[" + "9" * 5000 + ", 2]", "not JSON"),
    ],
)
def test_lines(line: str, expected: Any, is_live: bool) -> None:
    """A frame of the input's shape, or a fault in its place with the reason."""
    text = f"[3, 4]\n{line}\n[5, 6]\n"
    rows = read_all(open_ndjson(text, signature_of(), is_live=is_live))
    assert rows == [[3, 4], expected, [5, 6]]


def test_numbers_beyond_and_without_a_value() -> None:
    """A null is missing; what no float holds is infinite; the policy decides about both."""
    text = f"[null, 1]\n[NaN, 1]\n[{'9' * 400}, 1]\n[-{'9' * 400}, 1]\n[1e999, 1]\n"
    rows = read_all(open_ndjson(text, signature_of()))
    assert math.isnan(rows[0][0])
    assert math.isnan(rows[1][0])
    assert [row[0] for row in rows[2:]] == [math.inf, -math.inf, math.inf]


def test_shapes_of_several_axes() -> None:
    """Nested as the frame, or its elements row by row; nothing else of the same size."""
    signature = signature_of((2, 3))
    nested, flat, turned = "[[1,2,3],[4,5,6]]", "[1,2,3,4,5,6]", "[[1,2],[3,4],[5,6]]"
    ragged = "[[1,2,3,4],[5,6]]"
    rows = read_all(open_ndjson("\n".join([nested, flat, turned, ragged]), signature))
    assert rows == [[[1, 2, 3], [4, 5, 6]]] * 2 + ["wrong shape"] * 2
    assert read_all(open_ndjson("5\n[6]\n[[7]]\n", signature_of(()))) == [5, 6, "not a number"]


def test_integers_and_truth_values() -> None:
    """Integers in range, also as 3.0; true and false only where the input is of that type."""
    text = "1\n3.0\n1.5\ntrue\nnull\n40000\n-9e99\n"
    rows = read_all(open_ndjson(text, signature_of((), DType.I16)))
    assert rows[:2] == [1, 3]
    assert rows[2:] == [
        "not a number",
        "not a number",
        "missing value",
        "integer out of range",
        "integer out of range",
    ]
    rows = read_all(open_ndjson("true\n0\n1\n2\n", signature_of((), DType.BOOL)))
    assert rows == [True, False, True, "not a number"]


def test_the_whole_block_decides_which_keys_hold_numbers() -> None:
    """A null or a text in the first object hides no key; order and further keys are free."""
    text = (
        '{"t": 0, "ax": null, "ay": 2, "label": "a"}\n'
        '{"ay": 4, "ax": 3, "t": 1, "more": [1]}\n'
        '{"ax": true, "ay": 1}\n{"ax": 1}\n{"ax": 5, "ay": 6}\n'
    )
    rows = read_all(open_ndjson(text, signature_of()))
    assert math.isnan(rows[0][0])
    assert rows[1:] == [[3, 4], "not a number", "missing value", [5, 6]]
    said = messages(open_ndjson(text, signature_of()))
    assert said == ["in.ndjson:3: key 'ax': true is no number", "in.ndjson:4: no key 'ay'"]


def test_time_is_no_feature() -> None:
    """A key named like a time stamp is never an element."""
    with pytest.raises(RecordingError, match="1 columns of numbers"):
        read_all(open_ndjson('{"Time (s)": 1, "ax": 2}\n', signature_of()))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(encoding: str) -> None:
    """Byte-order marks and wide characters are read; blank lines are none."""
    data = '{"x": [1, 2]}\r\n\r\n{"x": [3, 4]}\r\n'.encode(encoding)
    np.testing.assert_array_equal(read_all(open_ndjson(data, signature_of())), [[1, 2], [3, 4]])


def test_a_bad_byte_spoils_its_line_only() -> None:
    """The lines around it are read."""
    rows = read_all(open_ndjson(b"[1, 2]\n[1, \xff2]\n[1, 2]\n", signature_of()))
    assert rows == [GOOD, "bad byte", GOOD]


def test_json_over_several_lines_is_named() -> None:
    """The likely cause is said."""
    said = messages(open_ndjson("[\n[1, 2],\n[3, 4]\n]\n", signature_of()))
    assert "NDJSON has one value a line" in said[0]


@pytest.mark.parametrize("into", ["csv", "ndjson", "npz"])
def test_whatever_json_holds_passes_through(into: str, tmp_path: Path) -> None:
    """Lists with NaN, half a surrogate pair and integers beyond any float, in every format."""
    kept = ["[1, NaN, {}]", r'"\ud800"', "9" * 400, r'{"a\udfff": [Infinity, null]}', "null"]
    text = "".join(f'{{"x": [1, 2], "note": {value}}}\n' for value in kept)
    path = tmp_path / f"out.{into}"
    signature = signature_of()
    source = open_ndjson(text, signature, keep=("note",))
    with open_sink(str(path), signature, kept=("note",)) as sink:
        for batch in source.batches():
            sink.write(batch.frames, batch.kept)
    if into == "ndjson":
        notes = [json.loads(line)["note"] for line in path.read_text().splitlines()]
        assert notes == [[1, None, {}], "\ud800", int("9" * 400), {"a\udfff": [None, None]}, None]
    elif into == "csv":
        assert len(path.read_text(encoding="utf-8").splitlines()) == 6
    else:
        with np.load(path) as archive:
            assert len(archive["note"]) == 5
