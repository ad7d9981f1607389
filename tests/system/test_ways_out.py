"""A refused model is refused with commands that compile it: each is run as it stands there."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgelstm.artifact import load
from edgelstm_compiler import compile_model
from edgelstm_compiler.streaming.refusal import OtherModeError
from tests.attention_models import attention_model, band, where
from tests.frame_models import FEATURES, lstm, model, node
from tests.models import stacked_model
from tests.unit.runtime.command_line import invoke

T1 = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["t"])]
HALF = [*T1, node("Cast", ["t"], ["f"], to=1), node("Div", ["Y", "f"], ["out"])]
SCORES = [node("Softmax", ["Y"], ["out"], axis=0)]
CONTROLLED = [lstm(direction="reverse"), node("Mul", ["Y", "gain"], ["out"])]

MODELS: dict[str, tuple[onnx.ModelProto, str, set[str]]] = {
    "bidirectional": (
        stacked_model(direction="bidirectional", steps=7, head="last_step"),
        "layer_1",
        {"call", "window"},
    ),
    "bidirectional of any length": (
        stacked_model(direction="bidirectional", steps=None, batch=None),
        "layer_1",
        {"call", "window", "lookahead"},
    ),
    "the number of frames decides": (model([lstm(), *HALF]), "Div", {"call", "window"}),
    "softmax over time": (model([lstm(), *SCORES]), "softmax over time", {"call", "window"}),
    "windows without a hop": (
        stacked_model(steps=7, head="last_step"),
        "how often",
        {"window", "stream"},
    ),
    "attention to all frames before": (
        attention_model([where(band(7, 7))], 7),
        "attention over time",
        {"call", "stream", "window"},
    ),
    "a control input": (
        model(CONTROLLED, {"x": ("T", "B", FEATURES), "gain": ()}),
        "reverse",
        {"call", "window", "lookahead"},
    ),
}
SET = {"a control input": ("--set", "gain=2.5")}


def commands_of(text: str) -> list[list[str]]:
    """The commands of an error, as a shell reads them."""
    lines = (line.strip() for line in text.splitlines())
    return [shlex.split(line, comments=True) for line in lines if line.startswith("edgelstm ")]


@pytest.mark.parametrize("name", MODELS)
def test_every_command_of_a_refusal_works(name: str, tmp_path: Path) -> None:
    """With the node, the reason, and the user's own options in the commands."""
    proto, reason, modes = MODELS[name]
    path, artifact = tmp_path / "my model.onnx", tmp_path / "out.edgelstm"
    onnx.save(proto, path)
    given = (path, "--target=reference", "-o", artifact, *SET.get(name, ()))
    refused = invoke("compile", *given)
    assert refused.exit_code == 3, refused.output
    assert reason in refused.stderr
    commands = commands_of(refused.stderr)
    assert {words[words.index("--mode") + 1] for words in commands} == modes
    for words in commands:
        assert words[:2] == ["edgelstm", "compile"]
        assert words[2:4] == [str(path), "--target=reference"]
        artifact.unlink(missing_ok=True)
        done = invoke(*words[1:])
        assert done.exit_code == 0, (words, done.stderr)
        assert load(artifact).signature.mode == words[words.index("--mode") + 1]


def test_options_of_a_mode_are_not_told_again(tmp_path: Path) -> None:
    """`--carry` means nothing to a call; how a window answers stays."""
    path = tmp_path / "m.onnx"
    onnx.save(MODELS["bidirectional"][0], path)
    refused = invoke("compile", path, "--mode=stream", "--no-carry", "--name", "squat")
    for words in commands_of(refused.stderr):
        assert words[3:5] == ["--name", "squat"]
        assert "--no-carry" not in words
        assert not any("stream" in word for word in words)
    onnx.save(MODELS["windows without a hop"][0], path)
    asked = invoke("compile", path, "--smooth", "mean:3", "--target", "reference")
    windows = [words for words in commands_of(asked.stderr) if "window" in words]
    assert windows
    for words in windows:
        assert words.count("--smooth") == 1
        assert invoke(*words[1:], "-o", tmp_path / "x").exit_code == 0


@pytest.mark.parametrize("name", ["bidirectional", "windows without a hop"])
def test_frames_of_a_stream_are_no_windows(name: str, tmp_path: Path) -> None:
    """With recordings to check on, those commands are named that read them, and no others."""
    path, walk = tmp_path / "m.onnx", tmp_path / "walk.csv"
    onnx.save(MODELS[name][0], path)
    rows = np.random.default_rng(0).standard_normal((60, 3)).round(4).tolist()
    walk.write_text("x,y,z\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows), encoding="utf-8")
    given = ("--columns", "x,y,z", "--check-input", walk, "--target", "reference")
    refused = invoke("compile", path, *given, "-o", tmp_path / "m.edgelstm")
    assert refused.exit_code == 3
    commands = commands_of(refused.stderr)
    assert bool(commands) == (name == "windows without a hop")
    for words in commands:
        done = invoke(*words[1:])
        assert done.exit_code == 0, (words, done.stderr)


def test_inspect_names_the_commands(tmp_path: Path) -> None:
    """With the inputs that were fixed there."""
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    onnx.save(MODELS["a control input"][0], path)
    shown = invoke("inspect", path, "--set", "gain=2.5")
    report: dict[str, Any] = json.loads(
        invoke("inspect", path, "--set", "gain=2.5", "--json").stdout
    )
    found = commands_of(shown.stdout)
    assert found == [shlex.split(command) for command in report["commands"]]
    assert len(found) == 3
    for words in found:
        assert invoke(*words[1:], "--target", "reference", "-o", artifact).exit_code == 0


def test_in_python_the_commands_are_there_too() -> None:
    """As a property of the error, which can be pickled; a model without a file has no name."""
    with pytest.raises(OtherModeError) as caught:
        compile_model(MODELS["bidirectional"][0], target="reference")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.commands == caught.value.commands
    assert str(copy) == str(caught.value)
    assert all(line.startswith("edgelstm compile MODEL.onnx --target") for line in copy.commands)


def test_what_no_mode_takes_names_no_command() -> None:
    """A backward layer of one frame: windows would be another function."""
    made = model([lstm("x", ("out",), direction="reverse")], {"x": (1, 1, 3)})
    with pytest.raises(OtherModeError) as caught:
        compile_model(made, target="reference")
    assert not caught.value.commands
    assert "--mode window" not in str(caught.value)
