"""What a model holds and what would become of it: the report of `edgelstm inspect MODEL.onnx`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgelstm.commands.time_line import draw
from edgelstm.errors import CapabilityError, ModelError, UnsupportedOpError
from edgelstm.printable import printable
from edgelstm.sessions import mode_of
from edgelstm.signature import Mode
from edgelstm_compiler.assembly import describe_layers
from edgelstm_compiler.driver import CompileOptions, admit, bind, to_step_graph, ways_out
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.lowering.signature import make_signature
from edgelstm_compiler.notes import carried_notes, stream_notes
from edgelstm_compiler.onnx_import.fixed_inputs import fix_inputs
from edgelstm_compiler.onnx_import.read import OnnxModel, read_model
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.streaming.carry import carry_request
from edgelstm_compiler.streaming.modes import MODES, compile_mode
from edgelstm_compiler.streaming.refusal import StreamabilityError
from edgelstm_compiler.target import DEFAULT_TARGET, find_target


def inspect_model(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Sequence[int]] | None = None,
    mode: Mode | None = None,
    constants: Mapping[str, Any] | None = None,
    carry: Mapping[str, str] | bool | None = None,
    overlap: int | Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Layers, parameters, work, states and refusals of an ONNX model, as JSON data.

    Args:
        path: the ONNX file.
        shapes: extents of inputs with free dimensions.
        mode: as it would be compiled; None: as a stream if it can be, else as a call.
        constants: inputs to fix, by name.
        carry: states of the model, see `compile_model`.
        overlap: what of an input is kept, see `compile_model`.

    Returns:
        The report; its entry `text` is the same for people to read.

    Raises:
        ModelError: the file is broken. Refusals are part of the report, not errors.
    """
    model = fix_inputs(read_model(os.fspath(path)), constants or {})
    request = carry_request(carry, overlap)
    report: dict[str, Any] = {
        "file": os.fspath(path),
        "sha256": model.sha256,
        "producer": model.producer,
        "opset": model.opset,
        "inputs": [str(info) for info in model.inputs],
        "outputs": list(model.outputs),
        "streamable": False,
        "streams_as": "",
        "not_streamable": [],
        "advice": "",
        "commands": [],
        "refused": [],
        "layers": [],
        "notes": [],
    }
    asked = CompileOptions(shapes=shapes or {}, constants=constants or {}, carry=request)
    for choice in MODES if mode is None else (mode,):
        report.update(_try_mode(model, asked, choice))
        if report["layers"] or report["refused"]:
            break
    report["text"] = _as_text(report)
    return report


def _try_mode(model: OnnxModel, asked: CompileOptions, mode: Mode) -> dict[str, Any]:
    options = replace(asked, mode=mode)
    try:
        with ways_out(model, options):
            binding = bind(model, options)
            graph = to_step_graph(binding, options, PassContext())
        reason = _refusal_of(graph)
    except UnsupportedOpError as error:
        refusals = [{"operator": o, "node": n, "reason": r} for o, n, r in error.refusals]
        return {"refused": refusals or [{"operator": "", "node": "", "reason": str(error)}]}
    except StreamabilityError as error:
        rows = [{"node": n, "reason": r} for n, r in error.reasons]
        return {"not_streamable": rows, "advice": error.advice, "commands": list(error.commands)}
    except ModelError as error:
        return {"needs": str(error)}
    if reason:
        return {"refused": [{"operator": "target", "node": DEFAULT_TARGET, "reason": reason}]}
    said = {
        "notes": list(binding.notes),
        **stream_notes(binding, graph).to_json(),
        **carried_notes(binding),
    }
    streams_as = compile_mode(mode).streams_as
    return {
        "streamable": bool(streams_as),
        "streams_as": streams_as,
        **_measure(graph),
        **said,
    }


def _refusal_of(graph: StepGraph) -> str:
    """Why `compile` would refuse the graph for its default target; "" where it does not."""
    target = find_target(DEFAULT_TARGET)
    if not target.probe().can_build:
        target = find_target("reference")
    try:
        admit(graph, target)
    except CapabilityError as error:
        return str(error)
    return ""


def _measure(graph: StepGraph) -> dict[str, Any]:
    layers = describe_layers(graph)
    return {
        "mode": graph.mode,
        "time": {spec.name: draw(spec) for spec in make_signature(graph).outputs},
        "layers": layers,
        "params": sum(layer["params"] for layer in layers),
        "macs": sum(layer["macs"] for layer in layers),
        "states": [
            {"name": state.name, "type": str(state.type), "bytes": state.type.nbytes}
            for state in graph.states
        ],
    }


def _as_text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['file']}: opset {report['opset']}, {report['producer'] or 'unknown producer'}",
        f"  inputs   {'; '.join(report['inputs'])}",
        f"  outputs  {', '.join(report['outputs'])}",
    ]
    if report["refused"]:
        lines.append(f"refused ({len(report['refused'])}):")
        lines += [
            f"  {item['operator']} {item['node']}: {item['reason']}" for item in report["refused"]
        ]
        return "\n".join(printable(line, keep="") for line in lines)
    if report["streamable"]:
        lines.append(f"streams: yes, {report['streams_as']}")
        lines.append("  each output sees =, stands for o and comes with |:")
        lines += [f"    {name}: {drawn}" for name, drawn in report["time"].items()]
        lines += [f"  warning: {text}" for text in report.get("warnings", [])]
    elif report["not_streamable"]:
        advice = f" ({report['advice']})" if report["advice"] and not report["commands"] else ""
        lines.append(f"streams: no{advice}")
        lines += [f"  {item['node']}: {item['reason']}" for item in report["not_streamable"]]
        lines += ["  these commands compile it:"] if report["commands"] else []
        lines += [f"    {command}" for command in report["commands"]]
    lines += [f"  note: {text}" for text in report["notes"]]
    if "needs" in report:
        lines.append(f"needs: {report['needs']}")
    if report["layers"]:
        unit = mode_of(report["mode"]).unit
        lines.append(f"{report['params']:,} parameters, {report['macs']:,} MACs a {unit}")
        for layer in report["layers"]:
            lines.append(
                f"  {layer['kind']:<10} {layer['name']}: {layer['input']} -> {layer['output']}, "
                f"{layer['params']:,} parameters, {layer['macs']:,} MACs"
            )
        states = sum(state["bytes"] for state in report["states"])
        if states:
            lines.append(f"{states} bytes of state:")
            lines += [f"  {state['name']}: {state['type']}" for state in report["states"]]
    return "\n".join(printable(line, keep="") for line in lines)
