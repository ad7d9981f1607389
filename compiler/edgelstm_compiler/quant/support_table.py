"""The support table as rows for people and machines: scheme x operator, and attributes."""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.support import ATTRIBUTES, OK, SUPPORT


def support_rows() -> list[dict[str, Any]]:
    """Scheme, operator or attribute, whether it is admitted, and why not (or what happens)."""
    rows = [
        _row(scheme, op.__name__, why) for scheme, ops in SUPPORT.items() for op, why in ops.items()
    ]
    rows += [
        _row(scheme, what, why)
        for scheme, found in ATTRIBUTES.items()
        for what, why in found.items()
    ]
    return rows


def _row(scheme: Scheme, what: str, why: str) -> dict[str, Any]:
    return {"scheme": scheme.value, "what": what, "admitted": why == OK, "reason": why}
