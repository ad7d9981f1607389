"""What reaches the agent over a line that garbles, or from somebody who means no good.

`python -m tests.fuzz.frames --count 2000` tries that many conversations: the agent in Python must
answer every whole frame and end with the stream, whatever stood in it.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import traceback

import numpy as np

from edgelstm.blocks import pack_inputs
from edgelstm.container import Container
from edgelstm.remote.agent import serve
from edgelstm.remote.frames import Kind, encode, read_frame
from tests.fuzz.mutated_artifacts import mutate_json
from tests.unit.runtime.toy_models import double_call, leaky_reference, pair_reference


def conversation(rng: random.Random) -> list[bytes]:
    """Frames with right checksums, most of them with something wrong in their payload."""
    artifact = rng.choice((leaky_reference, pair_reference, double_call))()
    values = {s.name: np.zeros(s.shape, s.dtype.numpy) for s in artifact.signature.inputs}
    block = pack_inputs(artifact.signature, values)
    good = [
        (Kind.HELLO, bytes([1])),
        (Kind.LOAD, artifact.container.to_bytes()),
        *[(Kind.STEP, block)] * 3,
        (Kind.RESET, b""),
        (Kind.STEP, block),
    ]
    frames = []
    for kind, payload in good:
        number: int = kind
        match rng.randrange(8):
            case 0:
                payload = _changed(payload, rng)
            case 1:
                number = rng.randrange(256)
                number = Kind.STEP if number == Kind.BYE else number
            case 2:
                payload = rng.randbytes(rng.randrange(200))
            case 3 if kind == Kind.LOAD:
                payload = _strange_artifact(payload, rng)
            case _:
                pass
        frames.append(encode(number, rng.randrange(256), payload))
    return frames


def _strange_artifact(data: bytes, rng: random.Random) -> bytes:
    container = Container.parse(data)
    try:
        manifest = mutate_json(container.manifest, rng)
        return Container(manifest, container.sections).to_bytes()
    except (TypeError, ValueError):
        return data


def _changed(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.3 else changed)


def try_whole_frames(seed: int) -> str | None:
    """Every frame with a right checksum has an answer, and the last one a good one."""
    frames = [*conversation(random.Random(seed)), encode(Kind.HELLO, 77, bytes([1]))]
    answers = _serve(b"".join(frames))
    if isinstance(answers, str):
        return answers
    if len(answers) != len(frames):
        return f"{len(frames)} frames, {len(answers)} answers"
    kind, serial = answers[-1]
    return None if (kind, serial) == (Kind.INFO, 77) else f"the last answer is {answers[-1]}"


def try_garbled_line(seed: int) -> str | None:
    """Bytes lost, doubled and changed anywhere: the agent ends with the stream, and not before."""
    rng = random.Random(seed)
    data = bytearray(b"".join(conversation(rng)))
    for _ in range(rng.randrange(1, 10)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randrange(1, 30)]
            case 2:
                data[place:place] = rng.randbytes(rng.randrange(1, 30))
            case _:
                data[place : place + 4] = struct.pack("<I", rng.choice((0, 1 << 20, 1 << 31)))
        if not data:
            return None
    answers = _serve(bytes(data))
    return answers if isinstance(answers, str) else None


def _serve(data: bytes) -> list[tuple[int, int]] | str:
    said: list[bytes] = []
    stream = io.BytesIO(data)
    try:
        serve(stream.read, said.append)
        rest = stream.read()
        answers = io.BytesIO(b"".join(said))
        found = iter(lambda: read_frame(answers.read), None)
        told = [(frame.kind, frame.serial) for frame in found]
    except BaseException:
        return traceback.format_exc()
    return f"{len(rest)} bytes were not read" if rest else told


def main() -> int:
    """Try many, tell, and give an exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    bad = 0
    for seed in range(options.count):
        for attempt in (try_whole_frames, try_garbled_line):
            complaint = attempt(seed)
            if complaint is not None:
                bad += 1
                print(f"{attempt.__name__}, seed {seed}: {complaint}")
    print(f"{2 * options.count} conversations: {bad} complaints")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
