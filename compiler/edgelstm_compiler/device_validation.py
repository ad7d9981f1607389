"""Known inputs and outputs on a real device: what its agent computes beside what it should."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgelstm.artifact import WEIGHTS_SECTION, Artifact
from edgelstm.blocks import unpack_outputs
from edgelstm.errors import ArtifactError, LinkError
from edgelstm.remote.device import Device
from edgelstm.remote.frames import Info
from edgelstm.sessions.due import is_due
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.c_export.golden import Golden
from edgelstm_compiler.c_export.windows import block_sizes
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.verification import Verification, compare_rows


@dataclass(frozen=True, slots=True)
class DeviceValidation:
    """What a device did.

    Args:
        system: what it says of itself.
        verification: its outputs beside the known ones.
        is_exact: every bit had to be equal.
        step_s: seconds of each step by the device's own clock; empty if it has none.
    """

    system: str
    verification: Verification
    is_exact: bool
    step_s: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether every output of every step is as it should be."""
        return self.verification.passed

    def to_json(self) -> dict[str, Any]:
        """A JSON object; durations in microseconds."""
        times = np.asarray(self.step_s) * 1e6
        taken: Mapping[str, float] | None = None
        if len(times):
            taken = {
                "median_us": round(float(np.median(times)), 3),
                "largest_us": round(float(times.max()), 3),
            }
        return {
            **self.verification.to_json(),
            "device": self.system,
            "bit_for_bit": self.is_exact,
            "step": taken,
        }


def validate_on(
    device: Device, artifact: Artifact, file: bytes, golden: Golden, tolerance: float | None = None
) -> DeviceValidation:
    """Step a model on a device and compare.

    Args:
        device: connected, not yet greeted.
        artifact: the model.
        file: its bytes, for an agent that takes artifacts.
        golden: known inputs and outputs.
        tolerance: in place of the golden's.

    Raises:
        ArtifactError: the device has another model.
        LinkError: the connection failed.
        TargetUnavailableError: the device cannot run the model.
    """
    info = device.greet()
    if info.takes_artifacts:
        info = device.load(file)
    _expect_same(artifact, info)
    device.reset()
    signature = artifact.signature
    given, wanted = signature.input_bytes, signature.output_bytes
    blocks, times = [], []
    for step in range(golden.steps):
        block, seconds = device.step(golden.inputs[step * given : (step + 1) * given])
        if len(block) != wanted:
            raise LinkError(f"step {step} gave {len(block)} bytes of output instead of {wanted}")
        blocks.append(block)
        times += [] if seconds is None else [seconds]
    expected = [golden.outputs[i * wanted : (i + 1) * wanted] for i in range(golden.steps)]
    limit = golden.tolerance if tolerance is None else tolerance
    verification = _compare(artifact, blocks, expected, golden.origin, limit)
    return DeviceValidation(info.system, verification, limit == 0, tuple(times))


def _expect_same(artifact: Artifact, info: Info) -> None:
    """Refuse a device that holds another model.

    Raises:
        ArtifactError: says what differs.
    """
    signature, memory = artifact.signature, artifact.manifest["memory"]
    # An agent in Python has the artifact's own blocks, one in C those of the export.
    sizes = block_sizes(artifact)
    state_bytes = memory["state_bytes"] if info.takes_artifacts else sizes["state"]
    weights = artifact.container.section(WEIGHTS_SECTION)
    facts = (
        ("name", info.name, artifact.name),
        ("input bytes", info.input_bytes, signature.input_bytes),
        ("output bytes", info.output_bytes, signature.output_bytes),
        ("state bytes", info.state_bytes, state_bytes),
        ("weight bytes", info.weights_bytes, memory["weights_bytes"]),
        ("CRC-32 of the weights", f"{info.weights_crc32:08x}", f"{zlib.crc32(weights):08x}"),
    )
    wrong = [f"{what} {found} not {wanted}" for what, found, wanted in facts if found != wanted]
    if wrong:
        raise ArtifactError(
            f"the device holds another model, or damaged weights ({'; '.join(wrong)}): export this "
            "artifact again and program the device with it"
        )


def _compare(
    artifact: Artifact, blocks: list[bytes], expected: list[bytes], origin: str, limit: float
) -> Verification:
    signature = artifact.signature
    reports = []
    for spec in signature.outputs:
        steps = [step for step in range(len(blocks)) if _is_new(signature, spec, step)]
        actual, wanted = (_rows(signature, spec, each, steps) for each in (blocks, expected))
        report = compare_rows(spec.name, actual, wanted, limit, steps)
        if limit == 0 and report.first_beyond is None:
            first = _first_other_bits(actual, wanted)
            report = replace(report, first_beyond=None if first is None else steps[first])
        reports.append(report)
    return Verification(origin, len(blocks), tuple(reports))


def _is_new(signature: Signature, spec: TensorSpec, step: int) -> bool:
    """Whether a step gives this output; in the others its place in the block means nothing."""
    plan = signature.window
    if plan is None:
        return is_due(spec, step, None)
    late = step - (plan.frames - 1)
    return late >= 0 and late % plan.hop == 0


def _first_other_bits(actual: Array, wanted: Array) -> int | None:
    """The first row whose bits differ, zeros of either sign included."""
    for row, (found, right) in enumerate(zip(actual, wanted, strict=True)):
        if found.tobytes() != right.tobytes():
            return row
    return None


def _rows(
    signature: Signature, spec: TensorSpec, blocks: Sequence[bytes], steps: Sequence[int]
) -> Array:
    rows = [unpack_outputs(signature, blocks[step])[spec.name] for step in steps]
    return np.stack(rows) if rows else np.empty((0, *spec.shape), spec.dtype.numpy)
