"""Run by the user's Python, which has Keras: a .keras or .h5 file to ONNX, with what it computes.

    python keras_worker.py MODEL.keras MODEL.onnx PROBES.npz

Knows nothing of edgelstm. Exit code 3: a package is missing; its name is the last line. Exit code
4: the model cannot be exported as what it is; the last line says why, and what to do.
"""

import importlib
import importlib.util
import os
import sys
from typing import Any


def main() -> int:
    """Export, and compute the model at two lengths."""
    source, target, probes = sys.argv[1:4]
    if importlib.util.find_spec("tensorflow") is not None:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    elif importlib.util.find_spec("torch") is not None:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        # By name: other Pythons have them than the one that checks this file.
        np, keras = map(importlib.import_module, ("numpy", "keras"))
    except ImportError as error:
        print(error.name)
        return 3
    model = keras.saving.load_model(source, compile=False)
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            print(
                f"its layer {layer.name!r} is stateful, and an export holds the state of one "
                "moment: build the model with stateful=False and load the weights; a stream of "
                "edgelstm carries states by itself"
            )
            return 4
    rng = np.random.default_rng(0)
    arrays = {}
    trials = []
    for trial, length in enumerate((5, 8)):
        given = [
            rng.standard_normal(_shape(x.shape, length)).astype("float32")
            if "float" in str(x.dtype)
            else np.zeros(_shape(x.shape, length), str(x.dtype))
            for x in model.inputs
        ]
        try:
            found = model(given if len(given) > 1 else given[0])
        except Exception as error:
            if trial == 0:
                raise
            print(f"at another length: {error}", file=sys.stderr)
            continue
        trials.append((given, keras.tree.flatten(found)))
    # Keras exports only what was called once.
    export(keras, model, target)
    for trial, (given, found) in enumerate(trials):
        arrays.update({f"in{trial}_{k}": x for k, x in enumerate(given)})
        arrays.update(
            {f"out{trial}_{k}": keras.ops.convert_to_numpy(y) for k, y in enumerate(found)}
        )
    np.savez(probes, names=np.array(_output_names(keras, model)), **arrays)
    return 0


def _output_names(keras: Any, model: Any) -> list[str]:
    """The keys of a dictionary of outputs, else the layers that give them."""
    struct = getattr(model, "_outputs_struct", None)
    if isinstance(struct, dict):
        return sorted(struct)
    return [x._keras_history.operation.name for x in keras.tree.flatten(model.outputs)]


def export(keras: Any, model: Any, target: str) -> None:
    """Write a model that was called once as ONNX.

    Tensors that a layer holds beside its weights, as Normalization does, would become inputs of
    the file without a value: as arrays they are constants.
    """
    for layer in model._flatten_layers():
        for name, value in list(vars(layer).items()):
            if keras.ops.is_tensor(value) and not isinstance(value, keras.Variable):
                setattr(layer, name, keras.ops.convert_to_numpy(value))
    model.export(target, format="onnx", verbose=False)


def _shape(shape: Any, length: int) -> list[int]:
    """A batch of one, and so many frames where that is free."""
    extents = list(shape)
    return [
        1 if extents[0] is None else extents[0],
        *(length if n is None else n for n in extents[1:]),
    ]


if __name__ == "__main__":
    sys.exit(main())
