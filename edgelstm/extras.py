"""Packages that only some commands need: found when they are used, named where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgelstm.errors import TargetUnavailableError
from edgelstm.install_hint import install_hint


def load_extra(module: str, extra: str, purpose: str) -> Any:
    """A module of a package that an extra of edgelstm brings.

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
            f"{purpose} need the package {package}: {install_hint(extra)}"
        ) from exc
