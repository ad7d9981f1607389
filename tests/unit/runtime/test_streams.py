"""Sources, sinks and replay: formats, columns, numbers, bad samples."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm import Artifact
from edgelstm.dtypes import DType
from edgelstm.errors import NonFiniteSampleError, RecordingError
from edgelstm.io.columns import choose_columns, element_names, number_texts
from edgelstm.io.files import open_sink, open_source
from edgelstm.io.replay import BadSamplePolicy, Replay
from edgelstm.io.sources.csv_source import CsvSource
from edgelstm.signature import TensorSpec
from tests.unit.runtime.toy_models import leaky_expected, leaky_reference, pair_reference

NAN = float("nan")
FRAMES = np.array([[1, 2], [0.1, -3], [1e-7, 4], [5, 1 / 3]], np.float32)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def replay(
    artifact: Artifact,
    source: str,
    sink: str,
    policy: BadSamplePolicy = BadSamplePolicy.RAISE,
    **options: Any,
) -> Replay:
    with open_source(source, artifact.signature, **options) as opened:
        with open_sink(sink, artifact.signature, kept=opened.kept) as out:
            job = Replay(artifact.session(), opened, out, policy)
            job.run()
        return job


def csv_of(frames: np.ndarray, header: str = "x[0],x[1]") -> str:
    rows = [",".join(number_texts(frame)) for frame in frames]
    return "\n".join([header, *rows]) + "\n"


def read_csv(path: Path) -> tuple[list[str], np.ndarray]:
    lines = path.read_text().splitlines()
    values = [[np.float32(cell) for cell in line.split(",")] for line in lines[1:]]
    return lines[0].split(","), np.array(values, np.float32)


@pytest.mark.parametrize("into", ["csv", "ndjson", "npy", "npz"])
@pytest.mark.parametrize("out_of", ["csv", "ndjson", "objects", "npy", "npz"])
def test_every_format_into_every_format(out_of: str, into: str, tmp_path: Path) -> None:
    """The same frames give the same predictions, bit for bit, through any pair of formats."""
    source = tmp_path / f"in.{'ndjson' if out_of == 'objects' else out_of}"
    if out_of == "csv":
        source.write_text(csv_of(FRAMES))
    elif out_of == "ndjson":
        source.write_text("\n".join(json.dumps(row) for row in FRAMES.tolist()))
    elif out_of == "objects":
        source.write_text("\n".join(json.dumps({"x": row}) for row in FRAMES.tolist()))
    elif out_of == "npy":
        np.save(source, FRAMES.astype(np.float64))
    else:
        np.savez_compressed(source, x=FRAMES)
    target = tmp_path / f"out.{into}"
    job = replay(leaky_reference(), str(source), str(target))
    assert (job.frames_in, job.frames_out, job.bad_frames) == (4, 4, 0)
    if into == "csv":
        header, got = read_csv(target)
        assert header == ["y[0]", "y[1]"]
    elif into == "ndjson":
        records = [json.loads(line) for line in target.read_text().splitlines()]
        got = np.array([record["y"] for record in records]).astype(np.float32)
    elif into == "npy":
        got = np.load(target)
    else:
        with np.load(target) as archive:
            got = archive["y"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, leaky_expected(FRAMES))


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Columns by element, objects by name, arrays by name."""
    artifact = pair_reference()
    data = {"a": FRAMES, "k": np.arange(4, dtype=np.int64)}
    write(
        tmp_path / "in.csv",
        "time,a[1],k,a[0]\n"
        + "".join(
            f"{i},{a[1]!s},{k},{a[0]!s}\n"
            for i, (a, k) in enumerate(zip(*data.values(), strict=True))
        ),
    )
    write(
        tmp_path / "in.ndjson",
        "".join(json.dumps({"a": data["a"][i].tolist(), "k": i}) + "\n" for i in range(4)),
    )
    np.savez(tmp_path / "in.npz", **data)  # type: ignore[arg-type]
    expected = artifact.session().run({"a": FRAMES, "k": data["k"].astype(np.int32)})
    for kind in ("csv", "ndjson", "npz"):
        replay(artifact, str(tmp_path / f"in.{kind}"), str(tmp_path / "out.npz"))
        with np.load(tmp_path / "out.npz") as got:
            np.testing.assert_array_equal(got["total"], expected["total"])
            np.testing.assert_array_equal(got["count"], expected["count"])
    replay(artifact, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert read_csv(tmp_path / "out.csv")[0] == ["total[0]", "total[1]", "count"]
    with pytest.raises(RecordingError, match="NPY holds one array"):
        replay(artifact, str(tmp_path / "in.csv"), str(tmp_path / "out.npy"))


def test_columns_pass_through(tmp_path: Path) -> None:
    """Time stamps and labels appear beside the predictions, as they were."""
    text = "t,x[0],x[1],label\n0.00,1,2,SIT\n0.010,3,4,STAND\n"
    source = write(tmp_path / "in.csv", text)
    replay(leaky_reference(), source, str(tmp_path / "out.csv"), keep=("label", "t"))
    rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["label", "t"], ["SIT", "0.00"], ["STAND", "0.010"]]
    replay(leaky_reference(), source, str(tmp_path / "out.npz"), keep=("label", "t"))
    with np.load(tmp_path / "out.npz") as got:
        assert got["label"].tolist() == ["SIT", "STAND"]
        np.testing.assert_array_equal(got["t"], [0, 0.01])
    lines = '{"x": [1, 2], "t": 5, "note": {"a": [1]}}\n{"x": [1, 2], "t": 6, "note": null}\n'
    source = write(tmp_path / "in.ndjson", lines)
    replay(leaky_reference(), source, str(tmp_path / "out.ndjson"), keep=("t", "note"))
    first, second = map(json.loads, (tmp_path / "out.ndjson").read_text().splitlines())
    assert (first["t"], first["note"], second["t"], second["note"]) == (5, {"a": [1]}, 6, None)


