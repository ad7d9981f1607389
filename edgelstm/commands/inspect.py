"""`edgelstm inspect`: what a compiled model, or an ONNX model, holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

import edgelstm.artifact
from edgelstm.admission import what_is_taken
from edgelstm.artifact import Artifact
from edgelstm.commands.inspect_options import (
    parse_overlap,
    parse_pair,
    parse_shape,
    parse_value,
)
from edgelstm.commands.report import (
    format_bytes,
    json_option,
    print_facts,
    print_json,
    print_table,
    say,
)
from edgelstm.commands.time_line import draw, say_context, say_cost
from edgelstm.container import MAGIC
from edgelstm.engines.native import CODE_PREFIX, STREAMS_PREFIX, code_variants
from edgelstm.errors import ArtifactError, ModelError, TargetError, TargetUnavailableError
from edgelstm.footprint import footprints
from edgelstm.foreign_files import is_onnx, recognize
from edgelstm.install_hint import install_hint
from edgelstm.manifest import read_manifest
from edgelstm.sessions import MODES, mode_of
from edgelstm.sessions.chunks import frames_of_step
from edgelstm.signature import StateSpec, TensorSpec

INSPECTOR_GROUP = "edgelstm.inspectors"
"""Entry points for other files, named by suffix: `onnx = callable(path, **options) -> dict`.

The dict is the JSON report; its entry `text`, if there is one, is what people get to see.
"""


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mode", type=click.Choice(list(MODES)), help="ONNX: as compile would.")
@click.option("--shape", "shapes", multiple=True, metavar="X=5,1,3", help="ONNX: fix a shape.")
@click.option("--set", "constants", multiple=True, metavar="X=16000", help="ONNX: fix an input.")
@click.option("--carry", multiple=True, metavar="IN=OUT", help="ONNX: a state, as for compile.")
@click.option("--no-carry", is_flag=True, help="ONNX: no state but those of recurrent layers.")
@click.option("--overlap", multiple=True, metavar="[X=]64", help="ONNX: as for compile.")
@json_option
def inspect_command(
    file: Path,
    mode: str | None,
    shapes: tuple[str, ...],
    constants: tuple[str, ...],
    carry: tuple[str, ...],
    no_carry: bool,
    overlap: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what FILE holds: a compiled model, or an ONNX model and what compiling it would say.

    \b
    edgelstm inspect phase.edgelstm
    edgelstm inspect phase.onnx --mode stream --json
    """
    if file.suffix.lower() == ".edgelstm" or _is_artifact(file):
        report = describe_artifact(edgelstm.artifact.load(file))
        if as_json:
            print_json(report)
        else:
            _print_artifact(report)
        return
    options: dict[str, Any] = {"shapes": dict(parse_shape(text) for text in shapes)}
    if mode is not None:
        options["mode"] = mode
    if constants:
        options["constants"] = dict(parse_value(text) for text in constants)
    if no_carry:
        options["carry"] = False
    elif carry:
        options["carry"] = dict(parse_pair(text) for text in carry)
    if overlap:
        options["overlap"] = dict(parse_overlap(text) for text in overlap)
    report = _inspect_other(file, options)
    text = report.pop("text", None)
    if as_json:
        print_json(report)
    elif text is not None:
        say(text)
    else:
        _print_report(report)


def describe_artifact(artifact: Artifact) -> dict[str, Any]:
    """All that there is to say about a compiled model, as a JSON object."""
    manifest, signature = artifact.manifest, artifact.signature
    try:
        runs_here, reason = True, " ".join(artifact.runs_as.values())
    except (TargetError, ArtifactError) as exc:
        runs_here, reason = False, str(exc)
    layers = manifest.get("layers", [])
    return {
        "kind": "artifact",
        "name": artifact.name,
        "mode": signature.mode,
        "edgelstm": manifest.get("edgelstm"),
        "model_id": artifact.model_id,
        "sha256": artifact.container.digest,
        "source": manifest["source"],
        "target": manifest["target"],
        "options": manifest.get("options", {}),
        "provenance": manifest.get("provenance", {}),
        "signed_by": None if artifact.signed_by is None else artifact.signed_by.name,
        "quantization": _describe_quantization(artifact),
        "check": manifest.get("check", {}),
        "window": manifest.get("window"),
        "lookahead": _describe_lookahead(artifact),
        "attention": manifest.get("attention"),
        "carried": manifest.get("carried"),
        "warnings": list(artifact.warnings),
        "runs_here": runs_here,
        "runs_here_as": reason,
        "isas": _describe_isas(artifact),
        "rate_hz": artifact.description.rate_hz or signature.rate_hz,
        "description": artifact.description.to_json() if artifact.description else None,
        "inputs": [_describe_tensor(spec) for spec in signature.inputs],
        "outputs": [_describe_tensor(spec) for spec in signature.outputs],
        "frames_of_step": frames_of_step(signature),
        "time": _describe_time(artifact),
        "states": [_describe_state(spec) for spec in signature.states],
        "checks_states": signature.checks_states,
        "layers": layers,
        "parameters": sum(int(layer.get("params") or 0) for layer in layers),
        "macs": manifest.get("macs", 0),
        "memory": manifest["memory"],
        "devices": _describe_devices(artifact),
        "kernels": _describe_kernels(manifest),
        "columns": _describe_columns(manifest),
        "sections": artifact.sizes,
    }


