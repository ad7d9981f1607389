"""Artifacts with something wrong in them and every checksum right: each must give a named error.

`python -m tests.fuzz.mutated_artifacts --count 3000` tries that many (seeds 0, 1, ...), in
processes of their own, and tells raw exceptions and signals with the seed of each; code sections
stay as they are. The suite tries some by `test_mutated_artifacts.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.errors import EdgeLSTMError, InternalError

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 255, 2**31, 2**32 + 1, 2**40, 2**63, 2**70, -(2**63),
    10**400, 0.5, -1.5, 1e308, "", "x", "f32", "i8", "\x1b[2J", "\u202e", "../../etc/passwd",
    "\0", "9 lives", "a" * 5000, [], [1], [None], [[]], [2**40, 2**40], {}, {"a": 1}, [[1], "x"],
)  # fmt: skip
"""Values that a field may hold and should not."""

SECONDS_A_SEED = 2
"""On average; a child that is slower is ended."""

_ROOT = str(Path(__file__).parents[2])
_base: tuple[bytes, ...] = ()
_CODE = ("code/", "object/", "cubin/", "ptx/", "kernels/")


def make_base_artifacts() -> tuple[bytes, ...]:
    """Good artifacts of every engine that needs no GPU, as files."""
    from edgelstm_compiler import compile_model
    from tests.models import stacked_model

    rng = np.random.default_rng(0)
    model = stacked_model(ops=("LSTM", "GRU"), hidden=8, features=3, steps=None, head="sequence")
    frames = [rng.standard_normal((80, 3)).astype(np.float32)]
    integers: dict[str, Any] = {"quantize": "int8-full", "calibration": frames}
    made = [
        compile_model(model, name="m", target="reference", check=False),
        compile_model(model, name="m", target="reference", check=False, **integers),
        compile_model(model, name="m", target="reference", check=False, quantize="w4"),
        compile_model(
            stacked_model(ops=("RNN",), hidden=4, features=3, steps=5, head="last_step"),
            name="m",
            target="reference",
            mode="call",
            check=False,
        ),
        compile_model(model, name="m", target="host", check=False),
        compile_model(model, name="m", target="cortex-m4", check=False, **integers),
    ]
    made += [_like_cuda(made[0]), *map(_without_known_steps, made[4:6])]
    return tuple(artifact.container.to_bytes() for artifact in made)


def _without_known_steps(artifact: Artifact) -> Artifact:
    """As older versions wrote them: `export-c` has to emulate their code."""
    sections = artifact.container.sections
    kept = {name: data for name, data in sections.items() if not name.startswith("known/")}
    return Artifact(Container(artifact.manifest, kept))


def _like_cuda(artifact: Artifact) -> Artifact:
    """A manifest as the CUDA target writes it; there is no GPU to run it."""
    manifest = copy.deepcopy(artifact.manifest)
    layout = {
        "place": 0, "source": 0, "shape": [4, 4], "strides": [4, 1], "padded": [4, 4],
        "split": [4, 4], "order": [0, 1], "dtype": "f32", "stored": "f32", "exponent": 0,
        "more": [],
    }  # fmt: skip
    kernel = {
        "section": "cubin/sm_87/many", "form": "cubin", "capability": [8, 7], "entry": "m_many",
        "shape": "block", "team": 1, "group": 1, "threads": 64, "registers": 40,
        "shared_bytes": 1024, "mail_bytes": 0, "image": [layout], "streams": "many", "above": 0,
        "why": "it fits", "cycles": 1000,
    }  # fmt: skip
    manifest["target"] = {
        "name": "cuda:sm_87", "engine": "cuda", "options": {},
        "facts": {"kernels": [kernel], "versions": {}},
    }  # fmt: skip
    sections = dict(artifact.container.sections)
    return Artifact(Container(manifest, {**sections, "cubin/sm_87/many": b"\x7fELF" + bytes(60)}))


def mutate(seed: int) -> bytes | None:
    """A file with one to three things wrong; None where such a file cannot be written."""
    rng = random.Random(seed)
    container = Container.parse(rng.choice(_base))
    manifest = copy.deepcopy(container.manifest)
    sections = {name: bytes(data) for name, data in container.sections.items()}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.random()
        if kind < 0.6:
            manifest = mutate_json(manifest, rng)
        elif kind < 0.8 and "program" in sections:
            with contextlib.suppress(ValueError):  # bytes of it may have been changed before
                program = mutate_json(json.loads(sections["program"]), rng)
                sections["program"] = json.dumps(program).encode()
        else:
            _mutate_sections(sections, rng)
    try:
        return Container(manifest, sections).to_bytes()
    except (TypeError, ValueError, RecursionError):
        return None


def mutate_json(data: Any, rng: random.Random) -> Any:
    """The document with one value replaced, removed, doubled, swapped or moved a little."""
    data = copy.deepcopy(data)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(data)
    if not places:
        return data
    parent, key = rng.choice(places)
    value = parent[key]
    match rng.randrange(6):
        case 0 | 1:
            parent[key] = copy.deepcopy(rng.choice(STRANGE))
        case 2:
            del parent[key]
        case 3:
            if type(value) is int:
                parent[key] = value + rng.choice((-1, 1, 7, 64, -64, 4096))
            elif isinstance(value, str):
                parent[key] = value[: rng.randrange(len(value) + 1)] + rng.choice("\x1b\x9bz")
            elif isinstance(value, list) and value:
                value.append(copy.deepcopy(rng.choice(value)))
            else:
                parent[key] = copy.deepcopy(rng.choice(STRANGE))
        case 4:
            other, its = rng.choice(places)
            with_other = copy.deepcopy(other[its]) if its in _keys(other) else None
            parent[key] = with_other
        case _:
            if isinstance(parent, list):
                rng.shuffle(parent)
            else:
                parent[rng.choice(("surprise", *map(str, parent)))] = value
    return data


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def _mutate_sections(sections: dict[str, bytes], rng: random.Random) -> None:
    """Data sections cut, extended, overwritten, renamed or removed; never code."""
    names = [name for name in sections if not name.startswith(_CODE)]
    if not names:
        return
    name = rng.choice(names)
    data = bytearray(sections[name])
    match rng.randrange(5):
        case 0:
            sections[name] = bytes(data[: rng.randrange(len(data) + 1)])
        case 1:
            sections[name] = bytes(data) + rng.randbytes(rng.randrange(1, 100))
        case 2:
            for _ in range(rng.randrange(1, 20)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            sections[name] = bytes(data)
        case 3:
            sections[rng.choice(("strange", "../x", "\x1b[2J", "é"))] = sections.pop(name)
        case _:
            del sections[name]


def probe(file: Path, folder: Path) -> None:
    """All that may be done with a file from anywhere; raises what no user should see."""
    from tests.unit.runtime.command_line import invoke

    commands: list[list[Any]] = [["inspect", file], ["inspect", file, "--json"], ["sbom", file]]
    try:
        artifact = edgelstm.load(file)
    except InternalError:
        raise
    except EdgeLSTMError as error:
        if not error.exit_code == 5:
            raise AssertionError(f"{type(error).__name__} at load: {error}") from error
        commands = commands[:1]
    else:
        _take(lambda: repr(artifact.header))
        _step(artifact)
        if any(name.startswith("object/") for name in artifact.sizes):
            commands.append(["export-c", file, "-o", folder / "c"])
    for command in commands:
        result = invoke(*command)
        if result.exit_code not in (0, 3, 4, 5, 6):
            raise AssertionError(f"{command[0]} ends with {result.exit_code}: {result.output}")
        shown = result.output.replace("\n", "")
        if not shown.isprintable():
            raise AssertionError(f"{command[0]} prints controls: {result.output!r}")


def _step(artifact: Artifact) -> None:
    """A session of an engine whose code is no part of the file, or says how much it touches."""
    engine = artifact.manifest["target"]["engine"]
    if engine == "native" and not _code_has_sizes(artifact):
        return
    signature = artifact.signature
    if max(signature.input_bytes, signature.output_bytes) > 1 << 26:
        return

    def run() -> None:
        with artifact.session() as session:
            inputs = {
                spec.name: np.zeros(spec.shape, spec.dtype.numpy) for spec in signature.inputs
            }
            frame = inputs if len(inputs) > 1 else next(iter(inputs.values()))
            if signature.mode == "call":
                session.call(inputs)
                return
            session.step(frame)
            session.restore(bytes(session.snapshot()))
            session.step(frame)

    _take(run)


def _code_has_sizes(artifact: Artifact) -> bool:
    wanted = f"\0{artifact.name}_sizes\0".encode()
    code = [bytes(d) for n, d in artifact.container.sections.items() if n.startswith("code/")]
    return bool(code) and all(wanted in data for data in code)


def _take(action: Callable[[], object]) -> None:
    try:
        action()
    except InternalError:
        raise
    except EdgeLSTMError:
        return


def try_seed(seed: int, folder: Path) -> str | None:
    """What went wrong with that file, or None."""
    data = mutate(seed)
    if data is None:
        return None
    file = folder / f"{seed}.edgelstm"
    file.write_bytes(data)
    try:
        probe(file, folder)
    except BaseException:
        return traceback.format_exc()
    finally:
        file.unlink()
    return None


def try_seeds(seeds: range) -> list[str]:
    """Complaints about those seeds; a signal ends a child process, not this one."""
    complaints = []
    with tempfile.TemporaryDirectory(prefix="edgelstm-fuzz-") as place:
        folder = Path(place)
        for index, data in enumerate(make_base_artifacts()):
            (folder / f"base_{index}").write_bytes(data)
        waiting = list(seeds)
        while waiting:
            told, ending = _run_worker(waiting, folder)
            complaints += [f"seed {seed}: {text}" for seed, text in told if text]
            waiting = waiting[len(told) :]
            if waiting:
                complaints.append(f"seed {waiting[0]}: {ending}")
                waiting = waiting[1:]
    return complaints


def _run_worker(seeds: list[int], folder: Path) -> tuple[list[tuple[int, str | None]], str]:
    """What a child process tells of these seeds, until it ends, and how it ended."""
    command = [sys.executable, "-m", "tests.fuzz.mutated_artifacts", "--worker", str(folder)]
    request = json.dumps(seeds)
    try:
        done = subprocess.run(
            command, input=request, stdout=subprocess.PIPE, text=True, check=False,
            timeout=60 + SECONDS_A_SEED * len(seeds), env={**os.environ, "PYTHONPATH": _ROOT},
        )  # fmt: skip
        output, ending = done.stdout, f"the process ended with {done.returncode}"
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode() if isinstance(late.stdout, bytes) else ""
        ending = "it takes too long"
    lines = [line for line in output.splitlines() if line.startswith("[")]
    return [tuple(json.loads(line)) for line in lines], ending


def work(folder: Path) -> None:
    """The child: seeds come on standard input, complaints go to standard output."""
    global _base
    _base = tuple(file.read_bytes() for file in sorted(folder.glob("base_*")))
    with tempfile.TemporaryDirectory() as place:
        for seed in json.load(sys.stdin):
            print(json.dumps([seed, try_seed(seed, Path(place))]), flush=True)


def main() -> int:
    """Try many, tell, and give an exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker)
        return 0
    complaints = try_seeds(range(options.start, options.start + options.count))
    for complaint in complaints:
        print(complaint)
    print(f"{options.count} artifacts: {len(complaints)} raw exceptions or signals")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
