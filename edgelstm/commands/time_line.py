"""Which frames an output depends on and when it comes, drawn in a line of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelstm.signature import LookaheadPlan, TensorSpec

WIDTH = 48
"""Frames that are drawn; of more, the newest."""

ENDLESS = 16
"""How many of frames without end."""


def draw(spec: TensorSpec, rate_hz: float | None = None) -> str:
    """Frames up to the one with which a row comes, that one last.

    `=` a row depends on, `o` is the frame that it stands for, `|` the one with which it comes (also
    where these are one), `<` goes on without end; what follows says it in words.
    """
    reach = spec.reach or max(ENDLESS, spec.delay + 4)
    shown = min(max(reach, spec.delay + 1), WIDTH)
    line = ["=" if back < reach else "." for back in range(shown)]
    if spec.delay < shown:
        line[spec.delay] = "o"
    line[0] = "|"
    endless = "<" if not spec.reach or reach > WIDTH else ""
    return f"{endless}{''.join(reversed(line))}  {_words(spec, rate_hz)}"


def _words(spec: TensorSpec, rate_hz: float | None) -> str:
    sees = f"sees {spec.reach} frames" if spec.reach > 1 else "sees its frame"
    if not spec.reach:
        sees = "sees all frames so far"
    every = "at any time" if spec.time_axis is None else "every frame"
    if spec.stride > 1:
        every = f"every {spec.stride} frames"
        every += f" ({rate_hz / spec.stride:g} Hz)" if rate_hz else ""
    late = "at once"
    if spec.delay:
        late = f"{spec.delay} frames late"
        late += f" ({1000 * spec.delay / rate_hz:g} ms)" if rate_hz else ""
    first = f", first with frame {spec.warm_up}" if spec.warm_up > spec.delay else ""
    return f"{sees}, {every}, {late}{first}"


def say_cost(plan: LookaheadPlan, rate_hz: float | None = None) -> str:
    """When answers come, and how often each frame is computed."""
    late = f"{plan.delay}" if plan.chunk == 1 else f"{plan.ahead} to {plan.delay}"
    if rate_hz:
        late += f" ({1000 * plan.delay / rate_hz:g} ms at most)"
    cost = plan.span / plan.chunk
    cheaper = ""
    if plan.ahead > plan.chunk:
        cheaper = f"; --chunk {plan.ahead} makes that 2, up to {2 * plan.ahead - 1} frames late"
    return f"answers come {late} frames late, each frame is computed {cost:.3g} times{cheaper}"


def say_context(record: Mapping[str, Any]) -> str:
    """What a bounded attention is beside the model's.

    Args:
        record: the manifest's entry about it.
    """
    seen = "its frame" if record["context"] == 1 else f"{record['context']} frames"
    nodes = ", ".join(record["nodes"])
    if not record["is_exact"]:
        first = f"; the same for the first {record['exact_for']}" if record["exact_for"] else ""
        return f"{nodes}: each frame sees {seen} at most, ANOTHER FUNCTION than the model's{first}"
    if record["frames"] == record["context"]:
        return (
            f"{nodes}: exact for {seen}, all that the model takes; then each frame sees the newest "
            f"{record['context']}, of which the model says nothing"
        )
    return f"{nodes}: each frame sees {seen} at most, as the model's own mask says"
