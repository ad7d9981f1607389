"""How commands load artifacts that they run: privately or mapped, with or without a signature."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click

import edgelstm.artifact
from edgelstm.artifact import Artifact
from edgelstm.trust import default_folder

Loader = Callable[[Path], Artifact]
"""What commands with `loading_options` are given as `load`."""

_F = TypeVar("_F", bound=Callable[..., Any])


def loading_options(function: _F) -> _F:
    """Options `--mmap` and `--require-signature`, passed as one function `load`."""

    @click.option(
        "--mmap",
        "is_mapped",
        is_flag=True,
        help="Map ARTIFACT instead of copying it; nobody may write into the file meanwhile.",
    )
    @click.option(
        "--require-signature",
        "is_signed",
        is_flag=True,
        help="Run ARTIFACT only if a trusted key signed it (see edgelstm trust).",
    )
    @wraps(function)
    def wrapped(*args: Any, is_mapped: bool, is_signed: bool, **options: Any) -> Any:
        load = partial(_load, is_mapped=is_mapped, is_signed=is_signed)
        return function(*args, load=load, **options)

    return wrapped  # type: ignore[return-value]


def _load(path: Path, *, is_mapped: bool, is_signed: bool) -> Artifact:
    trust = default_folder() if is_signed else None
    return edgelstm.artifact.load(path, mmap=is_mapped, trust=trust)
