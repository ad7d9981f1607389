"""ONNX files altered as messages and as bytes: a result or a named error, in bounds.

    python -m tests.fuzz.onnx_mutations --count 5000

Every altered file is inspected, and those that stream or can be called are compiled for the
reference target. What is no error of the error tree, more than `SECONDS` or more than `BYTES`
of memory is reported with the seed, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler import compile_model
from edgelstm_compiler.inspection import inspect_model
from tests.fuzz.frame_graphs import draw
from tests.models import gru_model, lstm_model, rnn_model, stacked_model

SECONDS = 20.0
"""Of the processors, so that a busy machine does not decide."""

BYTES = 2 << 30

HOSTILE = (
    0,
    1,
    -1,
    2,
    7,
    255,
    65536,
    1 << 31,
    -(1 << 31),
    (1 << 62) + 1,
    (1 << 63) - 1,
    -(1 << 63),
)
_PRINTABLE = ("", "x", "Y", "\x1b[2J", "nul\0", "../..", "/etc/passwd", "LSTM", "ä" * 300)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an altered file.

    Args:
        kind: "compiled", "refused", "raw exception", "too slow", "too large".
        detail: the error.
    """

    kind: str
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether this must not happen."""
        return self.kind not in ("compiled", "refused")


def originals() -> list[onnx.ModelProto]:
    """Sound models of several kinds: cells, stacks, heads, shapes computed from the frames."""
    makers: list[Callable[[], onnx.ModelProto]] = [
        lstm_model,
        gru_model,
        rnn_model,
        stacked_model,
        lambda: stacked_model(steps=None, head="last_step"),
        _with_a_function,
    ]
    return [*(make() for make in makers), *(draw(seed).model for seed in (3, 11, 14, 20, 31))]


def _with_a_function() -> onnx.ModelProto:
    model = lstm_model()
    body = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    first = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Twice", [first], ["twice"], domain="own"))
    model.graph.output.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, None))
    model.functions.append(body)
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def mutate(seed: int, models: Sequence[onnx.ModelProto], folder: Path) -> Path:
    """Write the altered file of a seed."""
    rng = np.random.default_rng(seed)
    model = onnx.ModelProto()
    model.CopyFrom(models[int(rng.integers(len(models)))])
    path = folder / "model.onnx"
    if rng.random() < 0.15:
        onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
        model = onnx.load(path, load_external_data=False)
    for _ in range(int(rng.integers(1, 4))):
        _alter(model, rng)
    try:
        data = bytearray(model.SerializeToString())
    except Exception:  # a text that protobuf does not write: the bytes below stay sound
        data = bytearray(models[0].SerializeToString())
    if rng.random() < 0.2:
        _alter_bytes(data, rng)
    path.write_bytes(bytes(data))
    return path


def _alter(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Change one field somewhere in the message, or its nodes as a whole."""
    kind = rng.random()
    nodes = model.graph.node
    if kind < 0.3 and len(nodes):
        node = nodes[int(rng.integers(len(nodes)))]
        change = int(rng.integers(5))
        names = [name for other in nodes for name in other.output] or ["x"]
        if change == 0 and len(node.input):
            node.input[int(rng.integers(len(node.input)))] = str(rng.choice(names))
        elif change == 1:
            operators = ("Slice", "Reshape", "Loop", "If", "LSTM", "Expand", "Concat", "Conv")
            node.op_type = str(rng.choice(operators))
        elif change == 2:
            nodes.remove(node)
        elif change == 3:
            nodes.append(node)
        else:
            node.attribute.append(helper.make_attribute("axis", int(rng.choice(HOSTILE[:6]))))
        return
    message: Any = model.graph if rng.random() < 0.95 else model
    for _ in range(60):
        fields = message.ListFields()
        if not fields:
            message = model.graph
            continue
        descriptor, found = fields[int(rng.integers(len(fields)))]
        is_many = not isinstance(found, (str, bytes)) and hasattr(found, "__len__")
        if descriptor.message_type is not None:
            message = found[int(rng.integers(len(found)))] if is_many else found
            if rng.random() < 0.05:
                message.Clear()
                return
            continue
        if descriptor.type == descriptor.TYPE_STRING and rng.random() < 0.7:
            message = model.graph  # a name less: most of them end as "produced by no node"
            continue
        _set(message, descriptor, found, is_many, rng)
        return


def _set(
    message: Any, descriptor: Any, found: Any, is_many: bool, rng: np.random.Generator
) -> None:
    place = int(rng.integers(len(found))) if is_many and len(found) else None
    old = found if place is None else found[place]
    if isinstance(old, (bool, int, np.integer)):
        new: Any = HOSTILE[int(rng.integers(len(HOSTILE)))]
    elif isinstance(old, float):
        new = float(rng.choice([0.0, -1.0, 1e30, np.inf, np.nan]))
    elif isinstance(old, str):
        new = _PRINTABLE[int(rng.integers(len(_PRINTABLE)))]
    elif isinstance(old, bytes):
        data = bytearray(old)
        _alter_bytes(data, rng)
        new = bytes(data)
    else:
        return
    try:
        if place is not None:
            found[place] = new
        else:
            setattr(message, descriptor.name, new)
    except (TypeError, ValueError):
        return  # out of the field's range


def _alter_bytes(data: bytearray, rng: np.random.Generator) -> None:
    if not data:
        return
    match int(rng.integers(4)):
        case 0:
            for place in rng.integers(0, len(data), int(rng.integers(1, 8))):
                data[place] = int(rng.integers(256))
        case 1:
            del data[int(rng.integers(len(data))) :]
        case 2:
            start = int(rng.integers(len(data)))
            del data[start : start + int(rng.integers(1, 64))]
        case _:
            start = int(rng.integers(len(data)))
            data[start:start] = data[: int(rng.integers(1, 64))]


def judge(path: Path) -> Outcome:
    """Inspect and compile an altered file."""
    start = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kind, detail = "refused", ""
    try:
        report = inspect_model(path)
        if report["layers"]:
            compile_model(path, target="reference", mode=report["mode"])
            kind = "compiled"
    except EdgeLSTMError as error:
        detail = str(error)
        if error.exit_code == 70:
            kind = "raw exception"
    except Exception as error:
        kind, detail = "raw exception", f"{type(error).__name__}: {error}"
    if time.process_time() - start > SECONDS:
        return Outcome("too slow", detail)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if (after - before) * 1024 > BYTES:
        return Outcome("too large", detail)
    return Outcome(kind, detail)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge so many altered files; 1 where one of them is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    options = parser.parse_args(arguments)
    kinds: Counter[str] = Counter()
    models = originals()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.count):
            outcome = judge(mutate(seed, models, Path(folder)))
            kinds[outcome.kind] += 1
            if outcome.is_wrong:
                print(f"seed {seed}: {outcome.kind}: {outcome.detail[:300]}", flush=True)
    print(", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds)))
    return int(any(kind not in ("compiled", "refused") for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