def _describe_quantization(artifact: Artifact) -> dict[str, Any] | None:
    """Schemes, and whether every processor computes the same bits."""
    found = read_manifest(artifact.manifest).quantization
    if found is None:
        return None
    return {
        "schemes": sorted(set(found.schemes.values())),
        "exact": found.is_exact,
        "float_operators": list(found.float_operators),
    }


def _describe_isas(artifact: Artifact) -> list[dict[str, Any]]:
    if not any(name.startswith(CODE_PREFIX) for name in artifact.sizes):
        return []
    return [
        {
            "isa": variant.isa,
            "requires": list(variant.requires),
            "bytes": artifact.sizes[variant.section],
            "obstacle": variant.obstacle(),
            "streams": _describe_streams(artifact, variant.isa),
        }
        for variant in code_variants(artifact.container)
    ]


def _describe_streams(artifact: Artifact, isa: str) -> dict[str, Any] | None:
    """The code that steps many streams at once, and the layers that gain by it."""
    section = f"{STREAMS_PREFIX}{isa}"
    if section not in artifact.sizes:
        return None
    facts = artifact.manifest["target"].get("facts", {}).get("isas") or []
    told = next((each.get("streams") for each in facts if each["section"].endswith(isa)), None)
    told = told if isinstance(told, dict) else {}
    together = told.get("together")
    return {
        "bytes": artifact.sizes[section],
        "most": told.get("most"),
        "together": [str(name) for name in together] if isinstance(together, list) else [],
    }


