"""How long a step takes quantized and in float32: predicted from the work, measured where it runs.

The prediction is a rule of thumb per family of processors: a layer takes the time of its products,
or of reading its weights, whichever is longer, and of its activations.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.engines.cpu_features import cpu_flags
from edgelstm.errors import EdgeLSTMError
from edgelstm.timing import StepTimer, random_frames
from edgelstm_compiler.quant_report.restore import runs_native

FRAMES = 256
_NOTICEABLE = 1.05


@dataclass(frozen=True, slots=True)
class Family:
    """Rough rates of one family of processors.

    Args:
        name: for the report.
        macs: multiply-accumulates a cycle by scheme.
        read_bytes: weights read a cycle.
        activation: cycles per activation of a unit, by scheme where it differs from fp32.
        integer_activation: the same in int8-full.
        overhead: cycles that quantizing the operands of a layer costs.
    """

    name: str
    macs: Mapping[str, float]
    read_bytes: float
    activation: float
    integer_activation: float
    overhead: float


X86_VNNI = Family(
    "x86-64 with VNNI",
    {"fp32": 32, "fp16": 16, "w8": 16, "w4": 12, "int8": 128, "int8-full": 128},
    32,
    1.0,
    1.5,
    30,
)
X86_AVX2 = Family(
    "x86-64 with AVX2",
    {"fp32": 16, "fp16": 8, "w8": 8, "w4": 6, "int8": 24, "int8-full": 24},
    32,
    1.2,
    2.5,
    40,
)
ARM_A = Family(
    "Cortex-A with NEON",
    {"fp32": 8, "fp16": 6, "w8": 5, "w4": 4, "int8": 24, "int8-full": 24},
    12,
    3.0,
    4.0,
    40,
)
CORTEX_M_DSP = Family(
    "Cortex-M with FPU and DSP",
    {"fp32": 0.5, "fp16": 0.3, "w8": 0.3, "w4": 0.25, "int8": 1.0, "int8-full": 1.0},
    4,
    40,
    20,
    200,
)
CORTEX_M_SMALL = Family(
    "Cortex-M without FPU",
    {"fp32": 0.015, "fp16": 0.012, "w8": 0.012, "w4": 0.01, "int8": 0.1, "int8-full": 0.2},
    2,
    1500,
    40,
    2000,
)


def family_of(target: str) -> Family | None:
    """The family of a target; None where there is no rule of thumb."""
    if target == "host":
        flags = cpu_flags()
        return X86_VNNI if flags & {"avx512_vnni", "avx_vnni"} else X86_AVX2
    if target in ("cortex-m0plus", "cortex-m3"):
        return CORTEX_M_SMALL
    if target.startswith("cortex-m"):
        return CORTEX_M_DSP
    if target.startswith(("aarch64", "rpi", "armv7")) or target == "jetson-orin":
        return ARM_A
    return None


def predict(rows: Sequence[Mapping[str, Any]], family: Family) -> float:
    """How many times faster than float32 a step should be."""
    before = sum(_cycles(row, "fp32", row["bytes_before"], family) for row in rows)
    after = sum(_cycles(row, row["scheme"], row["bytes_after"], family) for row in rows)
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
    family = family_of(target)
    predicted = None if family is None else round(predict(rows, family), 2)
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
        "predicted_for": None if family is None else family.name,
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


def _cycles(row: Mapping[str, Any], scheme: str, size: int, family: Family) -> float:
    products = max(row["macs"] / family.macs[scheme], size / family.read_bytes)
    activations = 0.0 if "Dense" in row["kind"] else _gate_units(row)
    each = family.integer_activation if scheme == "int8-full" else family.activation
    extra = family.overhead if scheme in ("int8", "int8-full") else 0.0
    return float(products + activations * each + extra)


def _gate_units(row: Mapping[str, Any]) -> float:
    """Activations of a step: float bytes = 4 (MACs + bias), bias = two rows per gate unit."""
    biases = max(row["bytes_before"] / 4 - row["macs"], 0)
    return float(1.25 * biases / 2)
