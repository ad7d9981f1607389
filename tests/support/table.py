"""README's support table: proven row by row, and written between two marks."""

from __future__ import annotations

import re
from pathlib import Path

from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.driver import compile_model
from tests.support.rows import ROWS, Case, Row

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- support: make support-table -->", "<!-- /support -->"


def outcome(case: Case, mode: str) -> str:
    """The refusal; nothing where a model compiles and its self-check passes."""
    try:
        artifact = compile_model(
            case.make(),
            target="reference",
            mode=mode,  # type: ignore[arg-type]
            **dict(case.options),
        )
    except EdgeLSTMError as error:
        return str(error)
    return "" if artifact.manifest["check"]["done"] else "nothing was checked"


def faults(row: Row) -> list[str]:
    """Where a row says something else than its models show."""
    found = []
    for number, case in enumerate(row.cases):
        for mode, wanted in (("stream", case.stream), ("call", case.call)):
            if wanted is None:
                continue
            seen = outcome(case, mode)
            if bool(wanted) is not bool(seen) or not re.search(wanted, seen, re.DOTALL):
                found.append(f"case {number}, {mode}: {seen or 'it compiles'}; said: {wanted}")
    return found


def rendered() -> str:
    """The table."""
    lines = [
        "| | stream (one frame a step) | call (the ONNX function) |",
        "|---|---|---|",
        *(f"| {row.what} | {row.stream} | {row.call} |" for row in ROWS),
    ]
    return "\n".join(lines)


def committed(path: Path = README) -> str:
    """What stands between the marks."""
    return path.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def write(path: Path = README) -> None:
    """Put the table between the marks."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    behind = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{rendered()}\n{END}{behind}", encoding="utf-8")
