"""Known inputs and outputs of a model, recorded by the reference engine when it is compiled.

They stand in the artifact, so that `export-c` writes a self-test without executing compiled code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.artifact import KNOWN_INPUTS, KNOWN_OUTPUTS, Artifact
from edgelstm.blocks import outputs_by_name, pack_inputs, pack_outputs
from edgelstm.errors import EdgeLSTMError, StreamError
from edgelstm.sessions import mode_of
from edgelstm_compiler.check_inputs import DOMAINS, ZERO, Domain
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.verification import domains_of, random_call, random_frames

STEPS = 16
"""Steps that are recorded, at most."""

_MOST_BYTES = 1 << 15
_MOST_MACS = 1 << 31
_QUARTER = 8192


@dataclass(frozen=True, slots=True)
class KnownSteps:
    """Input and output blocks of steps from a fresh state, one after another."""

    inputs: bytes
    outputs: bytes
    steps: int

    def first(self, steps: int) -> KnownSteps:
        """The same from the start, but no more than so many steps."""
        kept = min(steps, self.steps)
        return KnownSteps(
            self.inputs[: len(self.inputs) // self.steps * kept],
            self.outputs[: len(self.outputs) // self.steps * kept],
            kept,
        )

    def sections(self) -> dict[str, bytes]:
        """As they stand in an artifact."""
        return {KNOWN_INPUTS: self.inputs, KNOWN_OUTPUTS: self.outputs}


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
    most = STEPS if signature.states else 1
    count = min(most, _MOST_BYTES // block)
    macs = max(1, int(artifact.manifest["macs"])) * max(count, 1)
    if count == 0 or block > _MOST_BYTES or macs > _MOST_MACS:
        return None
    try:
        return step_random(artifact, reference, count)
    except EdgeLSTMError:
        return None


def recorded_steps(artifact: Artifact) -> KnownSteps | None:
    """What `record_steps` put into an artifact; None where there is nothing, or it does not fit."""
    sections, signature = artifact.container.sections, artifact.signature
    if KNOWN_INPUTS not in sections or KNOWN_OUTPUTS not in sections:
        return None
    inputs, outputs = bytes(sections[KNOWN_INPUTS]), bytes(sections[KNOWN_OUTPUTS])
    steps = len(inputs) // max(1, signature.input_bytes)
    expected = (steps * signature.input_bytes, steps * signature.output_bytes)
    if steps == 0 or (len(inputs), len(outputs)) != expected:
        return None
    return KnownSteps(inputs, outputs, steps)


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
    inputs, outputs = [], []
    with teller.session() as session:
        for step in range(count):
            frame: Any = {spec.name: given[spec.name][step] for spec in signature.inputs}
            try:
                result = session.advance(frame)
            except StreamError as error:
                return f"step {step} is refused: {error}"
            by_name = outputs_by_name(signature, result)
            for name, x in by_name.items():
                if x is not None and x.dtype.kind == "f" and not np.isfinite(x).all():
                    return f"output {name!r} of step {step} is NaN or infinite"
            inputs.append(pack_inputs(signature, frame))
            outputs.append(pack_outputs(signature, by_name))
    return KnownSteps(b"".join(inputs), b"".join(outputs), count)


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
