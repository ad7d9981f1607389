"""A C program that feeds frames to an exported window model, and what a session says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.blocks import outputs_by_name, pack_inputs, pack_outputs
from edgelstm.errors import NonFiniteStateError, StreamError
from edgelstm.sessions.window import WindowSession
from edgelstm_compiler.c_export.names import word_count, words

DRIVER = r"""
#include <stdio.h>
#include "net.h"
static const uint32_t frames[@COUNT@] NET_ALIGNED = {
@WORDS@
};
static net_state state;
static net_scratch scratch;
static net_output out;
static net_slot slots[NET_SLOTS];
int main(void)
{
    const unsigned char *in = (const unsigned char *)frames;
    int i, k, count;
    if (sizeof state != NET_STATE_BYTES || sizeof scratch != NET_SCRATCH_BYTES) return 3;
    if (net_selftest(&state, &scratch) != 0) return 4;
    net_init(&state, &scratch);
    for (i = 0; i < @FRAMES@; ++i) {
        long code = (long)net_step(net_weights, &state, &scratch, in, &out);
        printf("%ld %ld", code, (long)net_first_frame(&state));
        count = (int)net_slots(&state, slots);
        for (k = 0; k < count; ++k) {
            printf(" %ld:%ld", (long)slots[k].first, (long)slots[k].frames);
        }
        if (code > 0) {
            printf(" =");
            for (k = 0; k < (int)sizeof out; ++k) {
                printf("%02x", ((const unsigned char *)&out)[k]);
            }
        }
        printf("\n");
        in += NET_INPUT_BYTES;
    }
    return 0;
}
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What one step says.

    Args:
        code: what it returns; of refusals the sign and which alone.
        first: first frame of the newest window that was answered.
        slots: first frame and number of frames of each window that is open.
        answer: the output block.
    """

    code: int
    first: int
    slots: tuple[tuple[int, int], ...]
    answer: bytes


def write_driver(artifact: Artifact, frames: dict[str, np.ndarray], path: Path) -> Path:
    """The program, which has the frames in it."""
    count = len(next(iter(frames.values())))
    signature = artifact.signature
    data = b"".join(pack_inputs(signature, _frame(frames, i)) for i in range(count))
    text = DRIVER.replace("@COUNT@", str(word_count(len(data)))).replace("@WORDS@", words(data))
    path.write_text(text.replace("@FRAMES@", str(count)))
    return path


def read_driver(printed: str) -> list[Told]:
    """What the program printed."""
    found = []
    for line in printed.splitlines():
        line, _, answer = line.partition(" =")
        code, first, *slots = line.split()
        opened = tuple(tuple(map(int, slot.split(":"))) for slot in slots)
        found.append(Told(int(code), int(first), opened, bytes.fromhex(answer)))  # type: ignore[arg-type]
    return found


def told_by_session(artifact: Artifact, frames: dict[str, np.ndarray]) -> list[Told]:
    """The same from the runtime."""
    session, signature = artifact.session(), artifact.signature
    plan = signature.window
    assert plan is not None
    assert isinstance(session, WindowSession)
    new, found, fed, first = (1 << len(signature.outputs)) - 1, [], 0, -plan.hop
    for step in range(len(next(iter(frames.values())))):
        code, answer = 0, b""
        frame: Any = _frame(frames, step)
        try:
            result = session.step(frame if len(frame) > 1 else next(iter(frame.values())))
            fed += 1
            if session.windows:
                code, first = new, session.windows[0].first
                answer = pack_outputs(signature, outputs_by_name(signature, result))
        except NonFiniteStateError:
            code = -(1 << 31)
        except StreamError:
            code = -1
        opened = [
            (start, fed - start)
            for start in range(0, fed, plan.hop)
            if start + plan.frames > fed and start > first
        ]
        found.append(Told(code, first, tuple(opened), answer))
    return found


def _frame(frames: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
    return {name: x[step] for name, x in frames.items()}
