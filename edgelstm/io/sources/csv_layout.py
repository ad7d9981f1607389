"""How a table in CSV is laid out: delimiter, decimal sign, header, units, and where data begin.

All of it is decided together, with all lines of the first block: the layout is the one under which
the lines agree in width and hold numbers. What two layouts explain equally well is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from edgelstm.errors import RecordingError
from edgelstm.io.columns import plain_name, unit_in_name
from edgelstm.io.numbers import Decimal, is_missing, is_number
from edgelstm.io.sources.csv_cells import is_plain
from edgelstm.io.sources.csv_rows import COMMENT, is_comment, split_records, split_row, split_rows
from edgelstm.io.units import is_unit

DELIMITERS = (",", ";", "\t", "|", " ")
_STUDIED_CHARS = 256 << 10

_DIRECTIVE = re.compile(r"sep=.?", re.IGNORECASE)
"""What tells spreadsheets the delimiter; it is found without."""

_UNIT = re.compile(
    r"""[\[(].{0,24}[\])]                                   # in brackets: whatever it says
    | [kmuµμncMhd]?(?:s|sec|seconds?|g|gauss|V|A|W|N|Hz|Pa|T|m|rad|deg|bar|Nm|Ohm|F|lsb|LSB)
      (?:\s?[*.·/]\s?(?:s|sec|m|kg|h|min|LSB|lsb|V|mV)(?:\s?\^?\s?-?[0-9²³])?)*
    | (?:m|rad|deg|g|°)\s?(?:\*\*)?[/.·]?\s?s(?:ec)?(?:\s?(?:\^|\*\*)?\s?-?[12²]|⁻[¹²])?
    | [mc]?m\s?/\s?s(?:/s|\*\*2)?
    | °|°C|°F|C|degC|degrees?|dps|rpm|bpm|%|mmHg|counts?|raw|a\.?u\.?|n/?a|none|bool|unitless
    | HH:MM:SS(?:\.\w+)?|yyyy-mm-dd.*|date|float(?:32|64)?|double|int(?:8|16|32|64)?|-""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the first block says.

    Args:
        delimiter: between cells; a space stands for any run of blanks.
        decimal: sign in front of decimals; None where no number has shown one yet.
        names: of the columns, as many as a row of data has cells.
        units: of the columns, "" where they are not known.
        first: index of the first line that is data, or malformed data.
        skipped: indices of later lines that are neither (the row of units).
        header: index of the header, or -1.
        remarks: see `Source.remarks`.
    """

    delimiter: str
    decimal: Decimal | None
    names: tuple[str, ...]
    units: tuple[str, ...]
    first: int
    skipped: frozenset[int] = frozenset()
    header: int = -1
    remarks: tuple[str, ...] = field(default=())

    @property
    def width(self) -> int:
        """Cells of a row."""
        return len(self.names)


def find_layout(
    lines: Sequence[str],
    origin: str,
    first_line: int = 1,
    *,
    has_header: bool = True,
    wanted: Collection[str] = (),
    is_live: bool = False,
    decimal: Decimal | None = None,
) -> Layout:
    """The layout of the table that begins with these lines.

    Args:
        lines: the first block; of a live stream up to its first line of numbers.
        origin: name of the recording, for messages.
        first_line: number of the first line, for messages.
        has_header: whether a line names the columns; without, they are named 0, 1, ...
        wanted: names of columns that are looked for.
        is_live: the lines are few: the first that can be a header is.
        decimal: the decimal sign, where it is known.

    Raises:
        RecordingError: it is empty, or its layout is not clear; says what to do.
    """
    content = [i for i, line in enumerate(lines) if line.strip() and not is_comment(line)]
    if content and _DIRECTIVE.fullmatch(lines[content[0]].strip()):
        del content[0]
    if not content:
        raise RecordingError(f"{origin} is empty: a header line was expected")
    found = _Table(lines, content, origin, first_line, decimal)
    if not has_header:
        return _without_header(found)
    return _with_header(found, wanted, is_live)


def is_first_data(lines: Sequence[str], has_header: bool, decimal: Decimal | None) -> bool:
    """Whether the last of these lines of a live stream is its first line of data."""
    last = lines[-1]
    if not last.strip() or is_comment(last):
        return False
    before = [line for line in lines[:-1] if line.strip() and not is_comment(line)]
    signs: tuple[Decimal, ...] = (".", ",") if decimal is None else (decimal,)
    for delimiter in DELIMITERS:
        row = split_row(last, delimiter)
        present = [cell for cell in row or [] if not is_missing(cell)]
        widths = {len(split_row(line, delimiter) or []) for line in before}
        for sign in signs:
            numbers = _count_numbers(present, sign)
            if before or not has_header:
                if 2 * numbers > len(present) or (numbers and len(row or []) in widths):
                    return True
            elif numbers == len(present) > 0:
                return True
    return False


class _Table:
    """The block under the delimiter and decimal sign that fit it best."""

    def __init__(
        self,
        lines: Sequence[str],
        content: Sequence[int],
        origin: str,
        first_line: int,
        decimal: Decimal | None,
    ) -> None:
        self.lines, self.origin = lines, origin
        self.first_line = first_line
        studied = _first_of(lines, content)
        signs: tuple[Decimal, ...] = (".", ",") if decimal is None else (decimal,)
        candidates = [
            _Candidate(lines, studied, delimiter, sign)
            for delimiter in DELIMITERS
            if any(delimiter in lines[i].strip() for i in studied)
            for sign in signs
            # Between commas, only quoted cells hold commas.
            if delimiter != "," or sign != "," or any('"' in lines[i] for i in studied)
        ]
        if not candidates or decimal == "," or "," not in lines[studied[0]]:
            # A single column, perhaps of numbers with decimal commas.
            candidates += [_Candidate(lines, studied, ";", sign) for sign in signs]
        best = max(candidates, key=lambda item: item.score)
        self.best = best
        self.decimal = decimal or best.proven_decimal()
        if decimal is None and best.is_ambiguous():
            line, cell = best.an_ambiguous_cell()
            raise RecordingError(
                f"{self.where(line)}: is {cell!r} a number with a decimal comma, or with a comma "
                "between thousands? No other number tells: use --decimal , or write the numbers "
                "with a decimal point and nothing between thousands"
            )

    def where(self, index: int) -> str:
        return f"{self.origin}:{self.first_line + index}"


def _first_of(lines: Sequence[str], content: Sequence[int]) -> list[int]:
    """As many lines as tell the layout; of very wide tables three."""
    studied: list[int] = []
    size = 0
    for i in content:
        studied.append(i)
        size += len(lines[i])
        if size > _STUDIED_CHARS and len(studied) >= 3:
            break
    return studied


class _Candidate:
    """One delimiter and decimal sign, and how well the lines agree under them."""

    def __init__(
        self, lines: Sequence[str], content: Sequence[int], delimiter: str, decimal: Decimal
    ) -> None:
        self.delimiter, self.decimal = delimiter, decimal
        picked = [lines[i] for i in content]
        rows = split_rows(picked, delimiter) or split_records(picked, delimiter)
        self.rows = dict(zip(content, rows, strict=True))
        self.numeric = {i: _count_numbers(row, decimal) for i, row in self.rows.items()}
        widths = Counter(len(row) for i, row in self.rows.items() if self.numeric[i])
        self.width = max(widths, key=lambda w: (widths[w], w), default=0)
        self.score = self._score()

    def _score(self) -> tuple[float, float, float, int]:
        """Share of cells that are numbers; whether a header agrees; the plainer reading wins."""
        data = [i for i in self.rows if self.numeric[i] and len(self.rows[i]) == self.width]
        if not data:
            most = max((len(row) for row in self.rows.values()), default=0)
            return (0.0, 0.0, float(most), -DELIMITERS.index(self.delimiter))
        cells = [cell for i in data for cell in self.rows[i] if not is_missing(cell)]
        share = sum(self.numeric[i] for i in data) / max(len(cells), 1)
        share *= len(data) / len(self.rows)
        heads = [len(row) for i, row in self.rows.items() if i < data[0]]
        # A comma in numbers is believed where the header has as many cells.
        agrees = 1.0 if self.width in heads else 0.5 if not heads else 0.0
        plain = 1.0 if self.decimal == "." else 0.0
        return (round(share + agrees / 4, 9), agrees, plain, -DELIMITERS.index(self.delimiter))

    def data_cells(self) -> Iterable[tuple[int, str]]:
        for i, row in self.rows.items():
            if self.numeric[i] and len(row) == self.width:
                for cell in row:
                    yield i, cell.strip()

    def proven_decimal(self) -> Decimal | None:
        """The decimal sign, if any number shows it."""
        sign = self.decimal
        shows = any(sign in cell and is_number(cell, sign) for _, cell in self.data_cells())
        return sign if shows or self.delimiter == "," else None

    def is_ambiguous(self) -> bool:
        """Whether every comma in a number could as well stand between thousands."""
        if self.decimal == ".":
            return False
        with_comma = [c for _, c in self.data_cells() if "," in c and is_number(c, ",")]
        return bool(with_comma) and all(_THOUSANDS.fullmatch(cell) for cell in with_comma)

    def an_ambiguous_cell(self) -> tuple[int, str]:
        return next((i, c) for i, c in self.data_cells() if "," in c and is_number(c, ","))


_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")


def _count_numbers(row: Sequence[str], decimal: Decimal) -> int:
    if decimal == "." and is_plain("".join(row)):
        try:
            for cell in row:
                float(cell)
            return len(row)
        except ValueError:
            pass
    return sum(1 for cell in row if not is_missing(cell) and is_number(cell, decimal))


def _without_header(table: _Table) -> Layout:
    best = table.best
    first = next(iter(best.rows))
    width = best.width or len(best.rows[first])
    rows = [row for row in best.rows.values() if len(row) == width]
    names = [str(i) for i in range(width)]
    if width > 1 and all(not row[-1].strip() for row in rows):
        names[-1] = ""  # rows that end with a delimiter
    remarks: tuple[str, ...] = ()
    head = [cell.strip() for cell in best.rows[first]]
    if len(rows) > 1 and width > 2 and head == names and rows[1] != rows[0]:
        remarks = (
            f"{table.where(first)} holds 0, 1, 2, ...: it is fed as a sample, because of "
            "--no-header; delete it if it numbers the columns",
        )
    return Layout(
        best.delimiter, table.decimal, tuple(names), ("",) * width, first, remarks=remarks
    )


def _with_header(table: _Table, wanted: Collection[str], is_live: bool) -> Layout:
    best = table.best
    data = [i for i in best.rows if best.numeric[i] and len(best.rows[i]) == best.width]
    if not data:
        return _only_a_header(table)
    start = _skip_preamble(table, data)
    texts = [i for i in best.rows if i < start and not best.numeric[i] and _names_columns(table, i)]
    if texts:
        header = _choose_header(table, texts, wanted, is_live)
        return _layout(table, header, [i for i in texts if i > header])
    below = [i for i in best.rows if i > start]
    if _is_mixed(best, start, [i for i in data if i > start]):
        return _layout(table, start, below)
    if (comment := _header_in_comment(table, start)) is not None:
        return comment
    others = [i for i in best.rows if i < start and best.rows[i] and not best.numeric[i]]
    if others:
        return _header_of_another_width(table, others, start, is_live)
    named = {cell.strip() for cell in best.rows[start]}
    if wanted and all(name.strip() in named for name in wanted):
        return _layout(table, start, below)
    numbers = ",".join(cell.strip() for cell in best.rows[start] if cell.strip())
    raise RecordingError(
        f"{table.where(start)}: numbers where column names were expected; add a header line, or "
        "use --no-header (in a live run file:...?header=no) if these are a sample; if they number "
        "the columns, say which to take: "
        f"--columns {numbers[:60]}"
    )


def _skip_preamble(table: _Table, data: Sequence[int]) -> int:
    """The first row of data behind lines such as `Sample rate,100` above the header."""
    best = table.best
    start = 0
    for index in best.rows:
        has_header = not best.numeric[index] and _names_columns(table, index)
        if not has_header or index < data[start] or _are_units(best.rows[index]):
            continue
        later = [k for k, i in enumerate(data) if i > index]
        rest = data[later[0] :] if later else []
        if rest and all(_is_mixed(best, i, rest) for i in data[start : later[0]]):
            start = later[0]
        break
    return data[start]


def _header_of_another_width(
    table: _Table, others: Sequence[int], start: int, is_live: bool
) -> Layout:
    """A header whose lines of data do not fit it: of a live stream, one line may be cut."""
    best = table.best
    nearest = min(others, key=lambda i: (abs(len(best.rows[i]) - best.width), -i))
    names = len(best.rows[nearest])
    if is_live:
        return _layout(table, nearest, [], names)
    hint = ""
    if best.delimiter == "," and best.width == 2 * names:
        hint = " (decimal commas between commas? write decimal points, or quote the cells)"
    raise RecordingError(f"{table.where(start)}: {best.width} cells, the header has {names}{hint}")


def _names_columns(table: _Table, index: int) -> bool:
    """Whether a line has a name for every column: as many cells, but for an empty one."""
    row, width = table.best.rows[index], table.best.width
    if len(row) == width + 1:
        return not row[-1].strip()
    return len(row) == width or (len(row) == width - 1 and _ends_empty(table))


def _ends_empty(table: _Table) -> bool:
    best = table.best
    rows = [row for i, row in best.rows.items() if best.numeric[i] and len(row) == best.width]
    return all(not row[-1].strip() for row in rows)


def _is_mixed(best: _Candidate, index: int, others: Sequence[int]) -> bool:
    """Whether a row with numbers has text in a column of numbers: `t,0,1,2`."""
    for column, cell in enumerate(best.rows[index]):
        if is_number(cell, best.decimal):
            continue
        below = [best.rows[i][column] for i in others if not is_missing(best.rows[i][column])]
        if below and sum(is_number(c, best.decimal) for c in below) * 2 > len(below):
            return True
    return False


def _header_in_comment(table: _Table, start: int) -> Layout | None:
    """`# time,ax,ay` right above the data, as `numpy.savetxt` writes it."""
    best = table.best
    for index in range(start - 1, -1, -1):
        line = table.lines[index]
        if not line.strip():
            continue
        if not is_comment(line):
            return None
        row = split_row(line.strip().lstrip(COMMENT).strip(), best.delimiter)
        if row and len(row) == best.width and not _count_numbers(row, best.decimal):
            names = tuple(cell.strip() for cell in row)
            units = tuple(unit_in_name(name) for name in names)
            return Layout(best.delimiter, table.decimal, names, units, index + 1, header=index)
        return None
    return None


def _choose_header(
    table: _Table, texts: Sequence[int], wanted: Collection[str], is_live: bool
) -> int:
    """Which of the lines without numbers above the data names the columns."""
    above = [texts[0], *(i for i in texts[1:] if not _are_units(table.best.rows[i]))]
    if len(above) == 1 or is_live:
        return above[0]
    asked = {plain_name(name) for name in wanted}
    naming = [i for i in above if asked and asked <= {plain_name(c) for c in table.best.rows[i]}]
    if len(naming) == 1:
        return naming[0]
    numbers = " and ".join(str(table.first_line + i) for i in above)
    raise RecordingError(
        f"{table.origin}: lines {numbers} could both name the columns of the numbers from line "
        f"{table.first_line + texts[-1] + 1} on; delete all but one, or "
        "say which columns to take: --columns A,B,..."
    )


def _are_units(row: Sequence[str]) -> bool:
    cells = [cell.strip() for cell in row]
    return any(cells) and all(not cell or _UNIT.fullmatch(cell) or is_unit(cell) for cell in cells)


def _only_a_header(table: _Table) -> Layout:
    """No line has a number: the first is the header."""
    index, *later = table.best.rows
    return _layout(table, index, later, len(table.best.rows[index]))


def _layout(table: _Table, header: int, below: Sequence[int], width: int | None = None) -> Layout:
    best = table.best
    width = best.width if width is None else width
    names = [cell.strip() for cell in best.rows[header]][:width]
    names += [""] * (width - len(names))
    units = [unit_in_name(name) for name in names]
    # A row with a number is never a row of units, whatever its cells look like.
    skipped = [i for i in below[:1] if not best.numeric[i] and _are_units(best.rows[i])]
    for i in skipped:
        row = [cell.strip().strip("[]()") for cell in best.rows[i]]
        units = [found or unit for found, unit in zip(row, units, strict=False)]
        units += [""] * (width - len(units))
    return Layout(
        best.delimiter,
        table.decimal,
        tuple(names),
        tuple(units),
        header + 1,
        frozenset(skipped),
        header,
    )
