"""Templates: their gaps and what fills them are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edgelstm_compiler.c_export as package
from edgelstm.errors import InternalError
from edgelstm_compiler.templates import fill

FOLDER = Path(package.__file__).parent / "templates"


def test_gaps_are_filled_once() -> None:
    """A value that looks like a gap stays as it is."""
    text = fill(package.__name__, "zephyr/module.yml", name="@name@")
    assert text.startswith("name: @name@\n")


@pytest.mark.parametrize("values", [{}, {"name": "a", "other": "b"}])
def test_gaps_and_values_must_agree(values: dict[str, str]) -> None:
    """A gap without a value, and a value without a gap."""
    with pytest.raises(
        InternalError, match=r"template zephyr/module.yml .* differ in (name|other)"
    ):
        fill(package.__name__, "zephyr/module.yml", **values)


def test_every_template_is_used() -> None:
    """Each stands by its name in the code of its room."""
    code = "\n".join(path.read_text() for path in FOLDER.parent.rglob("*.py"))
    names = [str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.*")]
    assert len(names) > 25
    folder = "zephyr/sample/"
    unused = [n for n in names if f'"{n.removeprefix(folder)}"' not in code]
    assert not unused


def test_code_has_no_doubled_braces() -> None:
    """C stands in files of its own, not in format strings."""
    rooms = [FOLDER.parent, FOLDER.parents[3] / "targets/edgelstm_targets/tvm_cpu/header.py"]
    files = [f for room in rooms for f in ([room] if room.is_file() else room.rglob("*.py"))]
    found = {str(f): re.findall(r".*[{]{2}$", f.read_text(), re.M) for f in files}
    assert not {name for name, lines in found.items() if lines}
