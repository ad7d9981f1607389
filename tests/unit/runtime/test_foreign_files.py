"""Files of other tools are told by their bytes, whatever they are called."""

from __future__ import annotations

import io
import json
import pickle
import shlex
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgelstm.foreign_files import recognize, recognize_bytes
from edgelstm.install_hint import install_hint
from tests.models import lstm_model
from tests.unit.runtime.command_line import invoke


def archive(*names: str) -> bytes:
    """A ZIP of files with these names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"content")
    return buffer.getvalue()


def field(number: int, content: bytes | int) -> bytes:
    """One protobuf field below number 16 or above, of a short content."""
    wire = 0 if isinstance(content, int) else 2
    key = number << 3 | wire
    head = bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])
    if isinstance(content, int):
        return head + bytes([content])
    return head + bytes([len(content)]) + content


def npz() -> bytes:
    """Two arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2), b=np.zeros(3))
    return buffer.getvalue()


def safetensors() -> bytes:
    """One tensor of one float."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
KINDS: dict[str, tuple[bytes, str, str]] = {
    "torch": (archive("m/data.pkl", "m/data/0", "m/version"), "PyTorch checkpoint", "torch.onnx"),
    "torchscript": (
        archive("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"),
        "TorchScript",
        "torch.jit.load",
    ),
    "torch.export": (archive("m/archive_format", "m/models/model.json"), "exported", "torch.onnx"),
    "old torch": (
        pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"\x80\x02M\xe9\x03.",
        "PyTorch checkpoint",
        "torch.onnx.export",
    ),
    "keras": (
        archive("metadata.json", "config.json", "model.weights.h5"),
        "Keras model",
        "m.export('model.onnx', format='onnx')",
    ),
    "h5": (HDF5 + b"model_config", "Keras model in HDF5", "keras.saving.load_model"),
    "h5 weights": (HDF5 + b"layer_names", "weights without the layers", "export it there"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(40), "TensorFlow Lite", "--saved-model FOLDER"),
    "saved_model.pb": (
        field(1, 1) + field(2, field(1, b"serve")),
        "SavedModel",
        "python -m tf2onnx.convert --saved-model",
    ),
    "frozen graph": (
        field(1, field(1, b"x") + field(2, b"Placeholder")),
        "frozen TensorFlow graph",
        "tf2onnx",
    ),
    "core ml": (field(1, 4) + field(2, b"\n\x00") + field(502, b"\n\x00"), "Core ML", "torch.onnx"),
    "safetensors": (safetensors(), "safetensors", "weights without the layers"),
    "pickle": (pickle.dumps({"coef": [1.0]}), "pickle", "only their program"),
    "ort": (b"\x18\x00\x00\x00ORTM" + bytes(40), ".ort", "ONNX file"),
    "executorch": (b"\x18\x00\x00\x00ET12" + bytes(40), "ExecuTorch", "torch.onnx.export"),
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(40), "GGUF", "weights without"),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "Git LFS pointer",
        "git lfs pull",
    ),
    "html": (b"\n<!DOCTYPE html><html></html>", "web page", "download"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(120), "NumPy array", "not a model"),
    "npz": (npz(), "NPZ", "not a model"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(40), "compressed", "unpack"),
    "zip": (archive("gait.onnx", "readme.txt"), "gait.onnx", "unpack"),
    "keras json": (b'{"class_name": "Sequential", "config": {}}', "Keras", "without weights"),
    "json": (b'{"a": 1}', "JSON", "not a model"),
}


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_compile_and_inspect_name_it(kind: str, suffix: str, tmp_path: Path) -> None:
    """One error with what it is and the way out, the same whatever the file's name says."""
    data, name, way = KINDS[kind]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(data)
    for words in (("compile", path, "-o", tmp_path / "x.edgelstm"), ("inspect", path)):
        result = invoke(*words)
        assert result.exit_code == 3, result.stderr
        assert name in result.stderr
        assert way in result.stderr
        assert result.stderr.startswith("error: ")
    assert not (tmp_path / "x.edgelstm").exists()


@pytest.mark.parametrize("kind", ["torch", "h5", "tflite", "keras"])
def test_run_names_it_too(kind: str, tmp_path: Path) -> None:
    """Whoever runs a model file that was never compiled is told what it is."""
    path = tmp_path / "model.edgelstm"
    path.write_bytes(KINDS[kind][0])
    result = invoke("run", path)
    assert result.exit_code == 5
    assert KINDS[kind][1] in result.stderr


def test_folders(tmp_path: Path) -> None:
    """A SavedModel and an .mlpackage are folders; others are no models."""
    makers: dict[str, Callable[[Path], object]] = {
        "SavedModel": lambda p: (p / "saved_model.pb").write_bytes(b"\x08\x01"),
        "Core ML": lambda p: (p / "Manifest.json").write_text("{}"),
        "a folder": lambda p: (p / "readme.txt").write_text(""),
    }
    for name, make in makers.items():
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        make(folder)
        for words in (("compile", folder, "-o", tmp_path / "x"), ("inspect", folder)):
            result = invoke(*words)
            assert result.exit_code == 3, result.stderr
            assert name in result.stderr


def test_an_onnx_model_of_another_name(tmp_path: Path) -> None:
    """A sound ONNX model is compiled and inspected whatever it is called."""
    path = tmp_path / "model.pt"
    onnx.save(lstm_model(steps=None, outputs=("Y",)), path)
    made = invoke("compile", path, "-o", tmp_path / "x.edgelstm", "--target", "reference")
    assert made.exit_code == 0, made.stderr
    assert "streams: yes" in invoke("inspect", path).stdout


def test_what_nobody_knows() -> None:
    """Noise and ONNX are not taken for something else, nor is anything broken an exception."""
    assert recognize_bytes(np.random.default_rng(0).bytes(2000)) is None
    assert recognize_bytes(lstm_model(outputs=("Y",)).SerializeToString()) is None
    assert recognize("no such file") is None
    rng = np.random.default_rng(1)
    for data, _, _ in KINDS.values():
        for size in (1, 4, 9, len(data) // 2):
            recognize_bytes(data[:size])
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 0xFF
        recognize_bytes(bytes(damaged))


def test_a_cut_archive_is_said(tmp_path: Path) -> None:
    """The end of a ZIP holds its list of files: without it the file is cut off."""
    data = KINDS["torch"][0]
    assert "cut off" in (recognize_bytes(data[: len(data) // 2]) or "")


def test_install_hint_names_the_checkout() -> None:
    """The package is on no index: the command is one that works in any folder."""
    root, compiler, targets = shlex.split(install_hint("compiler", "emulate", "cuda"))[2:]
    assert compiler == f"{root}/compiler[emulate]"
    assert targets == f"{root}/targets[cuda]"
    for folder in (root, f"{root}/compiler", f"{root}/targets"):
        assert (Path(folder) / "pyproject.toml").is_file()
    assert shlex.split(install_hint("sign"))[2:] == [f"{root}[sign]"]
