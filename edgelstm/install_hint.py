"""How to get an optional part of edgelstm, in words that work: the package is on no index."""

from __future__ import annotations

import shlex
from pathlib import Path

import edgelstm.version

_ROOT = Path(edgelstm.version.__file__).resolve().parent.parent


def install_hint(*extras: str) -> str:
    """The command that adds extras (`compiler`, `cuda`, ...) to this installation.

    Where edgelstm runs from its checkout the command names it, and works in any folder; else it is
    the command to type in a checkout.
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    if (_ROOT / "pyproject.toml").is_file():
        return f"pip install {shlex.quote(f'{_ROOT}{wanted}')}"
    return f"pip install '.{wanted}' in a checkout of edgelstm"
