"""The report as one HTML file that needs nothing else: no script, no network, figures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgelstm.sessions import mode_of

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fafafa; margin: 0; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 2rem 4rem; background: #fff; }
h1 { font-size: 1.6rem; margin: 0.3rem 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; }
p.sub { color: #666; margin: 0 0 1rem; }
ul.verdicts { padding-left: 1.1rem; } ul.verdicts li { margin: 0.25rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; }
th, td { text-align: left; padding: 0.3rem 0.7rem 0.3rem 0; border-bottom: 1px solid #e8e8e8; }
th { color: #666; font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
td { vertical-align: top; } td.name { min-width: 7rem; }
.s { min-width: 9rem; }
.warn { color: #b03a2e; } .no { color: #8a4b08; } .ok { color: #2c7a4b; }
img { max-width: 100%; margin: 0.6rem 0; } code { font-size: 0.9em; }
details summary { cursor: pointer; color: #444; margin-top: 1rem; }
"""

Cell = tuple[str, str]
"""Text and CSS class."""


def render_page(
    report: Mapping[str, Any],
    figures: Mapping[str, str],
    support: Sequence[Mapping[str, Any]],
    note: str = "",
) -> str:
    """The page.

    Args:
        report: what `collect` made.
        figures: SVG by name.
        support: rows of the support table.
        note: shown in front of everything, such as why there are no figures.
    """
    source = report["source"]
    parts = [
        f"<h1>{escape(report['name'])}: {escape(report['scheme'])}</h1>",
        f'<p class="sub">{escape(source["file"] or "model")} (SHA-256 '
        f"{escape(source['sha256'][:12])}...), mode {escape(report['mode'])}, target "
        f"{escape(report['target'])}</p>",
        f'<p class="warn">{escape(note)}</p>' if note else "",
        _verdicts(report),
        "<h2>Layers</h2>",
        _layers(report["layers"]),
        *_split(report["layers"]),
        _figure(figures, "bytes", "Bytes of each layer"),
        _figure(figures, "noise", "Signal to noise of each layer"),
        "<h2>Error end to end, against float32</h2>",
        _errors(report["errors"]),
        _figure(figures, "outputs", "Outputs of both programs"),
        _figure(figures, "histogram", "Histogram of the error"),
        *_drift(report["drift"], figures),
        "<h2>Speed against float32</h2>",
        _speed(report["speed"]),
        _figure(figures, "speed", "Time of a step"),
        *_search(report, figures),
        "<h2>Calibration</h2>",
        _calibration(report),
        "<h2>What each scheme admits</h2>",
        _support(support),
    ]
    body = "\n".join(part for part in parts if part)
    title = escape(f"{report['name']} {report['scheme']}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>\n{body}\n"
        "</main></body></html>\n"
    )


def _verdicts(report: Mapping[str, Any]) -> str:
    items = "".join(f'<li class="{_tone(text)}">{escape(text)}</li>' for text in report["verdicts"])
    return f'<ul class="verdicts">{items}</ul>'


def _tone(text: str) -> str:
    bad = ("does not pay", "The error grows", "flatter")
    return "warn" if any(words in text for words in bad) else ""


def _layers(rows: Sequence[Mapping[str, Any]]) -> str:
    header = [
        "layer",
        "operator",
        "scheme",
        "#fp32 bytes",
        "#bytes",
        "#weights",
        "#output",
        "saturated",
    ]
    body = [
        [
            (row["name"], "name"),
            (row["kind"], ""),
            (row["scheme"], ""),
            (f"{row['bytes_before']:,}", "n"),
            (f"{row['bytes_after']:,}", "n"),
            (decibel(row["weight_sqnr_db"]), "n"),
            (decibel(row["output_sqnr_db"]), "n"),
            (saturation_text(row.get("saturation", {})), "s"),
        ]
        for row in rows
    ]
    return _table(header, body)


def split_texts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """For each matrix of each recurrent layer what rounding it leaves, gate by gate."""
    return [
        (
            row["name"],
            matrix,
            ", ".join(
                f"{gate} {'exact' if db is None else f'{db:.1f}'}" for gate, db in gates.items()
            ),
        )
        for row in rows
        for matrix, gates in row.get("split", {}).items()
    ]


