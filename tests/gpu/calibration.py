"""Finds the constants of routing (`costs.py` of the target) that fit what a GPU measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgelstm_targets.numba_cuda.costs import MODEL, Costs, Work

Row = dict[str, Any]


def fit_costs(rows: dict[str, Row]) -> dict[str, float]:
    """Constants by name; those that nothing was measured for are left out.

    One block without weights outside of registers gives `start` and `multiply`; one block with
    weights in shared memory, and with weights in L2, the rates of reading; teams the price of an
    exchange, all that they take beside the work of one of their blocks.
    """
    measured = [row["chunk"] for row in rows.values() if row.get("chunk", {}).get("cycles")]
    blocks = [each for each in measured if each["shape"] == "block"]
    found: dict[str, float] = {}
    _fit_chain([each for each in blocks if not _outside(each)], found)
    _fit_shared([each for each in blocks if each["work"]["shared_bytes"]], found)
    _fit_streaming([each for each in blocks if each["work"]["streamed_bytes"]], found)
    for shape in ("cluster", "exchange"):
        prices = [
            (each["cycles"] - _work(each).cycles(_costs(found))) / each["exchanges"]
            for each in measured
            if each["shape"] == shape and each["exchanges"]
        ]
        if prices:
            found[shape] = max(1.0, float(np.median(prices)))
    return {name: round(value, 2) for name, value in found.items()}


def _fit_chain(blocks: list[Row], found: dict[str, float]) -> None:
    """Least squares of start and multiply; the rest of a frame is taken as the model has it."""
    if len({each["work"]["multiplies"] for each in blocks}) < 2:
        return
    left = np.array([[each["work"]["starts"], each["work"]["multiplies"]] for each in blocks])
    anyway = [MODEL.frame + each["work"]["warps"] * MODEL.barrier for each in blocks]
    right = np.array([each["cycles"] for each in blocks]) - anyway
    start, multiply = np.linalg.lstsq(left.astype(float), right, rcond=None)[0]
    if start > 0 and multiply > 0:
        found["start"], found["multiply"] = float(start), float(multiply)


def _fit_shared(blocks: list[Row], found: dict[str, float]) -> None:
    """Bytes a cycle that explain what weights in shared memory take more."""
    rates = [
        each["work"]["shared_bytes"] / more
        for each in blocks
        if not each["work"]["streamed_bytes"]
        and (more := each["cycles"] - _without(each, found, "shared_bytes")) > 0
    ]
    if rates:
        found["shared_bytes_a_cycle"] = float(np.median(rates))


def _fit_streaming(blocks: list[Row], found: dict[str, float]) -> None:
    rates = [
        each["work"]["streamed_bytes"] / more
        for each in blocks
        if (more := each["cycles"] - _without(each, found, "streamed_bytes") - MODEL.l2_latency) > 0
    ]
    if rates:
        found["l2_bytes_a_cycle"] = float(np.median(rates))


def _without(row: Row, found: dict[str, float], part: str) -> float:
    """Cycles of a row as the constants so far have them, without one part."""
    return dataclasses.replace(_work(row), **{part: 0}).cycles(_costs(found))


def _outside(row: Row) -> int:
    """Bytes of weights that are not in registers."""
    work = row["work"]
    outside: int = work["shared_bytes"] + work["streamed_bytes"]
    return outside


def _work(row: Row) -> Work:
    return Work(**row["work"])


def _costs(found: dict[str, float]) -> Costs:
    return dataclasses.replace(MODEL, **found)
