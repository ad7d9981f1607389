"""The run half of the targets: one file per engine, chosen by the artifact's manifest."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm.engines.base import Engine
from edgelstm.errors import TargetUnavailableError
from edgelstm.version import VERSION


def _native() -> Engine:
    from edgelstm.engines.native import NativeEngine

    return NativeEngine()


def _reference() -> Engine:
    from edgelstm.engines.reference import ReferenceEngine

    return ReferenceEngine()


def _cuda() -> Engine:
    from edgelstm.engines.cuda import CudaEngine

    return CudaEngine()


ENGINES: dict[str, Callable[[], Engine]] = {
    "native": _native,
    "reference": _reference,
    "cuda": _cuda,
}
"""Every engine of this runtime; each is imported when it is first asked for."""


def find_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        TargetUnavailableError: this runtime has no such engine.
    """
    try:
        make = ENGINES[name]
    except KeyError:
        raise TargetUnavailableError(
            f"this artifact runs on engine {name!r}, which edgelstm {VERSION} does not have "
            f"(it has: {', '.join(ENGINES)}): upgrade edgelstm here, or compile for another target"
        ) from None
    return make()
