"""Known inputs and outputs of a model, recorded by the reference engine when it is compiled.

They stand in the artifact, so that `export-c` writes a self-test without executing compiled code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.artifact import (
    KNOWN_ANSWERS,
    KNOWN_FRAMES,
    KNOWN_INPUTS,
    KNOWN_OUTPUTS,
    Artifact,
)
from edgelstm.blocks import outputs_by_name, pack_inputs, pack_outputs
from edgelstm.dtypes import is_floating
from edgelstm.errors import EdgeLSTMError, StreamError
from edgelstm.sessions import mode_of
from edgelstm.signature import Signature, WindowPlan
from edgelstm.window_memory import steps_windows
from edgelstm_compiler.check_inputs import DOMAINS, ZERO, Domain
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.known_windows import answers_of_windows
from edgelstm_compiler.verification import domains_of, random_call, random_frames

STEPS = 16
"""Steps that are recorded, at most."""

_MOST_BYTES = 1 << 15
_MOST_MACS = 1 << 31
_QUARTER = 8192


@dataclass(frozen=True, slots=True)
class KnownSteps:
    """Input and output blocks of steps from a fresh state, one after another.

    Args:
        inputs: the input blocks.
        outputs: the output blocks; zeros where a step has nothing new.
        steps: how many.
        names: of the sections of an artifact that hold them.
    """

    inputs: bytes
    outputs: bytes
    steps: int
    names: tuple[str, str] = (KNOWN_INPUTS, KNOWN_OUTPUTS)

    def first(self, steps: int) -> KnownSteps:
        """The same from the start, but no more than so many steps."""
        kept = min(steps, self.steps)
        return KnownSteps(
            self.inputs[: len(self.inputs) // self.steps * kept],
            self.outputs[: len(self.outputs) // self.steps * kept],
            kept,
            self.names,
        )

    def sections(self) -> dict[str, bytes]:
        """As they stand in an artifact."""
        return dict(zip(self.names, (self.inputs, self.outputs), strict=True))


def steps_to_tell(signature: Signature, asked: int) -> int:
    """How many steps a self-test needs.

    Args:
        signature: of the artifact.
        asked: as many at most; of windows at least those until the second answer.
    """
    plan = signature.window
    return asked if plan is None else max(asked, plan.frames + plan.hop)


def record_steps(artifact: Artifact, reference: Artifact) -> KnownSteps | None:
    """What the reference engine gives for seeded random input.

    Args:
        artifact: the model as it is compiled; its manifest says what its integers mean.
        reference: the same model for the reference engine.

    Returns:
        The steps; None where one is too large to be worth its place or too much work, or where
        the model refuses such input or answers with NaN or infinity.
    """
    signature = artifact.signature
    block = max(1, signature.input_bytes + signature.output_bytes)
    plan = signature.window
    most = STEPS if signature.states else 1
    least = 1
    if plan is not None:
        most, least = steps_to_tell(signature, STEPS), plan.frames
    count = min(most, _MOST_BYTES // block)
    macs = max(1, int(artifact.manifest["macs"])) * _turns(plan, count)
    if count < least or macs > _MOST_MACS:
        return None
    try:
        return step_random(artifact, reference, count)
    except EdgeLSTMError:
        return None


def _turns(plan: WindowPlan | None, steps: int) -> int:
    """How often the kernel is called for so many steps; each window is computed alone."""
    if plan is None:
        return steps
    windows = max(0, (steps - plan.frames) // plan.hop + 1)
    return windows * plan.frames if steps_windows(plan) else windows


def _names(signature: Signature) -> tuple[str, str]:
    """The sections: those of windows were of the kernel's steps once."""
    if signature.window is None:
        return KNOWN_INPUTS, KNOWN_OUTPUTS
    return KNOWN_FRAMES, KNOWN_ANSWERS


