"""int8-full to the bit over long streams, and whether errors grow: `make long-bits`.

Networks that read integers to the ends of int16, one of them with cells that saturate: NumPy
computes 100,000 steps, and every instruction set of x86-64 that this machine has gives the same
outputs and states in random chunks. Emulated processors do the same over 5,000 steps: Cortex-A and
Cortex-M under Unicorn, a Cortex-M55, which Unicorn does not know, as an exported project in QEMU
that has the frames in it and prints a hash of all output blocks.
Then compiled code runs a million steps in every scheme, beside float32.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgelstm.artifact import Artifact
from edgelstm.blocks import outputs_by_name, pack_inputs, pack_outputs
from edgelstm.engines.cpu_features import cpu_flags
from edgelstm.engines.native import ISA_VARIABLE
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.c_export.names import word_count, words
from edgelstm_compiler.c_export.project import export_project
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.quant_report.drift import Drift, measure_drift
from tests.arm.c_project import run_on_board
from tests.arm.integer_cases import STREAMS, compile_integers, integrator, stream, walk
from tests.models import stacked_model
from tests.quantized_models import recordings, step_graph

STEPS, EMULATED, DRIFT = 100_000, 5_000, 1_000_000
MODELS = ("lstm_peepholes_clip", "gru_linear", "rnn", "stack", "saturated")
CORTEX_A = {
    "aarch64": ("aarch64-dotprod", "aarch64"),
    "armv7": ("armv7-vfpv4", "armv7-neon"),
}
CORTEX_M = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
SCHEMES = ("w8", "w4", "int8", "int8-full")
CUTS = 60
DRIVEN = 200
"""Steps in which an integrator is driven from one end of its cells to the other."""

HASH = (14695981039346656037, 1099511628211)
"""Basis and prime of FNV-1a in 64 bits."""

BOARD = r"""
#include <stdio.h>
#include <string.h>
#include "net.h"
static const uint32_t frames[@COUNT@] = {
@WORDS@
};
static net_state state;
static net_scratch scratch;
static net_input in;
static net_output out;
int main(void)
{
    const unsigned char *bytes = (const unsigned char *)&out;
    unsigned long long hash = @BASIS@ull;
    long i;
    unsigned k;
    net_init(&state, &scratch);
    for (i = 0; i < @STEPS@; ++i) {
        memcpy(&in, (const unsigned char *)frames + i * (long)sizeof in, sizeof in);
        if (net_step(net_weights, &state, &scratch, &in, &out) < 0) return 1;
        for (k = 0; k < sizeof out; ++k) hash = (hash ^ bytes[k]) * @PRIME@ull;
    }
    printf("hash %08lx%08lx\n", (unsigned long)(hash >> 32), (unsigned long)(hash & 0xffffffffu));
    return 0;
}
"""

Bits = tuple[bytes, bytes]


@dataclass(frozen=True)
class Network:
    """A model, its calibration, what it is given, and what NumPy makes of it, long and short."""

    name: str
    model: onnx.ModelProto
    given: Any
    frames: dict[str, np.ndarray[Any, Any]]
    wanted: Bits
    short: Bits

    @classmethod
    def of(cls, name: str, steps: int, emulated: int) -> Network:
        """Run it in NumPy."""
        if name == "saturated":
            model, given = integrator()
        else:
            make, fields = STREAMS[name]
            model = make(steps=None, **fields)
            given = recordings(step_graph(model), frames=100)
        reference = compile_integers(model, "reference", "stream", given, True)
        frames = walk(reference, steps)
        if name == "saturated":
            signs = np.where(np.arange(steps) // DRIVEN % 2 == 0, 32767, -32768)
            frames = {key: np.full_like(x, signs[:, None]) for key, x in frames.items()}
        for x in frames.values():
            assert (x.max(), x.min()) == (32767, -32768), "inputs reach both ends"
        wanted = stream(reference, frames, _cuts(steps, name))
        short = {key: x[:emulated] for key, x in frames.items()}
        if name == "saturated":
            driven = stream(reference, {key: x[:DRIVEN] for key, x in frames.items()})
            states = np.frombuffer(driven[1], np.int16).astype(int)
            assert (np.abs(states) == 32767).any(), "cells saturate"
        return cls(name, model, given, frames, wanted, stream(reference, short))

    def compiled(self, target: str) -> Artifact:
        """For a target, integers in and out."""
        return compile_integers(self.model, target, "stream", self.given, True)


def native(network: Network) -> Iterator[tuple[str, bool]]:
    """Each instruction set of this machine, and whether its bits are NumPy's."""
    artifact = network.compiled("host")
    for entry in artifact.manifest["target"]["facts"]["isas"]:
        isa = str(entry["section"]).removeprefix("code/")
        if not set(entry["requires"]) <= set(cpu_flags()):
            print(f"  {isa}: not on this machine")
            continue
        os.environ[ISA_VARIABLE] = isa
        fresh = Artifact(artifact.container)
        assert fresh.kernel is not None
        assert fresh.kernel.facts["isa"] == isa
        cuts = _cuts(len(next(iter(network.frames.values()))), network.name + isa)
        yield isa, stream(fresh, network.frames, cuts) == network.wanted
    os.environ.pop(ISA_VARIABLE, None)


