"""The table of a session, and its goals beside what was measured."""

from __future__ import annotations

from typing import Any

from tests.gpu.peers import MANY_FRAMES

Report = dict[str, Any]

_COLUMNS = (
    ("model", 26),
    ("parity", 9),
    ("shape", 9),
    ("ns/frame", 9),
    ("cuDNN", 9),
    ("graphed", 9),
    ("fp16", 9),
    ("times", 6),
    ("graph us", 9),
    ("doorbell", 9),
    ("cuDNN", 7),
    ("ORT us", 7),
    ("1e9/s", 7),
    ("cuDNN", 7),
    ("fp16", 7),
)


def goals(rows: Report) -> list[Report]:
    """Each goal of the issue: what was asked, what was measured, and whether it is reached."""
    found = []
    for name, limit in (("lstm_9_64x1", 300), ("lstm_16_128x1", 450), ("lstm_64_256x1", 700)):
        ns = _number(rows, name, "chunk", "ns")
        found.append(_goal(f"{name}: at most {limit} ns a frame in a chunk", ns, most=limit))
        times = _times_faster(rows, name)
        found.append(_goal(f"{name}: at least 3 times cuDNN at batch 1", times, least=3.0))
    for name, giga in (("lstm_9_64x1_fp16", 4.0), ("lstm_16_128x1_fp16", 1.5)):
        made = _number(rows, name, "streams", "giga")
        text = f"{name}: at least {giga:g}e9 cell-steps a second, many streams"
        found.append(_goal(text, made, least=giga))
    for way, limit in (("graph", 8), ("doorbell", 5)):
        us = _number(rows, "lstm_9_64x1", way, "us")
        found.append(_goal(f"one step by {way}: at most {limit} us", us, most=limit))
    return found


def table(report: Report) -> str:
    """All of it as text."""
    rows = report["rows"]
    lines = [" ".join(title.ljust(width) for title, width in _COLUMNS)]
    for name, row in rows.items():
        cells = _cells(name, row, rows)
        lines.append(
            " ".join(cell.ljust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
        )
    lines.append("")
    for name, row in rows.items():
        lines += [
            f"{name}, {section}: {outcome['failed']}"
            for section, outcome in row.items()
            if "failed" in outcome
        ]
    lines.append(f"\nus of {MANY_FRAMES} frames of many streams by each kernel (* is taken):")
    lines += [
        f"  {name}, {point['streams']}: {_kernels(point)}"
        for name, row in rows.items()
        for point in row.get("streams", {}).get("sweep", ())
    ]
    lines.append("\ngoals:")
    for goal in report["goals"]:
        value = "not measured" if goal["measured"] is None else f"{goal['measured']:.4g}"
        lines.append(f"  {goal['goal']}: {value}: {'yes' if goal['reached'] else 'no'}")
    lines.append("\ncosts that fit (compile with --option costs=THE JSON FILE):")
    for chip, costs in report["costs"].items():
        lines += [f"  {chip} {name} = {value:g}" for name, value in costs.items()]
    return "\n".join(lines)


def _cells(name: str, row: Report, rows: Report) -> list[str]:
    check = row.get("parity", {})
    frames = row.get("peers", {}).get("frames")
    chunk = {
        key: _scaled(rows, name, key, 1000 / frames if frames else None)
        for key in ("chunk_fp32_us", "chunk_graph_fp32_us", "chunk_fp16_us")
    }
    cells = row.get("peers", {}).get("cells")
    many = {
        key: (cells / us / 1000 if cells and (us := _number(rows, name, "peers", key)) else None)
        for key in ("many_fp32_us", "many_fp16_us")
    }
    return [
        name,
        _text(check.get("error"), ".1e") + ("" if check.get("agrees", True) else "!"),
        str(check.get("shape", "-")),
        _text(_number(rows, name, "chunk", "ns"), ".0f"),
        *(_text(value, ".0f") for value in chunk.values()),
        _text(_times_faster(rows, name), ".1f"),
        _text(_number(rows, name, "graph", "us"), ".1f"),
        _text(_number(rows, name, "doorbell", "us"), ".1f"),
        _text(_number(rows, name, "peers", "step_graph_fp32_us"), ".1f"),
        _text(_number(rows, name, "peers", "frame_us"), ".1f"),
        _text(_number(rows, name, "streams", "giga"), ".3f"),
        *(_text(value, ".3f") for value in many.values()),
    ]


def _kernels(point: Report) -> str:
    """What each kernel takes for some number of streams."""
    return ", ".join(
        f"{name}{'*' if name == point['taken'] else ''} {us:.1f}"
        for name, us in point["us"].items()
    )


def _times_faster(rows: Report, name: str) -> float | None:
    """How many times the best float32 of cuDNN takes, eager or as a graph."""
    mine = _number(rows, name, "chunk", "ns")
    frames = rows.get(name, {}).get("peers", {}).get("frames")
    others = [
        us
        for key in ("chunk_fp32_us", "chunk_graph_fp32_us")
        if (us := _number(rows, name, "peers", key)) is not None
    ]
    if not mine or not frames or not others:
        return None
    return min(others) / frames * 1000 / mine


def _goal(
    text: str, measured: float | None, least: float = 0.0, most: float = float("inf")
) -> Report:
    reached = measured is not None and least <= measured <= most
    return {"goal": text, "measured": measured, "reached": reached}


def _scaled(rows: Report, name: str, key: str, factor: float | None) -> float | None:
    value = _number(rows, name, "peers", key)
    return None if value is None or factor is None else value * factor


def _number(rows: Report, name: str, section: str, key: str) -> float | None:
    value = rows.get(name, {}).get(section, {}).get(key)
    return value if isinstance(value, (int, float)) else None


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
