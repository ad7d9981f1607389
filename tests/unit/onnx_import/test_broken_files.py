"""Every broken file gives one clear error: no traceback of others, no crash, no explosion."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgelstm.errors import ModelError
from edgelstm_compiler.onnx_import import import_graph, read_model
from tests.models import lstm_model, stacked_model
from tests.unit.onnx_import.broken_models import CASES


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error(case: str, tmp_path: Path) -> None:
    """The class, the words, one exit code, and nothing of onnx or protobuf in the message."""
    broken = CASES[case]
    with np.errstate(all="ignore"):
        made = broken.make(lstm_model(outputs=("Y",)))
    path = tmp_path / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    (tmp_path / "short.bin").write_bytes(bytes(10))
    (tmp_path / "weights.data").write_bytes(bytes(10_000))
    with pytest.raises(broken.error, match=broken.match) as caught:
        import_graph(read_model(path), broken.shapes)
    assert type(caught.value) is broken.error
    assert caught.value.exit_code == 3
    for foreign in ("Traceback", "google.protobuf", "onnx_cpp2py", "\n\n"):
        assert foreign not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """The path and the reason."""
    with pytest.raises(ModelError, match=r"cannot read the model .*nowhere\.onnx: No such file"):
        read_model(tmp_path / "nowhere.onnx")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    """The path and the reason."""
    with pytest.raises(ModelError, match=r"cannot read the model .*it is a folder"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["bad\0name.onnx", "x" * 5000])
def test_impossible_path(name: str) -> None:
    """A path that no file can have."""
    with pytest.raises(ModelError, match="cannot read the model"):
        read_model(name)


def test_external_data_without_a_path(tmp_path: Path) -> None:
    """Bytes of a model whose weights lie elsewhere: give the path."""
    path = tmp_path / "model.onnx"
    onnx.save(lstm_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelError, match=r"lies in the file 'w.bin'.*give the path"):
        read_model(path.read_bytes())
    found = import_graph(read_model(path)).constants
    assert {constant.value.name for constant in found} == {"W", "R", "B"}
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"'w\.bin', and there is no such file"):
        read_model(path)


def test_external_data_without_a_length(tmp_path: Path) -> None:
    """The shape says how much of the file is the tensor's; others may stand behind it."""
    path = tmp_path / "model.onnx"
    onnx.save(lstm_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    whole = import_graph(read_model(path))
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        kept = [entry for entry in tensor.external_data if entry.key != "length"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
    path.write_bytes(model.SerializeToString())
    found = import_graph(read_model(path))
    for a, b in zip(whole.constants, found.constants, strict=True):
        assert np.array_equal(a.data, b.data)


def test_sound_sources_agree(tmp_path: Path) -> None:
    """A path, its text, its bytes and the model itself: one model, one hash."""
    model = stacked_model()
    data = model.SerializeToString(deterministic=True)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    read = [read_model(source) for source in (path, str(path), data, model)]
    assert len({item.sha256 for item in read}) == 1
    assert [item.path for item in read] == [path, path, None, None]
    assert {item.opset for item in read} == {17}
    assert read[0].name == "model"
    assert read[2].name == "tiny"
    assert str(read[0].inputs[0]) == "X: f32[5, 1, 3]"


@pytest.mark.slow
def test_random_damage(tmp_path: Path) -> None:
    """Thousands of damaged files: a graph or a ModelError, nothing else."""
    rng = random.Random(2)
    sound = [lstm_model().SerializeToString(), stacked_model(head="sequence").SerializeToString()]
    refused = 0
    for _ in range(4000):
        data = bytearray(rng.choice(sound))
        for _ in range(rng.choice((1, 2, 8))):
            place = rng.randrange(len(data))
            kind = rng.random()
            if kind < 0.7:
                data[place] = rng.randrange(256)
            elif kind < 0.85:
                del data[place : place + rng.randrange(1, 9)]
            else:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
        try:
            import_graph(read_model(bytes(data)))
        except ModelError:
            refused += 1
    assert refused > 2000