SPECS = [TensorSpec("x", DType.F32, (2,), 0, (1, 2)), TensorSpec("k", DType.I32, (), 8, ())]


@pytest.mark.parametrize(
    ("header", "wanted", "expected"),
    [
        ("x[0],x[1],k", "", [0, 1, 2]),
        ("k,t,x[1],x[0],b", "", [3, 2, 0]),
        ("K, X[0] ,x[1],z", "", [1, 2, 0]),
        ("time,ax,ay,gz,label", "", [1, 2, 3]),
        ("Timestamp,ax,ay,gz,ID", "", [1, 2, 3]),
        ("ax,ay,gz,gx", "gx,ax,ay", [3, 0, 1]),
        ("t,a,b", "a,b,t", [1, 2, 0]),
    ],
)
def test_columns_are_chosen(header: str, wanted: str, expected: list[int]) -> None:
    """By --columns, by name, or all that hold numbers and are no time stamp or label."""
    names = header.split(",")
    chosen = choose_columns(
        names, SPECS, wanted.split(",") if wanted else [], range(len(names)), "walk.csv"
    )
    assert [*chosen["x"], *chosen["k"]] == expected


@pytest.mark.parametrize(
    ("header", "wanted", "message"),
    [
        (
            "a,b,c,d",
            "",
            r"takes 3 columns \(x\[0\], x\[1\], k\).*4 .*\(a, b, c, d\).*--col",
        ),
        ("a,b", "", "2 columns"),
        ("time,a,b", "", "2 columns"),
        ("a,b,c", "a,b", "names 2 columns, the model takes 3"),
        ("a,b,c", "a,b,z", "no column is named 'z'; there are: a, b, c"),
        ("a,a,b", "a,a,b", "2 columns are named 'a'"),
    ],
)
def test_unclear_columns_are_refused(header: str, wanted: str, message: str) -> None:
    """Nothing is guessed: the message lists what there is and what to say."""
    names = header.split(",")
    with pytest.raises(RecordingError, match=message):
        choose_columns(names, SPECS, wanted.split(",") if wanted else [], range(len(names)), "w")


