"""CSV as people have it: layouts, numbers, encodings, and lines that are no frames."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.errors import RecordingError
from edgelstm.io import limits
from edgelstm.io.numbers import is_number
from tests.unit.runtime.tables import messages, open_csv, read_all, signature_of

GOOD = [[1.0, 2.0], [3.0, 4.0]]
HALVES = [[0.5, 1.5], [0.25, 2.5]]

LAYOUTS: dict[str, tuple[str | bytes, dict[str, Any], list[list[float]]]] = {
    "comma": ("ax,ay\n1,2\n3,4\n", {}, GOOD),
    "semicolon": ("ax;ay\n1;2\n3;4\n", {}, GOOD),
    "tab": ("ax\tay\n1\t2\n3\t4\n", {}, GOOD),
    "bar": ("ax|ay\n1|2\n3|4\n", {}, GOOD),
    "blanks": (" ax   ay\n 1.0  2.0 \n3 4\n", {}, GOOD),
    "blanks, no header": ("  1e0  2.0\n  3  4\n", {"has_header": False}, GOOD),
    "blanks around cells": (" ax ,\tay\n 1 ,  2 \n3 ,4\n", {}, GOOD),
    "decimal comma": ("ax;ay\n0,5;1,5\n0,25;2,5\n", {}, HALVES),
    "decimal comma, no header": ("0,5;1,5\n0,25;2,5\n", {"has_header": False}, HALVES),
    "decimal comma, tab": ("0,5\t1,5\n0,25\t2,5\n", {"has_header": False}, HALVES),
    "decimal comma, quoted": ('ax,ay\n"0,5","1,5"\n"0,25","2,5"\n', {}, HALVES),
    "decimal comma, text": ("ax;what;ay\n0,5;a, b;1,5\n0,25;c;2,5\n", {}, HALVES),
    "decimal comma, told": ("ax;ay\n1,500;2,250\n", {"decimal": ","}, [[1.5, 2.25]]),
    "integers first": ("ax;ay\n0;1\n0,5;1,5\n0,25;1\n", {}, [[0, 1], [0.5, 1.5], [0.25, 1]]),
    "units row": ("t,ax,ay\ns,m/s^2,m/s²\n0,1,2\n1,3,4\n", {}, GOOD),
    "units in brackets": ("t,ax,ay\n[s],[g],(deg/s)\n0,1,2\n1,3,4\n", {}, GOOD),
    "units in names": ("Time (s),ax (g),ay [deg/s]\n0,1,2\n1,3,4\n", {}, GOOD),
    "comments": ("# a\n#b,c\nax,ay\n1,2\n# marker\n3,4\n", {}, GOOD),
    "numpy.savetxt": ("# ax,ay\n1,2\n3,4\n", {}, GOOD),
    "preamble": ("Device: X\nRate,100\n\nTime (s),ax,ay\n0,1,2\n1,3,4\n", {}, GOOD),
    "preamble as wide as the table": ("Rate,100\nax,ay\n1,2\n3,4\n", {}, GOOD),
    "commas in names": ('"acc, x","acc, y"\n1,2\n3,4\n', {}, GOOD),
    "pandas index": (",ax,ay\n0,1,2\n1,3,4\n", {}, GOOD),
    "pandas index read again": ("Unnamed: 0,ax,ay\n0,1,2\n1,3,4\n", {}, GOOD),
    "counter and time": ("Sample,Time [ms],ax,ay\n0,0,1,2\n1,10,3,4\n", {}, GOOD),
    "dates": ("time,ax,ay\n2026-01-01 10:00:00,1,2\n2026-01-01 10:00:01,3,4\n", {}, GOOD),
    "header of numbers": ("0,1\n1,2\n3,4\n", {"columns": ["0", "1"]}, GOOD),
    "header of numbers and index": (",0,1\n0,1,2\n1,3,4\n", {"columns": ["0", "1"]}, GOOD),
    "header with numbers": ("t,0,1\n0.0,1,2\n0.1,3,4\n", {}, GOOD),
    "delimiter at the end": ("ax,ay,\n1,2,\n3,4,\n", {}, GOOD),
    "delimiter at the end of rows": ("ax,ay\n1,2,\n3,4,\n", {}, GOOD),
    "delimiter at the end of the header": ("ax,ay,\n1,2\n3,4\n", {}, GOOD),
    "delimiter at the end, no header": ("1,2,\n3,4,\n", {"has_header": False}, GOOD),
    "directive of spreadsheets": ("sep=;\nax;ay\n1;2\n3;4\n", {}, GOOD),
    "time in German": ("Zeit [ms];ax;ay\n0;1;2\n10;3;4\n", {}, GOOD),
    "words of units": ("t,ax,ay\nsec,gees,volts\n0,1,2\n1,3,4\n", {}, GOOD),
    "label": ("activity,ax,ay\nwalk,1,2\nrun,3,4\n", {}, GOOD),
    "text column": ("what,ax,ay\nwalk,1,2\nrun,3,4\n", {}, GOOD),
    "byte-order mark": ("\ufeffax,ay\n1,2\n3,4\n", {}, GOOD),
    "UTF-16": ("ax,ay\r\n1,2\r\n3,4\r\n".encode("utf-16"), {}, GOOD),
    "UTF-16 without a mark": ("ax,ay\n1,2\n3,4\n".encode("utf-16-le"), {}, GOOD),
    "UTF-16 big without a mark": ("ax,ay\n1,2\n3,4\n".encode("utf-16-be"), {}, GOOD),
    "UTF-32": ("ax,ay\n1,2\n3,4\n".encode("utf-32"), {}, GOOD),
    "Latin-1 units": ("ax (m/s²),ay (°)\n1,2\n3,4\n".encode("latin-1"), {}, GOOD),
    "Latin-1 comment": ("# µV\nax,ay\n1,2\n3,4\n".encode("latin-1"), {}, GOOD),
    "line feeds and returns": ("ax,ay\r\n1,2\r\n3,4\r\n", {}, GOOD),
    "two returns": ("ax,ay\r\r\n1,2\r\r\n3,4\r\r\n", {}, GOOD),
    "blank lines at the end": ("ax,ay\n1,2\n3,4\n\n  \n\n", {}, GOOD),
    "no line end": ("ax,ay\n1,2\n3,4", {}, GOOD),
}


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_read(name: str, is_live: bool) -> None:
    """Each gives the numbers that it means, as a file and line by line."""
    data, options, expected = LAYOUTS[name]
    source = open_csv(data, signature_of(), is_live=is_live, **options)
    np.testing.assert_array_equal(read_all(source), np.float32(expected))


def test_old_line_ends() -> None:
    """Carriage returns alone end lines of a file."""
    assert read_all(open_csv("ax,ay\r1,2\r3,4\r", signature_of())) == GOOD


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "decimal comma or thousands": (
        "ax;ay\n1,500;2,250\n3,125;14,125\n",
        {},
        r"in.csv:2: is '1,500' a number with a decimal comma, or .*thousands.*use --decimal ,",
    ),
    "decimal commas between commas": (
        "ax,ay\n0,5,1,5\n0,25,2,5\n",
        {},
        "in.csv:2: 4 cells, the header has 2 .decimal commas",
    ),
    "decimal commas of one column": (
        "0,25\n1,25\n",
        {"has_header": False, "shape": (1,)},
        "2 columns without names.*--decimal ,",
    ),
    "a header of numbers": ("0,1\n1.5,2\n", {}, "in.csv:1: numbers where.*--columns 0,1"),
    "two headers": ("Device,X\nax,ay\n1,2\n", {}, "lines 1 and 2 could both name"),
    "the same name twice": ("ax,ax\n1,2\n", {}, "several columns are named 'ax'"),
    "time and one column": ("Time (s),ax\n0,1\n1,2\n", {}, r"in.csv:1: .* 1 columns .*\(ax\)"),
    "text without a header": (
        "walk,1,2\nrun,3,4\n",
        {"has_header": False},
        "3 columns without names, of which 0 hold text",
    ),
    "a column too many": ("ax,ay,az\n1,2,3\n", {}, "3 columns of numbers"),
    "an empty column counts": ("ax,ay,az\n1,2,\n3,4,\n", {}, "3 columns of numbers"),
    "only text": ("hello\nworld\n", {}, "takes 2 columns"),
    "nothing": ("", {}, "in.csv is empty"),
    "blank lines": ("\n\n", {}, "in.csv is empty"),
    "rows wider than the header": ("ax,ay\n1,2,3\n4,5,6\n", {}, "in.csv:2: 3 cells"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unclear_layouts_are_refused(name: str) -> None:
    """What could mean two things is refused, with the line and a way out."""
    text, options, message = REFUSED[name]
    shape = options.get("shape", (2,))
    options = {key: value for key, value in options.items() if key != "shape"}
    with pytest.raises(RecordingError, match=message):
        open_csv(text, signature_of(shape), **options)


def test_the_way_out_of_an_ambiguous_comma_works() -> None:
    """The sign can be told, also where a comma could be a delimiter."""
    text = "ax;ay\n1,500;2,250\n"
    assert read_all(open_csv(text, signature_of(), decimal=",")) == [[1.5, 2.25]]
    source = open_csv("0,25\n1,25\n", signature_of((1,)), decimal=",", has_header=False)
    assert read_all(source) == [[0.25], [1.25]]


@pytest.mark.parametrize("has_header", [False, True])
def test_a_column_that_counts_up_is_remarked(has_header: bool) -> None:
    """Time stamps under no name, or another one, are fed where nothing tells them, and said."""
    rows = "".join(f"{i / 100},{(i * 7) % 5}\n" for i in range(20))
    text = ("foo,ax\n" if has_header else "") + rows
    (remark,) = open_csv(text, signature_of(), has_header=has_header).remarks
    assert "counts up evenly" in remark
    names = ["foo", "ax"] if has_header else ["0", "1"]
    for options in ({"columns": names}, {"described": names}):
        if has_header or "columns" in options:
            assert not open_csv(text, signature_of(), has_header=has_header, **options).remarks
    assert not open_csv(f"x[0],x[1]\n{rows}", signature_of()).remarks


def test_a_row_of_column_numbers_is_remarked() -> None:
    """0, 1, 2 in front of a table without a header is fed, and said."""
    source = open_csv("0,1,2\n1.5,2.5,3\n4,5,6\n", signature_of((3,)), has_header=False)
    assert "holds 0, 1, 2" in source.remarks[0]
    assert len(read_all(source)) == 3


NAN = float("nan")


@pytest.mark.parametrize(
    ("cell", "cause"),
    [
        ("1_2", "an underscore between digits: write 12"),
        ("\u0661\u0662", "not ASCII: write 12"),
        ("\uff11\uff12", "not ASCII: write 12"),
        ("\u22125", "not ASCII: write -5"),
        ('"0,5"', "a decimal comma?"),
        ('"1,234.5"', "between thousands"),
        ('"1,234,567"', "between thousands"),
        ("1'234", "between thousands"),
        ("ERR", "'ERR' is no number"),
        ("0x1F", "'0x1F' is no number"),
        ("1e", "is no number"),
        ("--5", "is no number"),
        ("1 2", "is no number"),
        ("1\x1c", "is no number"),
        ("infinit", "is no number"),
        ("\u0131nf", "is no number"),
    ],
)
@pytest.mark.parametrize("is_live", [False, True])
def test_text_that_is_no_number(cell: str, cause: str, is_live: bool) -> None:
    """It is a fault of its line, which names the column and the likely cause."""
    text = f"ax,ay\n1.0,2.0\n{cell},3.0\n3.0,4.0\n"
    assert read_all(open_csv(text, signature_of(), is_live=is_live)) == [
        GOOD[0],
        "text in a cell",
        GOOD[1],
    ]
    (message,) = messages(open_csv(text, signature_of(), is_live=is_live))
    assert message.startswith("in.csv:3: column 'ax': ")
    assert cause in message


def test_words_for_what_is_not_finite_and_missing() -> None:
    """They are numbers that the policy decides about, whatever their case."""
    cells = ["nan", "NaN", "-NAN", "inf", "+Inf", "-Infinity", "", "NA", "n/a", "null", "<NA>"]
    text = "ax,ay\n1,2\n" + "".join(f"{cell},2\n" for cell in cells)
    rows = read_all(open_csv(text, signature_of()))
    assert len(rows) == 12
    assert not any(math.isfinite(row[0]) for row in rows[1:])


def test_quick_and_careful_ways_give_the_same_numbers() -> None:
    """Blocks with a text cell somewhere else are read to the same bits."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((500, 2)) * 10.0 ** rng.integers(-30, 30, (500, 2))
    rows = [f"{a!r},{b:.6g},{w}" for (a, b), w in zip(values.tolist(), "ab" * 250, strict=True)]
    plain = read_all(open_csv("\n".join(["ax,ay,what", *rows]), signature_of((2,), DType.F64)))
    odd = [row + "_\u0661" for row in rows]
    careful = read_all(open_csv("\n".join(["ax,ay,what", *odd]), signature_of((2,), DType.F64)))
    assert plain == careful
    comma = "\n".join(["ax;ay;what", *(r.replace(",", ";").replace(".", ",") for r in rows)])
    assert read_all(open_csv(comma, signature_of((2,), DType.F64))) == plain


