"""The figures of a report, as SVG text; matplotlib lives here and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgelstm_compiler.quant_report.collect import Curves

FLOAT, QUANTIZED, WARNING = "#4878a8", "#d9822b", "#b03a2e"
_CHANNELS = 6


def plots_available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401 - whether it can be imported is the question
    except ImportError:
        return False
    return True


def draw_all(report: Mapping[str, Any], curves: Curves) -> dict[str, str]:
    """SVG by name of the figure; what there is no data for is left out."""
    figures: dict[str, str] = {}
    if report["layers"]:
        figures["bytes"] = _svg(lambda figure: _draw_bytes(figure, report), (7.2, 2.6))
        figures["noise"] = _svg(lambda figure: _draw_noise(figure, report), (7.2, 2.6))
    if len(curves.wanted) > 1:
        figures["outputs"] = _svg(lambda figure: _draw_outputs(figure, curves), (10, 4.6))
    if curves.errors.size:
        figures["histogram"] = _svg(lambda figure: _draw_histogram(figure, curves), (7.2, 2.8))
    if report["drift"] is not None:
        figures["drift"] = _svg(lambda figure: _draw_drift(figure, report["drift"]), (10, 3.4))
    if report["search"]:
        figures["search"] = _svg(lambda figure: _draw_search(figure, report), (7.2, 3.2))
    if report["speed"]["measured"] is not None:
        figures["speed"] = _svg(
            lambda figure: _draw_speed(figure, report["speed"]["measured"]), (7.2, 1.6)
        )
    return figures


def _svg(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.6,
        "svg.hashsalt": "edgelstm",
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    return target.getvalue()


def _draw_bytes(figure: Any, report: Mapping[str, Any]) -> None:
    axes = figure.add_subplot()
    layers = report["layers"]
    places = np.arange(len(layers))
    axes.barh(places - 0.2, [x["bytes_before"] for x in layers], 0.38, color=FLOAT, label="fp32")
    axes.barh(
        places + 0.2, [x["bytes_after"] for x in layers], 0.38, color=QUANTIZED, label="quantized"
    )
    axes.set_yticks(places, [f"{x['name']} ({x['scheme']})" for x in layers])
    axes.invert_yaxis()
    axes.set_xlabel("bytes of weights and biases")
    figure.legend(frameon=False, ncols=2, loc="outside upper right")


def _draw_noise(figure: Any, report: Mapping[str, Any]) -> None:
    axes = figure.add_subplot()
    layers = report["layers"]
    places = np.arange(len(layers))
    for shift, key, color, label in (
        (-0.2, "weight_sqnr_db", FLOAT, "weights"),
        (0.2, "output_sqnr_db", QUANTIZED, "output"),
    ):
        axes.barh(places + shift, [x[key] or 0.0 for x in layers], 0.38, color=color, label=label)
    axes.set_yticks(places, [x["name"] for x in layers])
    axes.invert_yaxis()
    axes.set_xlabel("signal to quantization noise, dB (more is better)")
    figure.legend(frameon=False, ncols=2, loc="outside upper right")


def _draw_outputs(figure: Any, curves: Curves) -> None:
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    steps = np.arange(len(curves.wanted))
    count = min(curves.wanted.shape[1], _CHANNELS)
    for channel in range(count):
        (line,) = above.plot(steps, curves.wanted[:, channel], lw=1.0, alpha=0.55)
        above.plot(steps, curves.found[:, channel], lw=0.8, ls="--", color=line.get_color())
    above.plot([], [], color="#555", lw=1.0, alpha=0.55, label="fp32")
    above.plot([], [], color="#555", lw=0.8, ls="--", label="quantized")
    figure.legend(frameon=False, ncols=2, loc="outside upper right")
    above.set_ylabel("output")
    error = np.abs(curves.found.astype(np.float64) - curves.wanted).max(axis=1)
    below.fill_between(steps, error, color=QUANTIZED, alpha=0.6, lw=0)
    below.set_ylabel("largest error")
    below.set_xlabel(f"frame ({curves.source})")


def _draw_histogram(figure: Any, curves: Curves) -> None:
    axes = figure.add_subplot()
    axes.hist(curves.errors, bins=80, color=QUANTIZED)
    axes.set_yscale("log")
    axes.set_xlabel(f"absolute error ({curves.source})")
    axes.set_ylabel("values")


def _draw_drift(figure: Any, drift: Mapping[str, Any]) -> None:
    axes = figure.add_subplot()
    rms, largest = np.asarray(drift["rms_error"]), np.asarray(drift["max_error"])
    middles = (np.arange(len(rms)) + 0.5) * drift["block_steps"]
    axes.plot(middles, largest, color="#b9b9b9", lw=1.0, label="largest in the block")
    axes.plot(middles, rms, color=QUANTIZED, lw=1.4, label="RMS of the block")
    slope = drift["slope_per_100000_steps"] / 100_000
    line = rms.mean() + slope * (middles - middles.mean())
    color = WARNING if drift["grows"] else FLOAT
    axes.plot(middles, line, color=color, lw=1.4, ls="--", label="line of least squares")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"step without a reset ({drift['source']})")
    axes.set_ylabel("error of the outputs")
    figure.legend(frameon=False, ncols=3, loc="outside upper right")


def _draw_search(figure: Any, report: Mapping[str, Any]) -> None:
    axes = figure.add_subplot()
    for taken, color, label in ((False, "#b9b9b9", "tried"), (True, QUANTIZED, "taken")):
        trials = [trial for trial in report["search"] if trial["taken"] is taken]
        sizes, errors = ([trial[key] for trial in trials] for key in ("bytes", "error"))
        if trials:
            axes.plot(sizes, errors, "o-" if taken else "o", color=color, ms=5, lw=1, label=label)
    axes.axhline(report["max_error"], color=WARNING, lw=1, ls="--", label="bound")
    axes.set_xlabel("bytes of all layers")
    axes.set_ylabel("largest error")
    axes.set_yscale("log")
    axes.legend(frameon=False)


def _draw_speed(figure: Any, measured: Mapping[str, Any]) -> None:
    axes = figure.add_subplot()
    values = [measured["fp32_ns"], measured["quantized_ns"]]
    axes.barh(["fp32", "quantized"], values, color=[FLOAT, QUANTIZED])
    axes.invert_yaxis()
    axes.set_xlabel("ns a step, native code")
