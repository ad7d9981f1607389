"""An artifact whose states are a model's inputs and outputs, beside that model fed back by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import MismatchError, StreamError
from edgelstm.sessions import Session
from edgelstm_compiler.binding.carried import CarriedModel
from edgelstm_compiler.carried_replay import CarriedReplay, Replayed, frames_by_input
from edgelstm_compiler.check_inputs import NOT_DEFINED, Domain, draw_white, find_domains, types_of
from edgelstm_compiler.comparison import (
    OURS,
    TOLERANCE,
    Verdict,
    judge,
    own_error,
    own_scale,
    scale_of,
)
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.session_rows import read_states, run_pieces, step_through
from edgelstm_compiler.streaming.carry.steps import CONTEXT

STEPS = 24
"""Steps of drawn input that are compared."""

RECORDED = 64
"""Steps of a recording that are compared."""


def check_carried(
    artifact: Artifact,
    found: CarriedModel,
    graph: StepGraph,
    recordings: Sequence[Mapping[str, Array]] = (),
) -> dict[str, Any]:
    """Compare every output and state with the model's, called step by step.

    Args:
        artifact: compiled, and able to run here.
        found: the model and its pairs.
        graph: what was lowered.
        recordings: frames by input; none: drawn ones.

    Returns:
        JSON facts for the manifest, as `check_artifact` gives them.

    Raises:
        MismatchError: they differ.
    """
    domains: dict[str, Domain] = {}
    frames = _from_recording(artifact, recordings)
    if frames is None:
        chosen = find_domains(graph, lambda given: draw_white(types_of(graph), given))
        if chosen is None:
            return {"done": False, "reason": NOT_DEFINED}
        domains = chosen
        frames = _drawn(artifact, domains)
    count = len(next(iter(frames.values()))) if frames else 0
    try:
        run = artifact.session()
        rows = run_pieces(run, frames, count)
        step = artifact.session()
        stepped = step_through(step, frames, count)
    except StreamError as error:
        return {"done": False, "reason": f"{NOT_DEFINED} ({error})"}
    witness = Witness(found, frames_by_input(artifact.signature, frames))
    worst, limit = 0.0, TOLERANCE
    ours = {"run": _values(rows, run), "step": _values(stepped, step)}
    for way, values in ours.items():
        for name, mine in values.items():
            verdict = witness.judge(name, mine)
            if not verdict.passed:
                raise MismatchError(
                    f"self-check: {'' if name.startswith('state ') else 'output '}{name!r} differs "
                    f"from {witness.against}, its states fed back, by {verdict.error:.3g} over "
                    f"{count} steps (by {way}; allowed {verdict.limit:.3g})"
                )
            if np.isfinite(verdict.error):
                worst = max(worst, verdict.error)
            limit = max(limit, verdict.limit)
    for name, mine in ours["run"].items():
        difference = own_error(mine, ours["step"][name])
        if difference <= TOLERANCE:
            continue
        allowed = OURS * witness.noise(name) * scale_of(mine) / own_scale(mine)
        if not difference <= allowed:
            raise MismatchError(
                f"self-check: {name!r} of run in pieces differs from step by {difference:.3g}"
            )
    return {
        "done": True,
        "against": witness.against,
        "max_error": float(f"{worst:.3g}"),
        "tolerance": TOLERANCE,
        "lengths": [count],
        "inputs": "seeded random input" if domains else "a recording",
        "domains": {name: str(domain) for name, domain in domains.items()},
        **({"decided_by": "float64"} if limit > TOLERANCE else {}),
    }


class Witness:
    """What the model computes on given frames, and within which noise."""

    def __init__(self, found: CarriedModel, frames: Mapping[str, Array]) -> None:
        self._replay, self._frames = CarriedReplay(found), frames
        self._peer = self._replay.run(frames)
        self._exact: Replayed | None = None
        self._noise: dict[str, float] = {}

    @property
    def against(self) -> str:
        """Who computed it."""
        return self._peer.against

    def expected(self, name: str) -> Array:
        """Rows of an output, or a state, in float32."""
        return self._peer.values[name]

    def exact(self, name: str) -> Array:
        """The same in float64."""
        if self._exact is None:
            self._exact = self._replay.exact(self._frames)
        return self._exact.values[name]

    def noise(self, name: str) -> float:
        """How far float32 is from that."""
        self.exact(name)
        if not self._noise and self._exact is not None:
            self._noise = self._replay.noise(self._frames, self._exact)
        return self._noise[name]

    def judge(self, name: str, mine: Array) -> Verdict:
        """Whether ours is right."""
        wanted = self.expected(name)
        return judge(
            mine.reshape(wanted.shape),
            wanted,
            lambda: self.exact(name),
            lambda: self.noise(name),
        )


def _values(rows: Mapping[str, Array], session: Session) -> dict[str, Array]:
    """Outputs and states by the names that a replay gives them."""
    values = {name: x.reshape(len(x), -1) for name, x in rows.items()}
    states = read_states(session)
    values.update(
        (f"state {name}", x.reshape(1, -1))
        for name, x in states.items()
        if not name.endswith(CONTEXT)
    )
    return values


def _from_recording(
    artifact: Artifact, recordings: Sequence[Mapping[str, Array]]
) -> dict[str, Array] | None:
    specs = artifact.signature.inputs
    if not recordings or any(spec.name not in recordings[0] for spec in specs):
        return None
    count = min(RECORDED, *(len(recordings[0][spec.name]) for spec in specs))
    return {
        spec.name: np.asarray(recordings[0][spec.name][:count], spec.dtype.numpy).reshape(
            count, *spec.shape
        )
        for spec in specs
    }


def _drawn(artifact: Artifact, domains: Mapping[str, Domain]) -> dict[str, Array]:
    items = [(s.name, (STEPS, *s.shape), s.dtype) for s in artifact.signature.inputs]
    return draw_white(items, domains)