def test_element_names() -> None:
    """Scalars have the tensor's name, others an index per element."""
    assert element_names(SPECS[1]) == ["k"]
    matrix = TensorSpec("m", DType.F32, (2, 2), 0, (2, 2))
    assert element_names(matrix) == ["m[0,0]", "m[0,1]", "m[1,0]", "m[1,1]"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("\ufeffx[0],x[1]\r\n1,2\r\n3,4\r\n", {}),
        ("x[0];x[1]\n1;2\n3;4\n", {}),
        ("x[0]\tx[1]\n1\t2\n3\t4\n\n", {}),
        ('"x[0]", "x[1]"\n"1", 2\n3, 4\n   \n', {}),
        ("1,2\n3,4\n", {"has_header": False}),
        ("9,1,2\n9,3,4\n", {"has_header": False, "columns": ["1", "2"]}),
        ("n,word,a,b\n1,one,1,2\n2,two,3,4\n", {"columns": ["a", "b"]}),
        ("word,a,b\none,1,2\ntwo,3,4\n", {}),
    ],
)
def test_dialects_of_csv(text: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Byte-order mark, line ends, delimiters, quotes, blank lines, no header, text columns."""
    (tmp_path / "in.csv").write_bytes(text.encode())
    replay(leaky_reference(), str(tmp_path / "in.csv"), str(tmp_path / "out.npy"), **options)
    expected = leaky_expected(np.array([[1, 2], [3, 4]], np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"", "in.csv is empty"),
        ("in.csv", b"1,2\n3,4\n", r"in.csv:1: numbers where column names.*--no-header"),
        ("in.csv", b"x[0],x[1]\n1,2\n3,four\n", r"in.csv:3: column 'x\[1\]': 'four' is no number"),
        ("in.csv", b"x[0],x[1]\n1,2\n3\n", "in.csv:3: 1 cells, the header has 2"),
        ("in.csv", b"x[0],x[1]\n1,2,3\n", "in.csv:2: 3 cells"),
        ("in.csv", b"x[0],x[1]\n1,2\n\xff\xfe,1\n", "not text in UTF-8"),
        ("in.csv", b'x[0],x[1]\n1,"2\n' + b"3,4\n" * 50_000, "in.csv:2: a quote is opened"),
        ("in.ndjson", b"[1, 2]\n{\n", "in.ndjson:2: not JSON"),
        ("in.ndjson", b"[" * 100_000, "in.ndjson:1: not JSON"),
        ("in.ndjson", b"[1, 2, 3]\n", r"in.ndjson:1: input 'x' has frames of shape \(2,\)"),
        ("in.ndjson", b'["a", 2]\n', "in.ndjson:1: input 'x': text is no number"),
        ("in.ndjson", b'{"x": {"a": 1}}\n', "an object is no number"),
        ("in.ndjson", b'{"a": 1, "b": 2}\n{"a": 1}\n', "in.ndjson:2: no key 'b'"),
        ("in.ndjson", b'"text"\n', "text is no number"),
        ("in.npy", b"", "not a readable NPY"),
        ("in.npy", b"\x93NUMPY\x01\x00garbage", "not a readable NPY"),
        ("in.npz", b"PK\x03\x04garbage", "not a readable NPY"),
        ("in.bin", b"\x93NUMPY", "not a readable NPY"),
    ],
)
def test_broken_recordings(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """One clear error each, with the file and the line."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        replay(leaky_reference(), str(tmp_path / name), str(tmp_path / "out.csv"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 3)), r"shape \(n, 2\), got \(3, 3\)"),
        (np.zeros(4), r"got \(4,\)"),
        (np.zeros(()), r"got \(\)"),
        (np.array([["a", "b"]]), "do not fit"),
        (np.zeros((2, 2), np.complex64), "do not fit"),
        (np.array([[None, 1]]), "Python objects"),
    ],
)
def test_arrays_that_do_not_fit(array: np.ndarray, message: str, tmp_path: Path) -> None:
    """Shape and type are named; Python objects are never loaded."""
    np.save(tmp_path / "in.npy", array)
    with pytest.raises(RecordingError, match=message):
        replay(leaky_reference(), str(tmp_path / "in.npy"), str(tmp_path / "out.csv"))


