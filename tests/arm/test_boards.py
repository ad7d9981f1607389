"""Exported models on emulated microcontroller boards, from the reset vector to known outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.footprint import footprints
from edgelstm.io.recording import read_frames
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.integer_io import to_numbers
from edgelstm_compiler.c_export.names import word_count, words
from edgelstm_compiler.demo import MODEL_PATH, TRIAL_PATH
from edgelstm_compiler.session_rows import step_through
from tests.arm.c_project import export, link_for_board, run_board, run_on_board
from tests.arm.elf_account import symbol_sizes
from tests.arm.integer_models import demo_in_integers, demo_signature, in_integers, save
from tests.models import gru_model, lstm_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

BOARDS = {
    "cortex-m3": "mps2-an385",
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
    "cortex-m55": "mps3-an547",
    # A Cortex-M0 with 16 KB of RAM: it runs what the M0+ runs, ARMv6-M.
    "cortex-m0plus": "microbit",
}
CODE_BYTES = 6 * 1024
"""Of an LSTM of 6 inputs and 32 units in int8-full on a Cortex-M4, besides its weights."""
FLOAT = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")

# Steps through a trial that stands in flash and prints the likeliest class of every frame.
CLASSIFY = r"""
#include <stdio.h>
#include "tug_phase.h"
#define FRAMES {frames}
static const uint32_t trial[{count}] TUG_PHASE_ALIGNED = {{
{words}
}};
static tug_phase_state state;
static tug_phase_scratch scratch;
static char phases[FRAMES + 1];
int main(void)
{{
    tug_phase_output out;
    int frame, k;
    tug_phase_init(&state, &scratch);
    for (frame = 0; frame < FRAMES; ++frame) {{
        const unsigned char *in = (const unsigned char *)trial + frame * TUG_PHASE_INPUT_BYTES;
        int best = 0;
        if (tug_phase_step(tug_phase_weights, &state, &scratch, in, &out) < 0) {{
            return 1;
        }}
        for (k = 1; k < 5; ++k) {{
            best = out.phase[k] > out.phase[best] ? k : best;
        }}
        phases[frame] = (char)('0' + best);
    }}
    puts(phases);
    return 0;
}}
"""
# How far below its caller a step and a run write: the stack is painted first.
PAINT = r"""
#include <stdio.h>
#include "net.h"
#define DEPTH 4096
static net_state state;
static net_scratch scratch;
static net_input in[3];
static net_output out[3];
static void paint(volatile unsigned char *top)
{
    int i;
    for (i = 1; i <= DEPTH; ++i) {
        top[-i] = 0xa5;
    }
}
static int used(volatile unsigned char *top)
{
    int i = DEPTH;
    while (i > 0 && top[-i] == 0xa5) {
        --i;
    }
    return i;
}
int main(void)
{
    unsigned char *top;
    int step, run, code;
    __asm volatile("mov %0, sp" : "=r"(top));
    net_init(&state, &scratch);
    paint(top - 64); /* below the frames of paint() and used() themselves */
    code = net_step(net_weights, &state, &scratch, in, out) < 0;
    step = 64 + used(top - 64);
    paint(top - 64);
    code |= net_run(net_weights, &state, &scratch, in, out, 3);
    run = 64 + used(top - 64);
    printf("%d %d %d\n", code, step, run);
    return 0;
}
"""


def phases_here(artifact: Artifact, frames: dict[str, np.ndarray]) -> str:
    """The same on this machine, by the runtime."""
    (rows,) = step_through(artifact.session(), frames, len(frames["imu"])).values()
    return "".join(map(str, np.asarray(rows).argmax(axis=1)))


def phases_on_board(artifact: Artifact, frames: dict[str, np.ndarray], folder: Path) -> str:
    isa = artifact.manifest["target"]["name"]
    data = frames["imu"].tobytes()
    main = folder / "classify.c"
    main.write_text(
        CLASSIFY.format(frames=len(frames["imu"]), count=word_count(len(data)), words=words(data))
    )
    project = export(artifact, folder / "c", steps=2, model=MODEL_PATH)
    return run_on_board(project, isa, BOARDS[isa], main).strip()


@pytest.fixture(scope="module")
def trial() -> dict[str, np.ndarray]:
    return dict(read_frames(TRIAL_PATH, demo_signature()))


@pytest.fixture(scope="module")
def float_phases(trial) -> str:
    return phases_here(compile_model(MODEL_PATH, check=False), trial)


@pytest.mark.parametrize("target", FLOAT)
def test_the_demo_classifies_as_on_the_host(
    target: str, trial, float_phases: str, tmp_path: Path
) -> None:
    """In floats: the same phase for every frame of the bundled trial, every phase among them."""
    artifact = compile_model(MODEL_PATH, target=target, check=False)
    assert set(float_phases) == set("01234")
    assert phases_on_board(artifact, trial, tmp_path) == float_phases


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
def test_the_demo_classifies_in_integers(
    target: str, trial, float_phases: str, tmp_path: Path
) -> None:
    """int8-full without floats: exactly as int8-full here, and as in floats in 99 % of frames.

    The Cortex-M0+ code runs on the micro:bit, whose Cortex-M0 has the same instructions.
    """
    artifact, here = demo_in_integers(target), demo_in_integers("host")
    frames = to_numbers(artifact, trial)
    found = phases_on_board(artifact, frames, tmp_path)
    assert found == phases_here(here, frames)
    same = sum(a == b for a, b in zip(found, float_phases, strict=True))
    assert same >= 0.99 * len(float_phases)


@pytest.mark.parametrize("target", BOARDS)
def test_small_lstm_in_integers(target: str, tmp_path: Path) -> None:
    """(6,32) int8-full, from the reset vector to known outputs of NumPy checked, bit for bit.

    RAM is state and scratch, as printed; code and constants besides the weights are as printed.
    """
    model = save(lstm_model(hidden=32, features=6, steps=None), tmp_path)
    artifact = in_integers(model, target, name="net")
    folder = export(artifact, tmp_path / "c", model=model, steps=40)
    program = link_for_board(folder, target, BOARDS[target])
    assert run_board(program, BOARDS[target]) == "net: PASS\n"
    (memory,) = footprints(artifact).values()
    sizes = symbol_sizes(program)
    assert sizes["first"] == sizes["second"] == memory.state
    assert sizes["scratch"] == memory.scratch
    assert sizes["net_weights"] == memory.weights
    if target == "cortex-m4":
        glue = sum(sizes.get(f"net_{name}", 0) for name in ("init", "reset", "checksum"))
        assert memory.text + memory.rodata + glue <= CODE_BYTES


@pytest.mark.parametrize(
    ("make", "scheme", "target"),
    [
        (lstm_model, "fp32", "cortex-m4"),
        (gru_model, "fp32", "cortex-m33"),
        (lstm_model, "fp32", "cortex-m55"),
        (lstm_model, "int8-full", "cortex-m0plus"),
        (gru_model, "int8-full", "cortex-m3"),
        (lstm_model, "int8-full", "cortex-m4"),
        (gru_model, "int8-full", "cortex-m7"),
        (lstm_model, "int8-full", "cortex-m55"),
    ],
)
def test_the_stack_bound_on_the_board(make, scheme: str, target: str, tmp_path: Path) -> None:
    """Step and run go no deeper than `inspect` prints, and at least half as deep."""
    model = save(make(hidden=20, features=6, steps=None), tmp_path)
    if scheme == "fp32":
        artifact = compile_model(model, target=target, name="net", check=False)
    else:
        artifact = in_integers(model, target, name="net")
    main = tmp_path / "paint.c"
    main.write_text(PAINT)
    folder = export(artifact, tmp_path / "c", steps=2, model=model)
    shown = run_on_board(folder, target, BOARDS[target], main)
    code, step, run = map(int, shown.split())
    (memory,) = footprints(artifact).values()
    assert code == 0
    assert memory.stack is not None
    assert max(step, run) <= memory.stack <= 2 * max(step, run)
