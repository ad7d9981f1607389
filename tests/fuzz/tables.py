"""Random recordings as people have them, with what is in them: `random_table(seed)`."""

from __future__ import annotations

import codecs
import csv
import io
import json
import random
from dataclasses import dataclass, field

NAMES = ["acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"]
BAD_CELLS = ["", "NaN", "nan", "NA", "null", "ERR", "inf", "-Infinity", "1_2", "١٢", "--", "0x1F"]
UNITS = ["m/s^2", "g", "deg/s", "rad/s", "[g]", "(m/s²)", "°/s", "dps"]


@dataclass(frozen=True, slots=True)
class Table:
    """A recording and what it holds.

    Args:
        data: bytes of the file.
        suffix: of its name.
        rows: elements of each frame in order; None for a line that is no sample.
        lines: the number of each row's line.
        options: for `open_source`.
        recipe: what it was made of, for messages.
    """

    data: bytes
    suffix: str
    rows: list[list[float] | None]
    lines: list[int]
    options: dict[str, object] = field(default_factory=dict)
    recipe: str = ""

    @property
    def width(self) -> int:
        """Elements of a frame."""
        return next(len(row) for row in self.rows if row is not None)


def random_table(seed: int) -> Table:
    """The same table for the same seed."""
    rng = random.Random(seed)
    return _ndjson(rng) if rng.random() < 0.3 else _csv(rng)


def _csv(rng: random.Random) -> Table:
    width = rng.randint(1, 6)
    delimiter = rng.choice([",", ",", ";", "\t", ";", "|", " "])
    decimal = "." if delimiter == "," and rng.random() < 0.8 else rng.choice(".,")
    has_header = rng.random() < 0.85
    has_time, has_label, has_index = (
        has_header and rng.random() < share for share in (0.5, 0.2, 0.2)
    )
    if delimiter == " ":
        has_label = has_index = False
    names = NAMES[:width]
    shown = [f"{name} ({rng.choice(UNITS)})" if rng.random() < 0.2 else name for name in names]
    if delimiter == " ":
        shown = [name.replace(" ", "") for name in shown]
    header = [
        *([""] if has_index else []),
        *([rng.choice(["t", "Time (s)", "timestamp", "time_ms"])] if has_time else []),
        *shown,
        *(["label"] if has_label else []),
    ]
    if delimiter == " ":
        header = [name.replace(" ", "_") for name in header]
    lines: list[list[str] | str] = []
    recipe = [f"delimiter {delimiter!r} decimal {decimal!r}"]
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        recipe.append("comment")
        lines.append(rng.choice(["# recorded at 100 Hz", "#device: IMU-7, left"]))
    if has_header:
        if width > 1 and rng.random() < 0.15:
            recipe.append("preamble")
            lines.append("Subject: 12")
        lines.append(header)
        if rng.random() < 0.15 and width > 1:
            recipe.append("units")
            units = [rng.choice(UNITS).replace(" ", "") for _ in names]
            lines.append(
                [
                    *([""] if has_index else []),
                    *(["s"] if has_time else []),
                    *units,
                    *([""] if has_label else []),
                ]
            )
    decimals = rng.randint(1, 6)
    rows: list[list[float] | None] = []
    places: list[int] = []
    count = rng.randint(3, 40)
    share = rng.choice([0, 0, 0.05, 0.2])
    for k in range(count):
        cells, row = [], []
        for _ in names:
            value = round(rng.uniform(-20, 20), decimals)
            text = f"{value:.{decimals}f}"
            if rng.random() < 0.1:
                text = f"{value:.9e}"
                value = float(text)
            row.append(float(text))
            cells.append(text.replace(".", decimal))
        is_bad = k > 0 and rng.random() < share
        if is_bad:
            cells[rng.randrange(width)] = rng.choice(
                [c for c in BAD_CELLS if c or delimiter != " "]
            )
        cells = [
            *([str(k)] if has_index else []),
            *([f"{k * 0.01:.2f}".replace(".", decimal)] if has_time else []),
            *cells,
            *([rng.choice(["walk", "run fast", 'a "b"'])] if has_label else []),
        ]
        if k > 1 and rng.random() < share / 4 and len(cells) > 2:
            recipe.append("cut")
            cells, is_bad = cells[: rng.randrange(1, len(cells) - 1)], True
        places.append(len(lines) + 1)
        lines.append(cells)
        rows.append(None if is_bad else row)
        if rng.random() < 0.02:
            lines.append("# marker")
    text = _write(lines, delimiter, rng, recipe)
    return Table(
        _encode(text, rng, recipe),
        rng.choice([".csv", ".txt", ".tsv"]),
        rows,
        places,
        {"has_header": has_header},
        ", ".join(recipe),
    )


