"""Frames out of CSV, against `csv` and `float` alone: `python -m tests.bench.recordings`.

Both read the same file in one run; the least of several turns counts.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.io.files import open_source
from edgelstm.signature import Signature, TensorSpec

BOUND = 2.0
"""Times of `csv` and `float` alone that reading may take."""


def write_recording(path: Path, rows: int, columns: int = 6) -> None:
    """A recording of noise with a header."""
    values = np.random.default_rng(0).standard_normal((rows, columns))
    with path.open("w") as file:
        file.write(",".join(f"c{i}" for i in range(columns)) + "\n")
        file.writelines(",".join(f"{v:.6g}" for v in row) + "\n" for row in values.tolist())


def read_alone(path: Path) -> int:
    """Rows of the file, each cell made a float."""
    count = 0
    with path.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            [float(cell) for cell in row]
            count += 1
    return count


def read_as_source(path: Path, columns: int = 6) -> int:
    """Frames that a model with so many inputs gets out of the file."""
    x = TensorSpec("x", DType.F32, (columns,), 0, (1, columns), 0)
    signature = Signature("m", "stream", (x,), (x,), (), x.nbytes, x.nbytes)
    with open_source(str(path), signature) as source:
        return sum(len(batch) for batch in source.batches())


def ratio(path: Path, turns: int = 3) -> tuple[float, float]:
    """CPU seconds of `csv` and `float` alone, and how many times as long reading frames takes."""
    assert read_alone(path) == read_as_source(path)
    alone = min(_seconds(read_alone, path) for _ in range(turns))
    return alone, min(_seconds(read_as_source, path) for _ in range(turns)) / alone


def _seconds(function: Callable[[Path], int], path: Path) -> float:
    start = time.process_time()
    function(path)
    return time.process_time() - start


def main() -> int:
    """Print the ratio for a million rows; 1 where it is beyond the bound."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        write_recording(path, 1_000_000)
        alone, times = ratio(path)
    print(f"1,000,000 rows of 6 columns: csv and float alone {alone:.2f} s, frames {times:.2f} x")
    return 0 if times <= BOUND else 1


if __name__ == "__main__":
    raise SystemExit(main())
