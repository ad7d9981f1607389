"""What a file that is neither an ONNX model nor an artifact really is, told by its bytes.

The name of a file says nothing here: a `.pt` may be a Keras file, and a Git LFS pointer may be
called `model.onnx`. Nothing is unpacked or executed; of archives only the list of names is read.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

_HEAD_BYTES = 1 << 16
_MOST_BYTES = 1 << 31

TORCH = (
    "it is a {0} and holds no ONNX graph. Export it in the program that builds the model, with "
    "weights loaded:\n"
    "  torch.onnx.export(model.eval(), (torch.zeros(1, 50, 6),), 'model.onnx', dynamo=False,\n"
    "      input_names=['x'], output_names=['y'], dynamic_axes={{'x': {{1: 'time'}}}})\n"
    "(50 frames of 6 features here: put in your own input; it needs: pip install onnx)"
)
KERAS = (
    "it is a {0} and holds no ONNX graph. Export it with Keras 3 on TensorFlow "
    "(pip install keras tensorflow tf2onnx onnx):\n"
    '  KERAS_BACKEND=tensorflow python -c "import keras; m = keras.saving.load_model({1}, '
    "compile=False); m(m.inputs); m.export('model.onnx', format='onnx')\"\n"
    "(LSTM layers become ONNX LSTM, GRU and SimpleRNN loops: edgelstm streams all three)"
)
LOWERED = (
    "it is a {0} and no ONNX model. Its recurrent layers are lowered to TensorFlow's own "
    "operators, which tf2onnx does not turn back: export the Keras model or the SavedModel that it "
    "was made from (pip install tf2onnx tensorflow):\n"
    "  python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"
)
WEIGHTS = (
    "it is a {0}: weights without the layers they belong to. Build the model in Python, load them, "
    "and export it there: torch.onnx.export(...) or Keras' model.export('model.onnx', "
    "format='onnx')"
)
CONVERT = (
    "it is a {0} and no ONNX model. Convert it (pip install tf2onnx tensorflow):\n"
    "  python -m tf2onnx.convert {1} --output model.onnx"
)


def recognize(path: str | os.PathLike[str]) -> str | None:
    """What stands at a path, and how an ONNX model is made of it.

    Returns:
        A sentence that begins with "it is", or None where it is not recognized.
    """
    place = Path(path)
    try:
        if place.is_dir():
            return _folder(place)
        if not place.is_file() or place.stat().st_size > _MOST_BYTES:
            return None
        with place.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if head[:4] == b"PK\x03\x04":
                return _archive(file, place)
            if head[:8] == _HDF5:
                return _hdf5(head + file.read(), place)
        return recognize_bytes(head, place)
    except (OSError, ValueError):
        return None


def recognize_bytes(data: bytes, path: Path | None = None) -> str | None:
    """The same for the bytes of a file (its first 64 KiB are enough for all but archives)."""
    place = path if path is not None else Path("FILE")
    if data[:4] == b"PK\x03\x04":
        return _archive(BytesIO(data), place)
    if data[:8] == _HDF5:
        return _hdf5(data, place)
    for matches, say in _KINDS:
        if matches(data):
            return say(place)
    return None


_HDF5 = b"\x89HDF\r\n\x1a\n"
_LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")


def _folder(place: Path) -> str | None:
    if (place / "saved_model.pb").is_file():
        return CONVERT.format("TensorFlow SavedModel", f"--saved-model {_quoted(place)}")
    if (place / "Manifest.json").is_file():
        return _core_ml(place)
    if (place / "config.json").is_file() and list(place.glob("*.safetensors")):
        return WEIGHTS.format("folder of safetensors weights")
    return "it is a folder, not a file"


def _archive(file: BytesIO | object, place: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:  # type: ignore[arg-type]
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return "it is a ZIP archive that is cut off or damaged: copy it again"
    inner = {name.partition("/")[2] or name for name in names}
    if {"config.json", "model.weights.h5"} <= set(names):
        return KERAS.format("Keras model", repr(str(place)))
    if "data.pkl" in inner or "data.pkl" in names:
        is_script = any(name.startswith("code/") for name in inner) or "constants.pkl" in inner
        if is_script:
            return TORCH.format("TorchScript model (torch.jit.save)").replace(
                "Export it in the program that builds the model, with weights loaded",
                "Export the Python module it was scripted from, or the file itself with "
                f"model = torch.jit.load({str(place)!r})",
            )
        return TORCH.format("PyTorch checkpoint (torch.save)")
    if "archive_format" in inner or any("exported_program" in name for name in names):
        return TORCH.format("PyTorch exported program (torch.export.save)")
    if any(name.endswith("Manifest.json") for name in names):
        return _core_ml(place)
    onnx = [name for name in names if name.endswith(".onnx")]
    if onnx:
        return f"it is a ZIP archive that holds {onnx[0]}: unpack it first"
    if names and all(name.endswith(".npy") for name in names):
        return "it is a NumPy archive (NPZ) of arrays: data, not a model"
    return "it is a ZIP archive, not a model: unpack it first"


def _hdf5(data: bytes, place: Path) -> str:
    if b"model_config" in data:
        return KERAS.format("Keras model in HDF5", repr(str(place)))
    if b"layer_names" in data or b"keras_version" in data or b"vars" in data:
        return WEIGHTS.format("Keras weights file in HDF5")
    return "it is an HDF5 file, not a model that edgelstm reads: export it to ONNX"


def _core_ml(place: Path) -> str:
    del place
    return (
        "it is a Core ML model, which cannot be turned back into ONNX: export the PyTorch or Keras "
        "model that it was made from (torch.onnx.export(...), or Keras' "
        "model.export('model.onnx', format='onnx'))"
    )


def _quoted(place: Path) -> str:
    text = str(place)
    return text if all(c.isalnum() or c in "/._-+" for c in text) else "'" + text + "'"


def _at(offset: int, *marks: bytes) -> Callable[[bytes], bool]:
    return lambda data: any(data[offset : offset + len(mark)] == mark for mark in marks)


def _is_safetensors(data: bytes) -> bool:
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size < 1 << 27 or data[8:9] != b"{":
        return False
    text = data[8 : 8 + size]
    return b'"dtype"' in text or b'"data_offsets"' in text or b"__metadata__" in text


def _is_pickle(data: bytes) -> bool:
    return data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _is_text(*words: bytes) -> Callable[[bytes], bool]:
    def matches(data: bytes) -> bool:
        return data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(words)

    return matches


def _is_keras_json(data: bytes) -> bool:
    start = data[:512].lstrip()
    return start.startswith(b"{") and (
        b'"class_name"' in data or b'"modelTopology"' in data or b'"layers-model"' in data
    )


def _is_json(data: bytes) -> bool:
    if not data[:64].lstrip().startswith((b"{", b"[")):
        return False
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def fields_of(data: bytes, most: int = 64) -> list[tuple[int, int, bytes]]:
    """Top-level protobuf fields (number, wire type, first bytes); empty where it is no protobuf."""
    found: list[tuple[int, int, bytes]] = []
    at = 0
    while at < len(data) and len(found) < most:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if at < 0 or number == 0:
            return []
        if wire == 0:
            value, at = _varint(data, at)
            content = value.to_bytes(10, "little")
        elif wire == 2:
            size, at = _varint(data, at)
            content = data[at : at + min(size, 64)] if at >= 0 else b""
            at = at + size if at >= 0 else at
        elif wire in (1, 5):
            content, at = b"", at + (8 if wire == 1 else 4)
        else:
            return []
        if at < 0:
            return []
        found.append((number, wire, content))
    return found


def is_onnx(data: bytes) -> bool:
    """Whether the beginning of a file is that of an ONNX model: an IR version and a graph."""
    fields = fields_of(data)
    numbers = {number for number, _, _ in fields}
    return (
        any(f[:2] == (1, 0) for f in fields)
        and (7, 2) in {f[:2] for f in fields}
        and max(numbers) < 200
    )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while 0 <= at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    return 0, -1


def _is_core_ml(data: bytes) -> bool:
    fields = fields_of(data)
    numbers = [number for number, _, _ in fields]
    return numbers[:1] == [1] and any(200 <= number < 4000 for number in numbers[1:])


def _is_saved_model(data: bytes) -> bool:
    """`saved_model.pb`: schema version 1, then meta graphs that are tagged `serve`."""
    fields = fields_of(data)
    return fields[:1] == [(1, 0, (1).to_bytes(10, "little"))] and b"serve" in data


def _is_graph_def(data: bytes) -> bool:
    """A TensorFlow GraphDef: nodes, each with its name and operator."""
    first = next(iter(fields_of(data)), (0, 0, b""))
    inner = fields_of(first[2], 2)
    return (
        first[:2] == (1, 2)
        and [number for number, _, _ in inner] == [1, 2]
        and any(word in data for word in (b"Placeholder", b"Const", b"NoOp"))
    )


_KINDS: Sequence[tuple[Callable[[bytes], bool], Callable[[Path], str]]] = (
    (
        _at(0, b"version https://git-lfs"),
        lambda _: "it is a Git LFS pointer, not the file itself: run `git lfs pull` where it is",
    ),
    (
        _is_text(b"<!doctype html", b"<html"),
        lambda _: "it is a web page, not a model: the download gave an error page",
    ),
    (
        _at(0, b"\x89ELSTM\x1a\n"),
        lambda place: (
            "it is a compiled edgelstm artifact already: use it with "
            f"`edgelstm run {_quoted(place)}`, or give the ONNX model it was compiled from"
        ),
    ),
    (_at(4, b"TFL3"), lambda _: LOWERED.format("TensorFlow Lite model")),
    (
        _at(4, b"ORTM"),
        lambda _: (
            "it is a model in ONNX Runtime's own format (.ort): give the ONNX file that it "
            "was made from"
        ),
    ),
    (
        _at(4, b"ET12", b"ET13"),
        lambda _: TORCH.format("ExecuTorch program (.pte)"),
    ),
    (_at(0, b"GGUF"), lambda _: WEIGHTS.format("GGUF file")),
    (_at(0, _LEGACY_TORCH), lambda _: TORCH.format("PyTorch checkpoint (torch.save)")),
    (_at(0, b"\x93NUMPY"), lambda _: "it is a NumPy array (NPY): data, not a model"),
    (
        _at(0, b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd"),
        lambda _: "it is a compressed file: unpack it first",
    ),
    (_is_safetensors, lambda _: WEIGHTS.format("safetensors file")),
    (
        _is_pickle,
        lambda _: WEIGHTS.format("Python pickle").replace(
            "weights without the layers they belong to", "objects that only their program can read"
        ),
    ),
    (_is_core_ml, _core_ml),
    (
        _is_saved_model,
        lambda p: CONVERT.format(
            "part of a TensorFlow SavedModel (saved_model.pb)",
            f"--saved-model {_quoted(p.parent)}",
        ),
    ),
    (
        _is_graph_def,
        lambda _: LOWERED.format("frozen TensorFlow graph"),
    ),
    (
        _is_keras_json,
        lambda _: (
            "it is the configuration of a Keras model, without weights: load the whole model "
            "in Keras and call model.export('model.onnx', format='onnx')"
        ),
    ),
    (
        _is_text(b"<?xml", b"<net"),
        lambda _: (
            "it is XML, perhaps an OpenVINO model: export the model that it was made from to ONNX"
        ),
    ),
    (_is_json, lambda _: "it is JSON, not a model"),
)