def recorded_steps(artifact: Artifact) -> KnownSteps | None:
    """What `record_steps` put into an artifact; None where there is nothing, or it does not fit."""
    sections, signature = artifact.container.sections, artifact.signature
    names = _names(signature)
    if not all(name in sections for name in names):
        return None
    inputs, outputs = (bytes(sections[name]) for name in names)
    steps = len(inputs) // max(1, signature.input_bytes)
    expected = (steps * signature.input_bytes, steps * signature.output_bytes)
    if steps == 0 or (len(inputs), len(outputs)) != expected:
        return None
    return KnownSteps(inputs, outputs, steps, names)


def step_random(artifact: Artifact, teller: Artifact, steps: int) -> KnownSteps:
    """Steps on the first domain of inputs on which all outputs are finite.

    Args:
        artifact: says what is known of its inputs.
        teller: the same model as it is to be computed.
        steps: how many at most.

    Raises:
        StreamError: there is none.
    """
    specs = artifact.signature.inputs
    kinds: list[dict[str, Domain]] = [domains_of(artifact)]
    kinds += [{spec.name: d for spec in specs if spec.dtype.is_float} for d in DOMAINS]
    whole = {spec.name: ZERO for spec in specs if not spec.dtype.is_float}
    kinds += [{**kind, **whole} for kind in kinds if whole]
    reason = ""
    for domains in kinds:
        known = step_blocks(teller, _random(artifact, steps, domains), steps)
        if not isinstance(known, str):
            return known
        reason = reason or known
    raise StreamError(
        f"no known outputs for a self-test: on random input {reason}; give a recording that the "
        "model is defined on by --input FILE"
    )


def step_blocks(teller: Artifact, given: Mapping[str, Array], steps: int) -> KnownSteps | str:
    """Step through a model from a fresh state; or why these inputs are no good."""
    signature = teller.signature
    count = min(steps, min(len(x) for x in given.values()))
    inputs = [
        pack_inputs(signature, {spec.name: given[spec.name][step] for spec in signature.inputs})
        for step in range(count)
    ]
    nothing = pack_outputs(signature, {spec.name: None for spec in signature.outputs})
    outputs = [nothing] * count
    try:
        for step, values in _told(teller, given, count):
            for name, x in values.items():
                if x is not None and is_floating(x.dtype) and not np.isfinite(x).all():
                    return f"output {name!r} of step {step} is NaN or infinite"
            outputs[step] = pack_outputs(signature, values)
    except _RefusedStepError as refused:
        return str(refused)
    return KnownSteps(b"".join(inputs), b"".join(outputs), count, _names(signature))


class _RefusedStepError(Exception):
    """The model refuses an input."""


def _told(
    teller: Artifact, given: Mapping[str, Array], count: int
) -> Iterator[tuple[int, Mapping[str, Array | None]]]:
    """What is new after each of the steps.

    Raises:
        _RefusedStepError: a step is refused.
    """
    signature = teller.signature
    if signature.window is not None:
        try:
            yield from answers_of_windows(teller, given, count)
        except StreamError as error:
            raise _RefusedStepError(f"a step is refused: {error}") from error
        return
    with teller.session() as session:
        for step in range(count):
            frame: Any = {spec.name: given[spec.name][step] for spec in signature.inputs}
            try:
                result = session.advance(frame)
            except StreamError as error:
                raise _RefusedStepError(f"step {step} is refused: {error}") from error
            yield step, outputs_by_name(signature, result)


def _random(artifact: Artifact, steps: int, domains: Mapping[str, Domain]) -> dict[str, Array]:
    """Seeded input; of integer inputs within the range that was calibrated."""
    if mode_of(artifact.signature.mode).has_blocks:
        frames = random_frames(artifact, steps, domains=domains)
    else:
        frames = {name: x[None] for name, x in random_call(artifact, domains=domains).items()}
    rng = np.random.default_rng(1)
    record = artifact.manifest.get("quantization") or {}
    for tensor in record.get("borders", []):
        name = str(tensor["name"])
        if name in frames:
            noise = rng.standard_normal(frames[name].shape)
            walk = np.sin(0.1 * np.cumsum(noise, axis=0)) + 0.1 * noise
            frames[name] = np.clip(walk * _QUARTER, -32768, 32767).astype(np.int16)
    return frames
