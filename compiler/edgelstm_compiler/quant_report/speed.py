"""How long a step takes quantized and in float32: predicted from the work, measured where it runs.

The prediction is a rule of thumb per family of processors: a layer takes the time of its products,
or of reading its weights, whichever is longer, and of its activations.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.engines.cpu_features import cpu_flags
from edgelstm.errors import EdgeLSTMError
from edgelstm.timing import StepTimer, random_frames
from edgelstm_compiler.processor import SpeedRule
from edgelstm_compiler.quant_report.restore import runs_native
from edgelstm_compiler.target import processors

FRAMES = 256
_NOTICEABLE = 1.05


def rule_of(target: str) -> SpeedRule | None:
    """The rule of thumb for a target; None where there is none."""
    processor = processors().get(target)
    rules = () if processor is None else processor.speed
    return next((rule for rule in rules if cpu_flags().issuperset(rule.requires)), None)


def predict(rows: Sequence[Mapping[str, Any]], rule: SpeedRule) -> float:
    """How many times faster than float32 a step should be."""
    before = sum(_cycles(row, "fp32", row["bytes_before"], rule) for row in rows)
    after = sum(_cycles(row, row["scheme"], row["bytes_after"], rule) for row in rows)
    return before / after if after else 1.0


def describe_speed(
    artifact: Artifact,
    floating: Artifact | None,
    rows: Sequence[Mapping[str, Any]],
    seconds: float,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Predicted and, where this machine runs both, measured speed, and what it means.

    Args:
        artifact: the quantized program.
        floating: the float32 program for the same target, or None.
        rows: the layers.
        seconds: to measure, about.
        progress: called with 1 after each of `ROUNDS` rounds.
    """
    target = str(artifact.manifest["target"]["name"])
    rule = rule_of(target)
    predicted = None if rule is None else round(predict(rows, rule), 2)
    measured, reason = None, ""
    if floating is None or not runs_native(artifact) or not runs_native(floating):
        reason = (
            "the reference target computes in NumPy, whose speed says nothing"
            if artifact.manifest["target"]["engine"] == "reference"
            else f"this machine does not run code for target {target!r}"
            if not runs_native(artifact)
            else "the model was not given, or cannot be compiled in float32"
        )
    else:
        try:
            measured = _measure(artifact, floating, seconds, progress)
        except EdgeLSTMError as error:
            reason = str(error)
    saved = sum(row["bytes_before"] - row["bytes_after"] for row in rows)
    return {
        "predicted_ratio": predicted,
        "predicted_for": None if rule is None else rule.name,
        "measured": measured,
        "not_measured_because": reason,
        "verdict": _verdict(predicted, measured, saved),
    }


ROUNDS = 5


def _measure(
    artifact: Artifact,
    floating: Artifact,
    seconds: float,
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    """Medians over rounds in which both are timed in turn."""
    timers = [StepTimer(a, random_frames(a.signature, FRAMES)) for a in (floating, artifact)]
    each = seconds / (2 * ROUNDS)
    medians: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for timer, found in zip(timers, medians, strict=True):
            found.append(timer.time_step(each).median)
        if progress is not None:
            progress(1)
    fp32, quantized = (statistics.median(found) for found in medians)
    return {
        "fp32_ns": round(fp32, 1),
        "quantized_ns": round(quantized, 1),
        "ratio": round(fp32 / quantized, 3),
        "engine": " ".join(artifact.kernel.facts.values()),
    }


def _verdict(predicted: float | None, measured: Mapping[str, Any] | None, saved: int) -> str:
    size = f"{saved:,} bytes of weights are saved"
    if measured is not None:
        ratio, how = float(measured["ratio"]), "measured"
    elif predicted is not None:
        ratio, how = predicted, "predicted, not measured"
    else:
        return f"Nothing is known of the speed here; {size}."
    if ratio >= _NOTICEABLE:
        return f"Quantizing pays: a step is {ratio:.2f} times faster ({how}), and {size}."
    if ratio > 1 / _NOTICEABLE:
        return f"Quantizing does not pay in time: a step takes as long as in fp32 ({how}); {size}."
    return (
        f"Quantizing does not pay in time: a step takes {1 / ratio:.2f} times as long as in fp32 "
        f"({how}). It is worth it only if the memory counts: {size}."
    )


def _cycles(row: Mapping[str, Any], scheme: str, size: int, rule: SpeedRule) -> float:
    products = max(row["macs"] / rule.macs[scheme], size / rule.read_bytes)
    activations = 0.0 if "Dense" in row["kind"] else _gate_units(row)
    each = rule.integer_activation if scheme == "int8-full" else rule.activation
    extra = rule.overhead if scheme in ("int8", "int8-full") else 0.0
    return float(products + activations * each + extra)


def _gate_units(row: Mapping[str, Any]) -> float:
    """Activations of a step: float bytes = 4 (MACs + bias), bias = two rows per gate unit."""
    biases = max(row["bytes_before"] / 4 - row["macs"], 0)
    return float(1.25 * biases / 2)