def _describe_columns(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """How many elements of a batch, or rows, go through which layers together."""
    columns = manifest["target"].get("facts", {}).get("columns")
    return columns if isinstance(columns, dict) else {}


def _describe_devices(artifact: Artifact) -> list[dict[str, Any]]:
    """Flash and RAM of code for processors without an operating system, see `Footprint`."""
    return [{"isa": isa, **found.to_json()} for isa, found in footprints(artifact).items()]


def _describe_kernels(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Kernels for GPUs: for which chip and how many streams, what they take, and why this shape.

    Of the kernels whose blocks fit on a GPU a session takes the last that it has more streams for
    than `above` times the multiprocessors, and at least a group.
    """
    names = ("group", "above", "shape", "team", "threads", "registers", "shared_bytes", "cycles")
    return [
        {
            "chip": "sm_{}{}".format(*kernel["capability"]),
            "form": kernel["form"],
            "streams": kernel["streams"],
            **{name: kernel.get(name) for name in (*names, "why")},
        }
        for kernel in manifest["target"].get("facts", {}).get("kernels") or []
    ]


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dtype": spec.dtype.value,
        "shape": list(spec.shape),
        "unit": spec.unit,
        "stride": spec.stride,
        "delay": spec.delay,
        "warm_up": spec.warm_up,
        "takes": what_is_taken(spec) if spec.ranges or math.isfinite(spec.limit) else "",
    }


def _describe_time(artifact: Artifact) -> dict[str, str]:
    """Receptive field, delay and rate of each output of a stream, drawn."""
    signature = artifact.signature
    if signature.window is not None or not mode_of(signature.mode).has_blocks:
        return {}
    rate = artifact.description.rate_hz or signature.rate_hz
    return {spec.name: draw(spec, rate) for spec in signature.outputs}


def _describe_lookahead(artifact: Artifact) -> dict[str, Any] | None:
    """Frames of a chunk and ahead of it, and what that means."""
    plan = artifact.signature.lookahead
    if plan is None:
        return None
    rate = artifact.description.rate_hz or artifact.signature.rate_hz
    return {"chunk": plan.chunk, "ahead": plan.ahead, "text": say_cost(plan, rate)}


def _describe_state(spec: StateSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype.value, "shape": list(spec.shape)}


def _print_artifact(report: Mapping[str, Any]) -> None:
    source, target, check = report["source"], report["target"], report["check"]
    frames = report["frames_of_step"]
    unit = "frame" if report["options"].get("chunk") else mode_of(report["mode"]).unit
    say(f"{report['name']}: {report['mode']} model for {target['name']}")
    origin = source.get("file") or "unknown"
    made_by = ", ".join(
        part
        for part in (
            source.get("producer") or "",
            f"opset {source['opset']}" if source.get("opset") else "",
            f"sha256 {source['sha256'][:16]}..." if source.get("sha256") else "",
        )
        if part
    )
    against = f"against {check.get('against')}: largest error {_number(check.get('max_error'))}"
    print_facts(
        [
            ("compiled from", f"{origin} ({made_by})" if made_by else origin),
            ("compiled by", f"edgelstm {report['edgelstm']}"),
            ("self-check", against if check.get("done") else "not done"),
            ("quantized", _quantized(report["quantization"])),
            ("signed by", report["signed_by"]),
            ("runs here", report["runs_here_as"] if report["runs_here"] else "no"),
            ("because", "" if report["runs_here"] else report["runs_here_as"]),
            ("look-ahead", (report["lookahead"] or {}).get("text", "")),
            ("attention", say_context(report["attention"]) if report["attention"] else ""),
            ("rate", f"{report['rate_hz']:g} Hz" if report["rate_hz"] else ""),
            ("states", "may overflow: checked in every step" if report["checks_states"] else ""),
            ("parameters", f"{report['parameters']:,}"),
            (f"MACs a {unit}", f"{report['macs']:,}"),
            ("frames a step", "" if frames == 1 else str(frames)),
        ]
    )
    for warning in report["warnings"]:
        say(f"  warning: {warning}")
    _print_carried(report["carried"] or {})
    for kind in ("inputs", "outputs", "states"):
        if report[kind]:
            say(f"{kind}:")
            rows = [[t["name"], t["dtype"], _shape(t), _remarks(t)] for t in report[kind]]
            print_table(["name", "type", "shape", ""], rows)
    if report["time"]:
        say("frames that each output sees (=), stands for (o) and comes with (|):")
        print_facts(list(report["time"].items()))
    if report["description"] is not None:
        _print_description(report["description"])
    if report["layers"]:
        say("layers:")
        print_table(
            ["name", "kind", "parameters", "MACs"],
            [
                [x.get("name", ""), x.get("kind", ""), x.get("params", ""), x.get("macs", "")]
                for x in report["layers"]
            ],
        )
    if report["isas"]:
        say("code, best first:")
        rows = [
            [
                isa["isa"],
                format_bytes(isa["bytes"]),
                _streams_text(isa["streams"]) if mode_of(report["mode"]).takes_many else "",
                isa["obstacle"] or "ok",
            ]
            for isa in report["isas"]
        ]
        print_table(["instruction set", "size", "many streams", "here"], rows)
    if report["columns"]:
        say("elements of a batch, or rows, that go through a layer together:")
        print_facts(sorted(report["columns"].items()))
    if report["kernels"]:
        _print_kernels(report["kernels"])
    say("memory:")
    memory = {name.removesuffix("_bytes"): size for name, size in report["memory"].items()}
    print_facts([(name, format_bytes(size)) for name, size in memory.items()])
    for device in report["devices"]:
        say(f"on {device['isa']}, bytes:")
        amounts = [(name, amount) for name, amount in device.items() if name != "isa"]
        print_facts([(name, "unknown" if n is None else n) for name, n in amounts])
    say("sections:")
    print_facts([(name, format_bytes(size)) for name, size in report["sections"].items()])


def _streams_text(streams: Mapping[str, Any] | None) -> str:
    """How many streams go through which layers together."""
    if streams is None:
        return "one by one"
    together = ", ".join(streams["together"])
    return f"{streams['most']} at once in {together} ({format_bytes(streams['bytes'])})"


def _print_carried(found: Mapping[str, Any]) -> None:
    """States that are inputs and outputs of the model, and what of its inputs is kept."""
    for row in found.get("states", ()):
        guess = "a guess: " if row["is_guess"] else ""
        say(
            f"  carried: {row['input']} <- {row['output']} ({guess}{row['because']}), "
            f"begins {row['begins']}"
        )
    for row in found.get("overlaps", ()):
        say(f"  kept: the newest {row['elements']} of {row['input']} along axis {row['axis']}")


def _quantized(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    schemes = ", ".join(found["schemes"]) or "no layer"
    if found["exact"]:
        return f"{schemes}: the same bits on every processor"
    floats = found["float_operators"]
    if set(found["schemes"]) != {"int8-full"} or not floats:
        return schemes
    shown = ", ".join(floats[:3]) + (", ..." if len(floats) > 3 else "")
    return f"{schemes}, but not bit-exact: in float32 stays {shown}"


def _print_description(description: Mapping[str, Any]) -> None:
    """Columns with units and the ranges that the model saw; classes of outputs."""
    for name, columns in description["inputs"].items():
        say(f"columns of {name}, in this order:")
        rows = []
        for column in columns:
            limits = column["range"]
            seen = "" if limits is None else f"{limits[0]:.6g} to {limits[1]:.6g}"
            rows.append([column["name"], column["unit"], seen])
        print_table(["name", "unit", "range seen"], rows)
    for name, labels in description["outputs"].items():
        say(f"classes of {name}: {', '.join(labels)}")


def _print_kernels(kernels: list[dict[str, Any]]) -> None:
    say("kernels:")
    print_table(
        ["chip", "code", "for", "shape", "blocks", "threads", "registers", "shared"],
        [
            [
                *(k[name] for name in ("chip", "form")),
                _purpose(k),
                *(k[name] for name in ("shape", "team", "threads", "registers")),
                format_bytes(k["shared_bytes"]),
            ]
            for k in kernels
        ],
    )
    say("why these shapes:")
    print_facts([(f"{k['chip']} {_kind(k)}", k["why"]) for k in kernels if k["form"] != "ptx"])


def _kind(kernel: Mapping[str, Any]) -> str:
    """Its streams, with those of a block where a block has several."""
    group = kernel["group"] or 1
    return f"{kernel['streams']}, groups of {group}" if group > 1 else str(kernel["streams"])


def _purpose(kernel: Mapping[str, Any]) -> str:
    """The kind of kernel, and from how many streams on it is taken."""
    above = kernel["above"]
    return f"{_kind(kernel)}, above {above:g} a multiprocessor" if above else _kind(kernel)


def _inspect_other(file: Path, options: dict[str, Any]) -> dict[str, Any]:
    if file.is_dir():
        raise ModelError(f"{file} is not a model: {recognize(file)}")
    if not file.is_file():
        raise ArtifactError(f"cannot read {file}: no such file")
    suffix = file.suffix.lower().lstrip(".")
    if suffix != "onnx" and recognize(file) is None and _begins_as_onnx(file):
        suffix = "onnx"
    for entry in entry_points(group=INSPECTOR_GROUP):
        if entry.name == suffix:
            try:
                inspector = entry.load()
            except ImportError as exc:
                raise TargetUnavailableError(
                    f"cannot inspect .{suffix} files ({exc}): {install_hint('compiler')}"
                ) from exc
            report: dict[str, Any] = dict(inspector(file, **options))
            return report
    told = recognize(file)
    if told is not None:
        raise ModelError(f"{file} is not a model that edgelstm reads: {told}")
    if suffix == "onnx":
        raise TargetUnavailableError(
            f"inspecting ONNX models needs the compiler: {install_hint('compiler')}"
        )
    edgelstm.artifact.load(file)  # says what is wrong with it
    raise ArtifactError(f"{file}: nothing installed can inspect .{suffix} files")


def _begins_as_onnx(file: Path) -> bool:
    try:
        with open(file, "rb") as opened:
            return is_onnx(opened.read(1 << 16))
    except OSError:
        return False


def _is_artifact(file: Path) -> bool:
    try:
        with open(file, "rb") as opened:
            return opened.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _print_report(report: Mapping[str, Any]) -> None:
    """Any report, entry by entry."""
    for name, value in report.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            say(f"{name}:")
            header = list(dict.fromkeys(key for item in value for key in item))
            print_table(header, [[item.get(key, "") for key in header] for item in value])
        else:
            say(f"{name}: {value}")


def _shape(tensor: Mapping[str, Any]) -> str:
    return "x".join(map(str, tensor["shape"])) or "scalar"


def _remarks(tensor: Mapping[str, Any]) -> str:
    remarks = [tensor["unit"]] if tensor.get("unit") else []
    if tensor.get("stride", 1) != 1:
        remarks.append(f"every {tensor['stride']} frames")
    for name, word in (("delay", "delay"), ("warm_up", "warm-up")):
        if tensor.get(name):
            remarks.append(f"{word} {tensor[name]} frames")
    if tensor.get("takes"):
        remarks.append(f"takes {tensor['takes']}")
    return ", ".join(remarks)


def _number(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, (int, float)) else "unknown"