FAULTS: dict[str, tuple[bytes, list[Any]]] = {
    "cut line": (b"ax,ay\n1,2\n3\n3,4\n", [GOOD[0], "cut line", GOOD[1]]),
    "cut quote": (b'ax,ay\n1,2\n3,"4\n3,4\n', [GOOD[0], "open quote", GOOD[1]]),
    "two lines in one": (b"ax,ay\n1,2\n3,43,4\n3,4\n", [GOOD[0], "too many cells", GOOD[1]]),
    "bad byte": (b"ax,ay\n1,2\n\xff3,4\n3,4\n", [GOOD[0], "bad byte", GOOD[1]]),
    "zero byte": (b"ax,ay\n1,2\n\x003,4\n3,4\n", [GOOD[0], "text in a cell", GOOD[1]]),
    "text": (b"ax,ay\n1,2\nERR,4\n3,4\n", [GOOD[0], "text in a cell", GOOD[1]]),
    "empty line": (b"ax,ay\n1,2\n\n3,4\n\n", [GOOD[0], "empty line", GOOD[1]]),
    "first line of data": (b"ax,ay\n1,two\n1,2\n3,4\n", ["text in a cell", *GOOD]),
}


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_malformed_lines_stand_in_their_places(name: str, is_live: bool) -> None:
    """A line that is no frame is a fault with its reason; the lines around it are read."""
    data, expected = FAULTS[name]
    assert read_all(open_csv(data, signature_of(), is_live=is_live)) == expected


