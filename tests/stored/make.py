"""Makes the stored artifacts: `python -m tests.stored.make FOLDER`, once a version.

Each is a small seeded model compiled by the version of the day, with what it computed then: outputs
of every instruction set that this machine has, and a snapshot taken in the middle of the stream.
"""

from __future__ import annotations

import lzma
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.engines.native import ISA_VARIABLE, code_variants
from edgelstm_compiler import compile_model
from edgelstm_compiler.emulation.kernel import emulate
from tests.models import stacked_model

SCHEMES = (None, "fp16", "w8", "w4", "int8", "int8-full")
TARGETS = {
    "reference": SCHEMES,
    "host": SCHEMES,
    "aarch64": (None, "int8-full"),
    "cortex-m4": (None, "int8-full"),
}
FRAMES = 60
SNAPSHOT_AT = 25


def main() -> None:
    """Write all of them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    frames = recording()
    stream = stacked_model(ops=("LSTM", "GRU"), hidden=8, features=6, steps=None, head="sequence")
    for target, schemes in TARGETS.items():
        for scheme in schemes:
            artifact = compile_model(
                stream,
                name="stored",
                target=target,
                quantize=scheme,
                calibration=[recording(seed=1)] if scheme else None,
            )
            results = {"frames": frames}
            for isa, runnable in runnable_variants(artifact):
                session = runnable.session()
                outputs = [session.run(frames[:SNAPSHOT_AT])]
                snapshot = bytes(session.snapshot())
                outputs.append(session.run(frames[SNAPSHOT_AT:]))
                results[f"outputs/{isa}"] = np.concatenate(outputs)
                results[f"snapshot/{isa}"] = np.frombuffer(snapshot, np.uint8)
            store(folder, f"stream_{target}_{scheme or 'fp32'}", artifact, results)
    call = stacked_model(
        ops=("LSTM",), hidden=5, features=3, steps=12, head="sequence", direction="bidirectional"
    )
    for target in ("reference", "host"):
        artifact = compile_model(call, name="stored", target=target, mode="call")
        spec = artifact.signature.inputs[0]
        window = np.random.default_rng(2).standard_normal(spec.shape).astype(np.float32)
        results = {"frames": window}
        for isa, runnable in runnable_variants(artifact):
            results[f"outputs/{isa}"] = runnable.session().call(window)
        store(folder, f"call_{target}_fp32", artifact, results)


def recording(seed: int = 0) -> NDArray[Any]:
    """Frames of six channels: (FRAMES, 6)."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((FRAMES, 6)), axis=0)
    return np.asarray(np.sin(0.4 * walk), np.float32)


def runnable_variants(artifact: Artifact) -> Iterator[tuple[str, Artifact]]:
    """The artifact as each instruction set that runs here runs it, emulated if need be."""
    if artifact.manifest["target"]["engine"] == "reference":
        yield "numpy", artifact
        return
    for variant in code_variants(artifact.container):
        if variant.obstacle() is None:
            os.environ[ISA_VARIABLE] = variant.isa
            yield variant.isa, Artifact(artifact.container)
            del os.environ[ISA_VARIABLE]
        elif not variant.isa.startswith("x86"):
            yield variant.isa, emulate(artifact, variant.isa)


def store(folder: Path, name: str, artifact: Artifact, results: dict[str, NDArray[Any]]) -> None:
    """The artifact, compressed, and what it computed."""
    data = lzma.compress(artifact.container.to_bytes(), preset=9)
    (folder / f"{name}.edgelstm.xz").write_bytes(data)
    np.savez_compressed(folder / f"{name}.npz", **results)


if __name__ == "__main__":
    main()
