"""Answers of the windows in a few frames, each window computed alone.

Stepping all windows that are open would take as many steps of the network a frame as there are; a
self-test needs the answers of very few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.sessions.smoothing import Smoothing
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.session_rows import by_name
from edgelstm_compiler.window_verification import with_plan


def answers_of_windows(
    artifact: Artifact, frames: Mapping[str, Array], count: int
) -> Iterator[tuple[int, dict[str, Array]]]:
    """The step with a window's last frame, and the answer that it gives, for each window.

    Args:
        artifact: a window model.
        frames: for each input (n, *frame shape).
        count: how many frames there are.

    Raises:
        StreamError: a frame is refused.
    """
    signature = artifact.signature
    plan = signature.window
    assert plan is not None
    alone = with_plan(artifact, hop=plan.frames, smoothing="", smoothed=1)
    smoothing = Smoothing(plan.smoothing, plan.smoothed, signature.outputs)
    with alone.session() as session:
        for start in range(0, count - plan.frames + 1, plan.hop):
            if not plan.carries:
                session.reset()
            stop = start + plan.frames
            block = {name: x[start:stop] for name, x in frames.items()}
            rows = by_name(session.advance_all(block), signature)
            if plan.smoothing:
                rows = dict(zip(rows, smoothing.apply(list(rows.values())), strict=True))
            yield stop - 1, {name: np.asarray(row[0]) for name, row in rows.items()}