@pytest.mark.parametrize("is_live", [False, True])
def test_rows_of_empty_cells_are_samples(is_live: bool) -> None:
    """Nothing vanishes: not a row of delimiters, not an empty line of a single column."""
    rows = read_all(open_csv("ax,ay\n1,2\n,\n3,4\n", signature_of(), is_live=is_live))
    np.testing.assert_array_equal(rows, [[1, 2], [NAN, NAN], [3, 4]])
    rows = read_all(open_csv("ax\n1\n\n3\n\n", signature_of((1,)), is_live=is_live))
    np.testing.assert_array_equal(rows, [[1], [NAN], [3], [NAN]])


def test_the_whole_block_decides_which_columns_hold_numbers() -> None:
    """A missing or faulty cell in the first row hides no column."""
    text = "ax,ay,az,what\n1,,ERR,a\n" + "1,2,3,b\n" * 20
    rows = read_all(open_csv(text, signature_of((3,))))
    assert rows[0] == "text in a cell"
    assert rows[1:] == [[1, 2, 3]] * 20


def test_quoted_cells_over_several_lines() -> None:
    """They are one row, of which the first line is named; over blocks, too."""
    text = 'ax,note,ay\n1,"a\nb",2\n3,"c ""d""\n\n",4\n5,e\n'
    for size in (1, 2, 100):
        source = open_csv(text, signature_of(), batch_size=size)
        assert read_all(source) == [*GOOD, "cut line"]
    (message,) = messages(open_csv(text, signature_of()))
    assert message.startswith("in.csv:7:")


