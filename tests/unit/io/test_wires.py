"""Wire formats: any chunking gives the same rows, and no bytes at all raise anything."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.io.address import Options, parse_address
from edgelstm.io.numbering import Numbering
from edgelstm.io.wire.base import MAX_LINE_BYTES, Rows, Wire
from edgelstm.io.wire.csv_lines import CsvLines
from edgelstm.io.wire.json_lines import JsonLines
from edgelstm.io.wire.structs import Structs

MAKERS: dict[str, Callable[[], Wire]] = {
    "csv": CsvLines,
    "csv with names": lambda: CsvLines(["a", "b"]),
    "csv of a model": lambda: CsvLines(wanted=["a", "b"]),
    "json": JsonLines,
    "json with names": lambda: JsonLines(["a", "b"]),
    "struct": lambda: Structs("<2h"),
    "struct with a mark": lambda: Structs("<hf", mark=b"\xaa\x55"),
}

_NASTY = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"1,2\n",
            b"a,b\n",
            b'{"a": 1, "b": 2}\n',
            b'{"a": 1, "b": null}\n',
            b"[[1, 2], [3, 4]]\n",
            b"[1, [2, {}]]\n",
            b'{"samples": [{"a": 1, "b": 2}], "c": [[1]]}\n',
            b"nan,inf\n",
            b"1e999,-1e999\n",
            b"9" * 1000 + b"," + b"9" * 1000 + b"\n",
            b"[" * 2000 + b"\n",
            b"\xff\xfe\n",
            b"1;2\n",
            b"1,5;2,5\n",
            b"\xaa\x55\x01\x02\x03\x04\x05\x06",
            b"NaN\n",
            b"-Infinity\n",
            b'{"a": 1' + b"0" * 1000 + b', "b": 1}\n',
            b"\r\n\r\n",
            b"#,#\n",
            b'"a","b"\n',
        ]
    ),
)


def _columns(rows: Rows) -> int:
    return int(rows.values.shape[1])


@pytest.mark.parametrize("name", list(MAKERS))
@given(chunks=st.lists(_NASTY, max_size=12), is_cut=st.booleans())
def test_no_bytes_raise(name: str, chunks: list[bytes], is_cut: bool) -> None:
    """As a stream and as messages; rows have as many columns as there are names."""
    for feed in ("feed", "message"):
        wire = MAKERS[name]()
        wire.begin(is_cut)
        numbers = Numbering(Options(parse_address("udp://:1"))).stream()
        for i, chunk in enumerate(chunks):
            rows = wire.feed(chunk, float(i)) if feed == "feed" else wire.message(chunk)
            assert _columns(rows) == len(wire.names) or not len(rows)
            assert all(0 <= row < len(rows) for row in rows.faults)
            delivery = numbers.delivery(rows, wire.names, wire.has_names, float(i))
            assert delivery.block is None or len(delivery.block) == len(rows)
        wire.end()


_RECORD_THAT_LACKS_BYTES = 12


def _read(wire: Wire, parts: list[bytes]) -> tuple[np.ndarray, int]:
    wire.begin(False)
    found = [wire.feed(part, 0.0) for part in parts]
    values = [rows.values for rows in found if len(rows)]
    bad = sum(len(rows.faults) + sum(rows.refused.values()) for rows in found)
    return (np.concatenate(values) if values else np.zeros((0, 2))), bad


@pytest.mark.parametrize("name", list(MAKERS))
@given(cuts=st.lists(st.integers(0, 400), max_size=10))
def test_any_chunking_gives_the_same_rows(name: str, cuts: list[int]) -> None:
    """Bytes of a stream may be cut anywhere.

    But for one record: where bytes are lost in it and those that came end where it would have, it
    is taken for whole, because a sensor's newest record does not wait for the mark of the next one.
    """
    if "struct" in name:
        mark = b"\xaa\x55" if "mark" in name else b""
        layout = "<hf" if mark else "<2h"
        data = b"".join(mark + struct.pack(layout, i, -i) for i in range(30))
        if mark:
            data = b"\x01\x02" + data[:100] + data[103:]
    elif "json" in name:
        data = b"".join(json.dumps({"a": i, "b": i / 3}).encode() + b"\n" for i in range(20))
        data += b"broken\n" + b'{"a": 1, "b": 2}\n'
    else:
        data = b"a,b\n" + b"".join(b"%d,%d.5\n" % (i, -i) for i in range(30)) + b"x,y\n1\n2,3\n"
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [data[a:b] for a, b in pairwise(edges)]
    whole, bad = _read(MAKERS[name](), [data])
    cut, bad_cut = _read(MAKERS[name](), parts)
    if "mark" not in name:
        np.testing.assert_array_equal(cut, whole)
        assert bad_cut == bad
        return
    assert len(cut) == len(whole)
    assert np.flatnonzero((cut != whole).any(axis=1)).tolist() in ([], [_RECORD_THAT_LACKS_BYTES])


_CELLS = st.sampled_from(["1", "-2.5", "3e4", "", " 7 ", "+", "nan", "1 2", "0x1", "1_0"])
_LINES = st.lists(st.lists(_CELLS, min_size=1, max_size=3).map(",".join), min_size=1, max_size=6)


@given(lines=_LINES)
def test_lines_together_give_the_rows_of_single_ones(lines: list[str]) -> None:
    """However many come in a message, and whatever is wrong with some."""
    one, other = CsvLines(["a", "b"]), CsvLines(["a", "b"])
    for wire in (one, other):
        wire.message(b"1,2")  # the layout is known from here on
    together = one.message("\n".join(lines).encode())
    single = [other.message(line.encode()) for line in lines]
    rows = [part for part in single if len(part)]
    faults = [reason for part in rows for reason in part.faults.values()]
    expected = np.concatenate([part.values for part in rows]) if rows else np.zeros((0, 2))
    np.testing.assert_array_equal(together.values, expected)
    assert list(together.faults.values()) == faults


def test_a_line_that_is_too_long_is_refused_once() -> None:
    """However it is cut, and the next one is read."""
    wire = CsvLines(["a", "b"])
    wire.begin(False)
    found = [wire.feed(b"7" * 10_000, 0.0) for _ in range(MAX_LINE_BYTES // 10_000 + 5)]
    found.append(wire.feed(b"\n1,2\n", 0.0))
    assert [dict(rows.faults) for rows in found if rows.faults] == [{0: "too long"}]
    np.testing.assert_array_equal(found[-1].values[1], [1.0, 2.0])


def test_flat_names_of_nested_json() -> None:
    """Objects in objects, lists, true and false, text; what phones send."""
    wire = JsonLines()
    message = {
        "device": "phone",
        "payload": [
            {"time": 1, "values": {"x": 1, "y": 2}, "q": [3, 4], "moving": True, "note": "a"},
            {"time": 2, "values": {"x": 5, "y": 6}, "q": [7, 8], "moving": False, "note": "b"},
        ],
    }
    rows = wire.message(json.dumps(message).encode())
    assert wire.names == ("time", "values.x", "values.y", "q[0]", "q[1]")
    np.testing.assert_array_equal(rows.values, [[1, 1, 2, 3, 4], [2, 5, 6, 7, 8]])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5, 6, 7], [5, 6, 7]),
        ([250, 253, 255, 1, 2], [250, 253, 255, 257, 258]),
        ([65530, 65535, 3], [65530, 65535, 65539]),
        ([10, 12, 11, 13], [10, 12, 11, 13]),
        ([7, 7, 8], [7, 7, 8]),
        ([254, 0, 255, 1], [254, 256, 255, 257]),
        ([9000, 9001, 0, 1], [9000, 9001, 9002, 9003]),
        ([9000, 9001, 7000, 9002], [9000, 9001, 7000, 9002]),
    ],
)
def test_numbers_of_a_sensor_never_begin_anew(counts: list[int], expected: list[int]) -> None:
    """Wraps at 8 and 16 bits, late and repeated samples, a sensor that was switched off."""
    numbers = Numbering(Options(parse_address("udp://:1"))).stream()
    found = []
    for count in counts:
        delivery = numbers.delivery(Rows(np.array([[count, 1.0]])), ("seq", "x"), True, 0.0)
        assert delivery.block is not None
        found.append(int(delivery.block.sequence[0]))
    assert found == expected


@pytest.mark.parametrize(
    ("name", "first", "step", "rate", "scale"),
    [
        ("t_ms", 0.0, 10.0, None, 1e-3),
        ("timestamp", 1657534570154.0, 10.0, None, 1e-3),
        ("timestamp", 1657534570.154, 0.01, None, 1.0),
        ("t", 0.0, 10.0, 100.0, 1e-3),
        ("t", 0.0, 10000.0, 100.0, 1e-6),
        ("t", 0.0, 0.01, None, 1.0),
    ],
)
def test_units_of_time_stamps(
    name: str, first: float, step: float, rate: float | None, scale: float
) -> None:
    """By the column's name, by the size of time since 1970, or by the rate."""
    numbers = Numbering(Options(parse_address("udp://:1")), rate).stream()
    raw = first + step * np.arange(5)
    rows = Rows(np.stack([raw, raw], axis=1))
    block = numbers.delivery(rows, (name, "x"), True, 0.0).block
    assert block is not None
    np.testing.assert_allclose(block.stamps, raw * scale)