def _write(
    lines: list[list[str] | str], delimiter: str, rng: random.Random, recipe: list[str]
) -> str:
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    end = rng.choice(["\n", "\n", "\r\n"])
    quoted = any('"' in text for line in lines for text in line) or delimiter not in ";|"
    pad = " " if rng.random() < 0.3 and quoting == csv.QUOTE_MINIMAL and not quoted else ""
    trailing = delimiter if rng.random() < 0.1 and delimiter != " " else ""
    recipe.append(f"quoting {quoting} end {end!r} pad {pad!r} trailing {trailing!r}")
    out = []
    for line in lines:
        if isinstance(line, str):
            out.append(line)
            continue
        room = io.StringIO()
        csv.writer(room, delimiter=delimiter, quoting=quoting, lineterminator="").writerow(line)
        text = room.getvalue()
        out.append((text.replace(delimiter, delimiter + pad) if pad else text) + trailing)
    blank = end * rng.choice([0, 0, 2]) if len(max(lines, key=len)) > 1 else ""
    one_column = any(isinstance(line, list) and len(line) == 1 for line in lines)
    return end.join(out) + (end if rng.random() < 0.9 else "") + ("" if one_column else blank)


def _encode(text: str, rng: random.Random, recipe: list[str]) -> bytes:
    encoding = rng.choice(
        ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"]
    )
    recipe.append(encoding)
    if encoding == "utf-16-be":
        return codecs.BOM_UTF16_BE + text.encode(encoding)
    if encoding == "latin-1" and not text.replace("²", "").replace("°", "").isascii():
        encoding = "utf-8"
    return text.encode(encoding)


def _ndjson(rng: random.Random) -> Table:
    width = rng.randint(1, 6)
    form = rng.choice(["list", "object", "by input"])
    names = NAMES[:width]
    rows: list[list[float] | None] = []
    places: list[int] = []
    lines: list[str] = []
    share = rng.choice([0, 0, 0.1, 0.3])
    for k in range(rng.randint(3, 40)):
        row = [round(rng.uniform(-20, 20), 4) for _ in names]
        values: list[object] = list(row)
        is_bad = k > 0 and rng.random() < share
        text = None
        if is_bad:
            fault = rng.choice(["null", "true", "text", "cut", "nested", "ragged", "nan", "key"])
            place = rng.randrange(width)
            if fault in ("null", "true", "text", "nan"):
                values[place] = {"null": None, "true": True, "text": "1", "nan": float("nan")}[
                    fault
                ]
            elif fault == "nested":
                values = [[value] for value in values] if width > 1 else [[values], [1]]
            elif fault == "ragged":
                values[place] = [1, 2, 3]
            elif fault == "key" and form == "object":
                values = values[:-1]
        data: object = values
        if form == "object":
            data = {"t": k, **dict(zip(names, values, strict=False)), "label": "walk"}
        elif form == "by input":
            data = {"x": values, "t": k}
        text = json.dumps(data)
        if is_bad and (fault == "cut" or (fault == "key" and form != "object")):
            text = text[: max(1, len(text) - rng.randint(1, 5))].rstrip("]}")
        places.append(len(lines) + 1)
        lines.append(text)
        rows.append(None if is_bad else row)
        if rng.random() < 0.05:
            lines.append("")
    end = rng.choice(["\n", "\r\n"])
    data = (end.join(lines) + end).encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    return Table(data, ".ndjson", rows, places, {}, f"ndjson {form}")
