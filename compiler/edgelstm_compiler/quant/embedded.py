"""The calibration inside of an artifact: from it and the model the quantized graph is made again.

Verification and reports need no other file than the artifact and the model then. Histograms go
along only where ranges are read off them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgelstm.errors import ArtifactFormatError, ArtifactVersionError, CapabilityError
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.convert import Quantized, quantize_graph
from edgelstm_compiler.quant.equalize import equalize
from edgelstm_compiler.quant.model import RECIPE, QuantizedModel, is_integer
from edgelstm_compiler.quant.scheme import Observer, QuantizeOptions, Scheme

SECTION = "quantization/calibration"
"""Name of the artifact's section."""

_LARGEST = 1 << 28


def pack_calibration(calibration: Calibration, options: QuantizeOptions) -> bytes:
    """What quantizing with these options reads, compressed."""
    # What was chosen stands in the record.
    kept = replace(calibration, roundings={})
    if options.observer is Observer.MIN_MAX:
        # Of a histogram only how many rows were seen is read: all of them stand in its first bin.
        values = {
            name: replace(found, counts=found.counts.sum(axis=-1, keepdims=True))
            for name, found in calibration.values.items()
        }
        kept = replace(kept, values=values)
    text = json.dumps(kept.to_json(), sort_keys=True, separators=(",", ":"))
    return zlib.compress(text.encode(), 9)


def unpack_calibration(data: bytes | memoryview) -> Calibration:
    """Read what `pack_calibration` wrote.

    Raises:
        ArtifactFormatError: it is damaged.
    """
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(bytes(data), _LARGEST)
        return Calibration.from_json(json.loads(text))
    except (zlib.error, ValueError, CapabilityError) as error:
        raise ArtifactFormatError(
            f"section {SECTION!r} is damaged: {error}; compile the model again"
        ) from error


def expect_recipe(record: Mapping[str, Any]) -> None:
    """Refuse to quantize again what another recipe quantized: the numbers would be others.

    Raises:
        ArtifactVersionError: says so, and what to do.
    """
    found = record.get("recipe", 1)
    if found != RECIPE:
        raise ArtifactVersionError(
            f"the artifact was quantized by recipe {found}, this version has recipe {RECIPE}: it "
            "runs as it is, but its graph cannot be made again here; compile the model again"
        )


def restore_model(
    graph: StepGraph, record: Mapping[str, Any], calibration: Calibration | None
) -> tuple[QuantizedModel, Quantized]:
    """Quantize again as a manifest's `quantization` record says.

    Args:
        graph: the float step graph of the same model.
        record: as `quantize_model` made it.
        calibration: what it was made with.

    Raises:
        ArtifactVersionError: another recipe made it.
        ArtifactFormatError: the record is malformed.
        CapabilityError: the calibration does not fit.
    """
    expect_recipe(record)
    try:
        options = QuantizeOptions.from_json(record["options"])
        schemes = {layer["name"]: Scheme(layer["scheme"]) for layer in record["layers"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactFormatError(
            f"the manifest's quantization record is malformed ({error}); compile the model again"
        ) from error
    if options.equalize:
        graph = equalize(graph)
    quantized = quantize_graph(graph, calibration, schemes, options)
    is_exact = is_integer(quantized.graph)
    model = QuantizedModel(quantized.graph, graph, calibration, dict(record), is_exact)
    return model, quantized
