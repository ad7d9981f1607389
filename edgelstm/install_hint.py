"""How to get an optional part of edgelstm: its distributions are on no index."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import edgelstm.version

_ROOT = Path(edgelstm.version.__file__).resolve().parent.parent
_DISTRIBUTIONS = ("compiler", "targets")
_HOMES = {
    **dict.fromkeys(("check", "emulate", "report", "train"), "compiler"),
    **dict.fromkeys(("cuda", "cuda12", "zig"), "targets"),
}
"""Extras that are not the runtime's own, with the distribution that has them."""


def install_hint(*parts: str) -> str:
    """The command that adds parts to this installation.

    Where edgelstm runs from its checkout the command names it, and works in any folder; else it is
    the command to type in a checkout.

    Args:
        parts: `compiler` (with the targets), or extras (`emulate`, `cuda`, ...).
    """
    is_checkout = (_ROOT / "pyproject.toml").is_file()
    root = str(_ROOT) if is_checkout else "."
    own = [part for part in parts if part not in (*_HOMES, *_DISTRIBUTIONS)]
    words = [_requirement(root, own)]
    if len(own) < len(parts):
        for name in _DISTRIBUTIONS:
            extras = [part for part in parts if _HOMES.get(part) == name]
            words.append(_requirement(f"{root}/{name}", extras))
    command = f"pip install {' '.join(words)}"
    return command if is_checkout else f"{command} in a checkout of edgelstm"


def _requirement(place: str, extras: Sequence[str]) -> str:
    return shlex.quote(f"{place}[{','.join(extras)}]" if extras else place)