def _split(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    body = [[(name, "name"), (matrix, ""), (text, "s")] for name, matrix, text in split_texts(rows)]
    if not body:
        return []
    note = "Rounding the weights of one matrix of one gate alone: decibels of the worst output."
    return [f"<p>{note}</p>", _table(["layer", "matrix", "gates"], body)]


def _errors(errors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    if not errors:
        return "<p>Nothing was measured: give recordings (--input, --calibrate) and --model.</p>"
    body = [
        [
            (where, ""),
            (name, "name"),
            (decibel(error["sqnr_db"]), "n"),
            (f"{error['max_error']:.3g}", "n"),
            (f"{error['mean_error']:.3g}", "n"),
            (f"{error['rms_error']:.3g}", "n"),
            (percent(error["agreement"]), "n"),
        ]
        for where, outputs in errors.items()
        for name, error in outputs.items()
    ]
    header = ["on", "output", "#SQNR", "#max", "#mean", "#RMS", "#same decision"]
    return _table(header, body)


def _drift(drift: Mapping[str, Any] | None, figures: Mapping[str, str]) -> list[str]:
    if drift is None:
        return []
    return [
        "<h2>Drift</h2>",
        f"<p>{escape(drift['verdict'])}</p>",
        _figure(figures, "drift", "Error over a long stream"),
    ]


def _speed(speed: Mapping[str, Any]) -> str:
    lines = [f"<p><strong>{escape(speed['verdict'])}</strong></p>"]
    measured = speed["measured"]
    if measured is not None:
        lines.append(
            f"<p>Measured here ({escape(measured['engine'])}): {measured['fp32_ns']:,.0f} ns "
            f"in fp32, {measured['quantized_ns']:,.0f} ns quantized, "
            f"ratio {measured['ratio']:.2f}.</p>"
        )
    else:
        lines.append(f"<p>Not measured: {escape(speed['not_measured_because'])}.</p>")
    if speed["predicted_ratio"] is not None:
        lines.append(
            f"<p>Rule of thumb for {escape(speed['predicted_for'])}: "
            f"{speed['predicted_ratio']:.2f} times the speed of fp32.</p>"
        )
    return "\n".join(lines)


def _search(report: Mapping[str, Any], figures: Mapping[str, str]) -> list[str]:
    if not report["search"]:
        return []
    body = [
        [
            (" ".join(f"{name}={scheme}" for name, scheme in trial["schemes"].items()), "name"),
            (f"{trial['bytes']:,}", "n"),
            (f"{trial['error']:.3g}", "n"),
            ("taken" if trial["taken"] else "", "ok"),
        ]
        for trial in report["search"]
    ]
    return [
        "<h2>Search</h2>",
        f"<p>Bound of the error: {report['max_error']:g}; {len(body)} trials.</p>",
        _figure(figures, "search", "Bytes and errors of all trials"),
        f"<details><summary>All trials</summary>"
        f"{_table(['schemes', '#bytes', '#error', ''], body)}</details>",
    ]


def _calibration(report: Mapping[str, Any]) -> str:
    found = report["calibration"]
    if found is None:
        return "<p>None: only weights are quantized.</p>"
    unit = mode_of(report["mode"]).units
    warnings = "".join(f'<li class="warn">{escape(text)}</li>' for text in found["warnings"])
    rest = f"<ul>{warnings}</ul>" if warnings else "<p>Every unit and gate was exercised.</p>"
    ranges = escape(report["options"]["observer"])
    return (
        f"<p>{found['frames']:,} {unit}, ranges by {ranges}, "
        f"SHA-256 {escape(found['sha256'][:12])}...</p>{rest}"
    )


def _support(rows: Sequence[Mapping[str, Any]]) -> str:
    body = [
        [
            (row["scheme"], ""),
            (row["what"], "name"),
            ("yes" if row["admitted"] else "no", "ok" if row["admitted"] else "no"),
            (row["reason"], ""),
        ]
        for row in rows
    ]
    table = _table(["scheme", "operator or attribute", "", "because"], body)
    return f"<details><summary>The support table</summary>{table}</details>"


def _figure(figures: Mapping[str, str], name: str, alt: str) -> str:
    svg = figures.get(name)
    if svg is None:
        return ""
    data = base64.b64encode(svg.encode()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def _table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    head = "".join(
        f'<th class="n">{escape(text[1:])}</th>' if text[:1] == "#" else f"<th>{escape(text)}</th>"
        for text in header
    )
    body = "\n".join(
        "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for text, kind in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def decibel(value: float | None) -> str:
    """A ratio, or a dash."""
    return "-" if value is None else f"{value:.1f} dB"


def percent(share: float | None) -> str:
    """A share, or a dash."""
    return "-" if share is None else f"{100 * share:.2f} %"


def saturation_text(shares: Mapping[str, float]) -> str:
    """Shares at the end of a range, in words."""
    words = {"cell_state": "c"}
    return ", ".join(f"{words.get(name, name)} {percent(x)}" for name, x in shares.items())
