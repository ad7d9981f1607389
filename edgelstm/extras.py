"""Packages that only some commands need: found when they are used, named where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgelstm.errors import TargetUnavailableError


def load_extra(module: str, extra: str, purpose: str) -> Any:
    """A module of a package that `pip install 'edgelstm[EXTRA]'` brings.

    Args:
        module: its full name.
        extra: of edgelstm.
        purpose: who needs it, in words, in the plural.

    Raises:
        TargetUnavailableError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        package = module.partition(".")[0]
        raise TargetUnavailableError(
            f"{purpose} need the package {package}: pip install 'edgelstm[{extra}]'"
        ) from exc