def emulated(network: Network, steps: int) -> Iterator[tuple[str, bool]]:
    """Each emulated processor, and whether its bits are NumPy's."""
    short = {key: x[:steps] for key, x in network.frames.items()}
    for target, isas in [*CORTEX_A.items(), *((name, (None,)) for name in CORTEX_M)]:
        artifact = network.compiled(target)
        for isa in isas:
            name = isa or target
            found = stream(emulate(artifact, isa), short, _cuts(steps, network.name + name))
            yield name, found == network.short
    yield "cortex-m55 (QEMU)", _on_board(network, short)


def _on_board(network: Network, frames: dict[str, np.ndarray[Any, Any]]) -> bool:
    """Whether a Cortex-M55 gives NumPy's output blocks."""
    reference = network.compiled("reference")
    signature, session = reference.signature, reference.session()
    count = len(next(iter(frames.values())))
    given, wanted = b"", HASH[0]
    for index in range(count):
        frame = {name: x[index] for name, x in frames.items()}
        given += pack_inputs(signature, frame)
        shown = outputs_by_name(signature, session.step(frame))
        for byte in pack_outputs(signature, shown):
            wanted = (wanted ^ byte) * HASH[1] % 2**64
    program = BOARD
    for name, text in {
        "COUNT": str(word_count(len(given))),
        "WORDS": words(given),
        "BASIS": str(HASH[0]),
        "PRIME": str(HASH[1]),
        "STEPS": str(count),
    }.items():
        program = program.replace(f"@{name}@", text)
    golden = record_golden(reference, frames, 4, None)
    with tempfile.TemporaryDirectory() as folder:
        export_project(network.compiled("cortex-m55"), Path(folder), golden, None)
        main = Path(folder) / "example" / "board.c"
        main.write_text(program, encoding="utf-8")
        said = run_on_board(Path(folder), "cortex-m55", "mps3-an547", main)
    return said.strip() == f"hash {wanted:016x}"


def drift(scheme: str, steps: int) -> Drift:
    """Of compiled code in a scheme beside float32, over steps without a reset."""
    model = stacked_model(ops=("LSTM", "GRU"), steps=None, head="sequence", hidden=24)
    given = recordings(step_graph(model), frames=500)
    pair = [
        compile_model(model, target="host", check=False),
        compile_model(model, target="host", check=False, quantize=scheme, calibration=given),
    ]
    (spec,) = pair[0].signature.inputs
    seen = np.concatenate([next(iter(item.values())) for item in given]).reshape(-1, *spec.shape)
    rng = np.random.default_rng(0)
    noise = np.cumsum(rng.normal(0, 0.3, (steps, *spec.shape)), axis=0)
    frames = (np.sin(noise) * np.abs(seen).max()).astype(np.float32)
    exact, quantized = map(_Compiled, pair)
    return measure_drift(exact, quantized, {spec.name: frames}, "a seeded walk")  # type: ignore[arg-type]


class _Compiled:
    """Runs compiled code over a recording of any length."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    def run(self, recording: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        ((frames),) = recording.values()
        shown = self._artifact.session().run(frames)
        return dict(shown) if isinstance(shown, dict) else {"y": np.asarray(shown)}


def _cuts(count: int, seed: str) -> list[int]:
    rng = np.random.default_rng(sum(seed.encode()))
    return sorted(set(rng.integers(3, count - 2, CUTS).tolist()) | {1, 2})


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is equal; 1 where something is not, or an error grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="names, comma between")
    parser.add_argument("--steps", type=int, default=STEPS, help="of NumPy and x86-64")
    parser.add_argument("--emulated", type=int, default=EMULATED, help="of emulated processors")
    parser.add_argument("--drift", type=int, default=DRIFT, help="without a reset, each scheme")
    asked = parser.parse_args(arguments)
    began, equal, other = time.monotonic(), 0, 0
    for name in filter(None, asked.models.split(",")):
        network = Network.of(name, asked.steps, asked.emulated)
        print(f"{name}: {asked.steps:,} steps in NumPy", flush=True)
        for where, same in chain(native(network), emulated(network, asked.emulated)):
            print(f"  {where}: {'equal' if same else 'OTHER BITS'}", flush=True)
            equal, other = equal + same, other + (not same)
    growing = 0
    for scheme in SCHEMES if asked.drift else ():
        found = drift(scheme, asked.drift)
        growing += found.grows
        print(f"{scheme}: {found.verdict}", flush=True)
    print(
        f"{equal} streams equal to the bit, {other} not, {growing} errors grow, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if other or growing else 0


if __name__ == "__main__":
    sys.exit(main())