def test_a_stray_quote_swallows_nothing() -> None:
    """Its own line is the fault, wherever it is, and however much follows."""
    lines = ["1,2"] * 300
    lines[7] = '1,"2'
    lines[299] = '"1,2'
    rows = read_all(open_csv("ax,ay\n" + "\n".join(lines) + "\n", signature_of()))
    assert [i for i, row in enumerate(rows) if row == "open quote"] == [7, 299]
    assert len(rows) == 300


@pytest.mark.parametrize("is_live", [False, True])
def test_a_line_without_an_end_is_never_held(
    is_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit, a line is a fault, and reading goes on behind it."""
    monkeypatch.setattr("edgelstm.io.sources.text_lines.MAX_LINE_BYTES", 1000)
    monkeypatch.setattr("edgelstm.io.sources.text_lines._CHUNK", 300)
    data = "ax,ay\n1,2\n" + "7" * 5000 + "\n3,4\n"
    source = open_csv(data, signature_of(), is_live=is_live)
    assert read_all(source) == [GOOD[0], "line too long", GOOD[1]]
    assert limits.MAX_LINE_BYTES == 4 << 20


def test_integers() -> None:
    """Whole numbers in range, also as 3.0; everything else is a fault with its reason."""
    text = "k\n1\n3.0\n-2e1\n\n1.5\n1_0\n" + "9" * 400 + "\n" + "9" * 500 + "\n40000\n"
    rows = read_all(open_csv(text, signature_of((1,), DType.I16)))
    assert rows[:3] == [[1], [3], [-20]]
    assert rows[3:] == [
        "missing value",
        "text in a cell",
        "text in a cell",
        "integer out of range",
        "text in a cell",
        "integer out of range",
    ]


@pytest.mark.parametrize("text", ["1", "-1.5", ".5", "5.", "1e5", "+1E-3", " 7 ", "NaN", "inf"])
def test_what_is_a_number(text: str) -> None:
    """What C and JSON write."""
    assert is_number(text)


def test_very_wide_tables_cost_their_cells() -> None:
    """Columns by the ten thousand, named in another order, take time in proportion to them."""

    def seconds(count: int) -> float:
        names = [f"c{i}" for i in range(count)]
        text = "\n".join([",".join(names), ",".join(["1.5"] * count)])
        start = time.process_time()
        source = open_csv(text, signature_of((count,)), columns=names[::-1], keep=("c7",))
        assert len(read_all(source)) == 1
        return time.process_time() - start

    small, large = (min(seconds(count) for _ in range(3)) for count in (4_000, 40_000))
    assert large < 40 * small
