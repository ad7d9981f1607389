"""Keras layers through TensorFlow and through the torch backend: exact in call mode.

pip install './compiler[exporters]' && pytest tests/exporters -n 0

or with a Python of its own: EDGELSTM_KERAS_PYTHON=PATH. They are written as the door for `.keras`
files writes them.
"""

from __future__ import annotations

import pytest

from edgelstm.errors import ModelError
from edgelstm_compiler.driver import compile_model
from tests.exporters.exported import Exported, check_call, python_with, run_script
from tests.exporters.keras_layers import MODELS, ON_TORCH

pytestmark = pytest.mark.slow

TARGETS = ["reference", pytest.param("host", marks=pytest.mark.tvm)]

REFUSED = {"stateful LSTM", "dropout in training"}
"""Layers whose exports hold a state, or random numbers."""

EXPORTED = [name for name in MODELS if name not in REFUSED]


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """All models, exported by TensorFlow."""
    python = python_with("EDGELSTM_KERAS_PYTHON", "keras", "tensorflow", "tf2onnx")
    environment = {"KERAS_BACKEND": "tensorflow"}
    folder = tmp_path_factory.mktemp("tensorflow")
    return run_script(python, "keras_layers.py", folder, list(MODELS), environment)


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Models exported by Keras' torch backend."""
    python = python_with("EDGELSTM_KERAS_PYTHON", "keras", "torch", "onnxscript")
    environment = {"KERAS_BACKEND": "torch"}
    folder = tmp_path_factory.mktemp("torch")
    return run_script(python, "keras_layers.py", folder, list(ON_TORCH), environment)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", EXPORTED)
def test_through_tensorflow(name: str, target: str, tensorflow: Exported) -> None:
    """Call mode computes what Keras computes."""
    check_call(tensorflow, name, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ON_TORCH)
def test_through_torch(name: str, target: str, torch: Exported) -> None:
    """Call mode computes what Keras computes."""
    check_call(torch, name, target)


def test_a_state_that_stays_is_refused(tensorflow: Exported) -> None:
    """Keras itself does not export it, with a batch that its exporter leaves open."""
    assert "stateful LSTM" in tensorflow.failures


def test_random_numbers_are_refused_by_name(tensorflow: Exported) -> None:
    """Dropout that stays on in inference."""
    with pytest.raises(ModelError, match="StatelessRandomUniformV2"):
        compile_model(tensorflow.path("dropout in training"), target="reference", mode="call")