def test_columns_of_arrays(tmp_path: Path) -> None:
    """Arrays are picked by index along the last axis."""
    wide = np.concatenate([FRAMES, FRAMES[:, ::-1]], axis=1)
    np.save(tmp_path / "in.npy", wide)
    source, target = str(tmp_path / "in.npy"), str(tmp_path / "out.npy")
    replay(leaky_reference(), source, target, columns=("3", "2"))
    np.testing.assert_array_equal(np.load(target), leaky_expected(FRAMES))
    for columns in [("0", "9"), ("a", "b")]:
        with pytest.raises(RecordingError, match="indices along its last axis"):
            replay(leaky_reference(), source, target, columns=columns)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    """An archive without an input, or with arrays of different lengths."""
    np.savez(tmp_path / "in.npz", a=FRAMES, b=FRAMES)
    with pytest.raises(RecordingError, match="no array for input 'x'; it holds: 'a', 'b'"):
        replay(leaky_reference(), str(tmp_path / "in.npz"), str(tmp_path / "out.csv"))
    np.savez(tmp_path / "in.npz", a=FRAMES, k=np.arange(3))
    with pytest.raises(RecordingError, match="different lengths"):
        replay(pair_reference(), str(tmp_path / "in.npz"), str(tmp_path / "out.csv"))
    np.savez(tmp_path / "in.npz", a=FRAMES, k=np.arange(4) + 2**40)
    with pytest.raises(RecordingError, match="takes int32"):
        replay(pair_reference(), str(tmp_path / "in.npz"), str(tmp_path / "out.csv"))


def test_paths_that_cannot_be_opened(tmp_path: Path) -> None:
    """Missing files, folders and unknown suffixes are named."""
    signature = leaky_reference().signature
    with pytest.raises(RecordingError, match="cannot read"), open_source("/nowhere", signature):
        pass
    with pytest.raises(RecordingError, match="cannot read"), open_source(str(tmp_path), signature):
        pass
    with (
        pytest.raises(RecordingError, match="not write"),
        open_sink("/nowhere/a.csv", signature),
    ):
        pass
    with pytest.raises(RecordingError, match="--output-format"), open_sink("a.xls", signature):
        pass


def test_predictions_before_a_fault_are_written(tmp_path: Path) -> None:
    """A fault in line 4 leaves the predictions of the lines before."""
    source = write(tmp_path / "in.csv", "x[0],x[1]\n1,2\n3,4\nx,y\n")
    for target in ("out.csv", "out.npy"):
        with pytest.raises(RecordingError, match=r"in.csv:4"):
            replay(leaky_reference(), source, str(tmp_path / target))
    assert len(np.load(tmp_path / "out.npy")) == 2
    assert len(read_csv(tmp_path / "out.csv")[1]) == 2


GOOD = [1.0, 2.0]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("policy", "expected_frames", "resets"),
    [
        (BadSamplePolicy.SKIP, [1, 3, 4, 7], []),
        (BadSamplePolicy.HOLD, [1, 1, 3, 4, 4, 4, 7], []),
        (BadSamplePolicy.RESET, [1, 3, 4, 7], [1, 3]),
    ],
)
def test_bad_samples(
    policy: BadSamplePolicy, expected_frames: list[int], resets: list[int], batch_size: int
) -> None:
    """Missing, NaN and infinite values, at the start, single, in a row, over batch borders."""
    rows = ["x[0],x[1]", "nan,0", "1,1", ",5", "3,3", "4,4", "inf,0", "0,-Infinity", "7,7"]
    artifact = leaky_reference()
    source = CsvSource(
        io.BytesIO("\n".join(rows).encode()), "in.csv", artifact.signature, batch_size=batch_size
    )
    sink = _ListSink()
    job = Replay(artifact.session(), source, sink, policy)
    job.run()
    frames = np.array(expected_frames, np.float32)[:, None].repeat(2, axis=1)
    parts = np.split(frames, resets)
    expected = np.concatenate([leaky_expected(part) for part in parts])
    np.testing.assert_array_equal(np.concatenate(sink.rows), expected)
    assert (job.frames_in, job.frames_out, job.bad_frames) == (8, len(frames), 4)


