"""The README of `edgelstm/io` says of every file what stands there."""

from __future__ import annotations

import re
from pathlib import Path

import edgelstm.io

FOLDER = Path(edgelstm.io.__file__).parent


def test_every_file_is_named() -> None:
    """By its name, or by its folder; and no file is named that is not there."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+\.py)`", text))
    own = {path.name for path in FOLDER.glob("*.py")} - {"__init__.py"}
    assert not own - named
    inner = {path.name for path in FOLDER.rglob("*.py")}
    assert not named - inner
    folders = {path.name for path in FOLDER.iterdir() if (path / "__init__.py").exists()}
    assert not {name for name in folders if f"`{name}/" not in text}
