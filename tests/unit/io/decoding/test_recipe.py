"""A recipe is read from TOML, and what is wrong in it is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.errors import RecordingError
from edgelstm.io.decoding import recipe as recipe_module
from edgelstm.io.decoding.recipe import Recipe, read_recipe, recipe_from_json, recipe_of
from edgelstm.io.toml_table import parse_toml


def test_the_documented_recipe_is_one() -> None:
    """The example in the documentation reads, but for what excludes each other."""
    text = (recipe_module.__doc__ or "").split("```toml")[1].split("```")[0]
    with pytest.raises(RecordingError, match=r"does not go with phases\.order"):
        recipe_of(parse_toml(text, "decode.toml"))
    start, end = text.index("[hysteresis]"), text.index("[[repetitions]]")
    found = recipe_of(parse_toml(text[:start] + text[end:], "decode.toml"))
    assert found.phases is not None
    assert found.phases.minimum_s == {}
    assert found.alarms[0].needs_acknowledgement


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[smoothing]\nkind = \n", r"decode.toml:2: not TOML"),
        ("[smoothing]\n\nkind = 'best'\n", r"decode.toml:3: smoothing.kind: is 'best', not one of"),
        ("# a\nsmothing = 1\n", r"decode.toml:2: smothing: is not known here; known are output"),
        ("smoothing = 3\n", r"decode.toml:1: smoothing: is 3, not a table"),
        ("[phases]\nminimum_s = -1\n", r"decode.toml:2: phases.minimum_s: is -1, not a number"),
        (
            "[phases]\norder = [\n 'a',\n 'a',\n 'b'\n]\nlag_s = 'x'",
            r"decode.toml:2: phases.order: has a label twice in a row",
        ),
        ("[phases]\norder = ['a', 'b']\nlag_s = 'x'", r"decode.toml:3: phases.lag_s: is 'x'"),
        (
            "[phases]\n[phases.offset_s]\na = 1\nb = true\n",
            r"decode.toml:4: phases.offset_s.b: is True",
        ),
        ("[phases]\norder = ['a', 'b', 'a']", r"decode.toml:2: .* ends with the label"),
        (
            "[[alarms]]\nname = 'a'\ncolumn = 'y'\nabove = 1\n[[alarms]]\nname = 'b'\n"
            "column = 'y'\nabove = 1\nclear = 2",
            r"decode.toml:9: alarms\[2\].clear: is 2, which is beyond the limit",
        ),
        (
            "[[alarms]]\nname = 'a'\ncolumn = 'y'\nabove = 1\nbelow = 0",
            r"decode.toml:1: alarms\[1\]: has one limit",
        ),
        (
            "[[repetitions]]\nname = 'a'\ncycle = ['x']\n" * 2,
            r"decode.toml:5: repetitions\[2\].name: 'a' is there already",
        ),
        ("[[repetitions]]\nname = 'a'", r"decode.toml:1: repetitions\[1\]: has no cycle"),
        ("[hysteresis]\nenter = 0.2", r"decode.toml:1: hysteresis.leave: is 0.4, above enter"),
        ("[hysteresis]\nenter = nan", r"decode.toml:2: hysteresis.enter: is nan"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    """File, line, key, what was found, and what is expected."""
    with pytest.raises(RecordingError, match=message):
        recipe_of(parse_toml(text, "decode.toml"))


def test_a_file_is_read_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    """Missing files and bytes that are no text are errors with a name."""
    path = tmp_path / "decode.toml"
    path.write_text("[phases]\nminimum_s = 0.3\n", encoding="utf-8")
    found = read_recipe(path)
    assert found.phases is not None
    assert found.phases.shortest_s == pytest.approx(0.3)
    path.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(RecordingError, match=r"decode.toml:2: not TOML: no text in UTF-8"):
        read_recipe(path)
    with pytest.raises(RecordingError, match="cannot read"):
        read_recipe(tmp_path / "none.toml")


def test_a_recipe_from_an_artifact_needs_no_lines() -> None:
    """It is the same table, as JSON."""
    assert recipe_from_json({"smoothing": {"seconds": 0.1}}, "a.edgelstm") == recipe_of(
        parse_toml("smoothing.seconds = 0.1", "x")
    )
    with pytest.raises(RecordingError, match=r"a.edgelstm: phases.lag_s: is 'x'"):
        recipe_from_json({"phases": {"lag_s": "x"}}, "a.edgelstm")
    with pytest.raises(RecordingError, match="no table"):
        recipe_from_json([1], "a.edgelstm")


def test_an_empty_recipe_decodes_nothing() -> None:
    """No phases are decided where nothing asks for them."""
    assert recipe_of(parse_toml("", "x")) == Recipe()
    assert not Recipe().has_phases