class _ListSink:
    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def write(self, outputs: Any, kept: Any) -> None:
        del kept
        self.rows.append(outputs["y"])

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        pass


@pytest.mark.parametrize("batch_size", [1, 100])
def test_a_bad_sample_stops_by_default(batch_size: int) -> None:
    """The place and the element are named; what came before is predicted and counted."""
    text = "x[0],x[1]\n1,1\n2,2\n3,na\n4,nan\n"
    artifact = leaky_reference()
    source = CsvSource(
        io.BytesIO(text.encode()), "in.csv", artifact.signature, batch_size=batch_size
    )
    sink = _ListSink()
    job = Replay(artifact.session(), source, sink)
    with pytest.raises(NonFiniteSampleError, match=r"in.csv:4: x\[1\] is nan.*--on-bad-sample"):
        job.run()
    assert sum(map(len, sink.rows)) == 2
    assert (job.frames_in, job.frames_out, job.bad_frames) == (3, 2, 1)


def test_a_live_stream_is_answered_line_by_line() -> None:
    """A row in gives a prediction out before the next row is there."""
    artifact = leaky_reference()
    rows: list[str] = ["x[0],x[1]\n", "1,1\n"]
    arrived = threading.Event()

    class Live(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not rows and len(sink.rows) == 1:
                arrived.set()
                rows.append("2,2\n")
            line = rows.pop(0).encode() if rows else b""
            buffer[: len(line)] = line
            return len(line)

    sink = _ListSink()
    live: Any = Live()
    Replay(
        artifact.session(), CsvSource(live, "stdin", artifact.signature, is_live=True), sink
    ).run()
    assert arrived.is_set()
    assert len(sink.rows) == 2


def test_no_frames_at_all(tmp_path: Path) -> None:
    """A header without rows gives a header without rows, or an empty array."""
    source = write(tmp_path / "in.csv", "x[0],x[1]\n")
    replay(leaky_reference(), source, str(tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_text() == "y[0],y[1]\n"
    replay(leaky_reference(), source, str(tmp_path / "out.npy"))
    assert np.load(tmp_path / "out.npy").shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_read_back_exactly(dtype: type[np.floating[Any]]) -> None:
    """The text of a number is short, and is that number."""
    bits = np.random.default_rng(0).integers(0, 255, (500, np.dtype(dtype).itemsize), np.uint8)
    values = bits.view(dtype).ravel()
    values = values[np.isfinite(values)]
    texts: Sequence[str] = number_texts(values)
    np.testing.assert_array_equal(np.array([dtype(text) for text in texts]), values)
    assert number_texts(np.array([0.1, 1 / 3], np.float32)) == ["0.1", "0.33333334"]


def test_large_files_go_in_blocks(tmp_path: Path) -> None:
    """More rows than one batch; place and amount are known."""
    frames = np.random.default_rng(0).standard_normal((9001, 2)).astype(np.float32)
    source = write(tmp_path / "in.csv", csv_of(frames))
    replay(leaky_reference(), source, str(tmp_path / "out.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), leaky_expected(frames))
    with open_source(source, leaky_reference().signature) as opened:
        sizes = [len(batch) for batch in opened.batches()]
        assert sum(sizes) == 9001
        assert max(sizes) <= 4096
        assert opened.done == opened.total == Path(source).stat().st_size
