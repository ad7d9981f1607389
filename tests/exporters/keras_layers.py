"""Small Keras models, one for each layer of the field; run as a program, their ONNX files.

    KERAS_BACKEND=tensorflow python keras_layers.py FOLDER NAME...

Writes NAME.onnx and NAME.npz (in0, in1, ..., out0, ...) for every model, and failures.json: what
Keras itself does not export. Run by a Python that has Keras; of edgelstm it takes what the door for
Keras files runs there.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FRAMES, FEATURES, HIDDEN = 8, 4, 5

DOORS = Path(__file__).parents[2] / "compiler" / "edgelstm_compiler" / "doors"


def chain(*names: Any, shape: tuple[int | None, ...] = (FRAMES, FEATURES)) -> Callable[[Any], Any]:
    """Layers behind one another, each a function of the module of layers."""

    def build(keras: Any) -> Any:
        return keras.Sequential([keras.Input(shape), *(make(keras.layers) for make in names)])

    return build


def branches(build: Callable[[Any, Any], Any], *shapes: tuple[int | None, ...]) -> Any:
    """A model with inputs of these shapes, and what a function makes of them."""

    def made(keras: Any) -> Any:
        inputs = [keras.Input(shape) for shape in shapes or ((FRAMES, FEATURES),)]
        found = build(keras.layers, inputs[0] if len(inputs) == 1 else inputs)
        return keras.Model(inputs, found)

    return made


def lstm(*, frames: bool = True, **options: Any) -> Callable[[Any], Any]:
    return lambda layers: layers.LSTM(HIDDEN, return_sequences=frames, **options)


def gru(*, frames: bool = True, **options: Any) -> Callable[[Any], Any]:
    return lambda layers: layers.GRU(HIDDEN, return_sequences=frames, **options)


def layer(kind: str, *args: Any, **options: Any) -> Callable[[Any], Any]:
    return lambda layers: getattr(layers, kind)(*args, **options)


def head() -> Callable[[Any], Any]:
    return layer("Dense", 3, activation="softmax")


def both_ways(kind: str, merge: str, *, frames: bool = True) -> Callable[[Any], Any]:
    return lambda layers: layers.Bidirectional(
        getattr(layers, kind)(HIDDEN, return_sequences=frames), merge_mode=merge
    )


def over_time(kind: str, *args: Any, **options: Any) -> Callable[[Any], Any]:
    return lambda layers: layers.TimeDistributed(getattr(layers, kind)(*args, **options))


def states(layers: Any, x: Any) -> Any:
    return layers.LSTM(HIDDEN, return_sequences=True, return_state=True)(x)


def stacked_cells(layers: Any) -> Any:
    return layers.RNN([layers.LSTMCell(HIDDEN), layers.GRUCell(3)], return_sequences=True)


def encoder_decoder(layers: Any, x: Any) -> Any:
    source, given = x
    _, h, c = layers.LSTM(HIDDEN, return_state=True)(source)
    y = layers.LSTM(HIDDEN, return_sequences=True)(given, initial_state=[h, c])
    return layers.Dense(3)(y)


def attention(kind: str) -> Callable[[Any, Any], Any]:
    def build(layers: Any, x: Any) -> Any:
        y = layers.LSTM(HIDDEN, return_sequences=True)(x)
        return layers.GlobalAveragePooling1D()(getattr(layers, kind)()([y, y]))

    return build


def heads(*, causal: bool) -> Callable[[Any, Any], Any]:
    def build(layers: Any, x: Any) -> Any:
        y = layers.LSTM(HIDDEN, return_sequences=True)(x)
        return layers.MultiHeadAttention(2, 3)(y, y, use_causal_mask=causal)

    return build


def merges(layers: Any, x: Any) -> Any:
    a, b = layers.Dense(HIDDEN)(x), layers.Dense(HIDDEN, activation="gelu")(x)
    both = [layers.Add()([a, b]), layers.Multiply()([a, b]), layers.Maximum()([a, b])]
    both += [layers.Subtract()([a, b]), layers.Average()([a, b]), layers.Minimum()([a, b])]
    return layers.LSTM(HIDDEN)(layers.Concatenate()(both))


def dot(layers: Any, x: Any) -> Any:
    a, b = x
    return layers.Dot(axes=1, normalize=True)([layers.GRU(HIDDEN)(a), layers.GRU(HIDDEN)(b)])


def normalized(keras: Any) -> Any:
    """With statistics of its own, as `adapt` stores them."""
    numpy = importlib.import_module("numpy")
    stored = keras.layers.Normalization()
    stored.adapt(numpy.random.default_rng(3).normal(2.0, 3.0, (20, FRAMES, FEATURES)))
    return keras.Sequential([keras.Input((FRAMES, FEATURES)), stored, lstm()(keras.layers)])


def recurrent_noise(layers: Any, x: Any) -> Any:
    """What does something in training only."""
    y = layers.GaussianNoise(0.3)(layers.Dropout(0.3)(x))
    y = layers.LSTM(HIDDEN, dropout=0.2, recurrent_dropout=0.2, return_sequences=True)(y)
    y = layers.SpatialDropout1D(0.2)(layers.AlphaDropout(0.1)(y))
    return layers.GaussianDropout(0.2)(layers.ActivityRegularization(0.1)(y))


def always_training(layers: Any, x: Any) -> Any:
    return layers.LSTM(HIDDEN)(layers.Dropout(0.5)(x, training=True))


def functions(layers: Any, x: Any) -> Any:
    y = layers.PReLU()(layers.Dense(HIDDEN)(x))
    y = layers.LeakyReLU()(layers.ELU()(y))
    for name in ("softsign", "softplus", "silu", "hard_sigmoid", "selu", "relu6", "mish"):
        y = layers.Dense(HIDDEN, activation=name)(y)
    return layers.Softmax(axis=1)(y)


def shapes_of(layers: Any, x: Any) -> Any:
    y = layers.ZeroPadding1D((2, 1))(layers.Permute((2, 1))(x))
    y = layers.Cropping1D((1, 1))(y)
    y = layers.Reshape((-1, 4))(y)
    return layers.Dense(3)(layers.Flatten()(layers.LSTM(HIDDEN, return_sequences=True)(y)))


CNN = (FRAMES, 6, 6, 2)

MODELS: Mapping[str, Callable[[Any], Any]] = {
    "LSTM": chain(lstm(), head()),
    "LSTM last": chain(lstm(frames=False), head()),
    "LSTM free frames": chain(lstm(), head(), shape=(None, FEATURES)),
    "LSTM two layers": chain(lstm(), lstm(frames=False), head()),
    "LSTM states": branches(states),
    "LSTM backwards": chain(lstm(go_backwards=True)),
    "LSTM unrolled": chain(lstm(unroll=True), head()),
    "LSTM other activations": chain(
        lstm(activation="relu", recurrent_activation="hard_sigmoid", use_bias=False)
    ),
    "GRU": chain(gru(), head()),
    "GRU free frames": chain(gru(), head(), shape=(None, FEATURES)),
    "GRU reset before": chain(gru(reset_after=False), head()),
    "GRU unrolled": chain(gru(unroll=True, frames=False), head()),
    "SimpleRNN": chain(layer("SimpleRNN", HIDDEN, return_sequences=True)),
    "SimpleRNN relu": chain(layer("SimpleRNN", HIDDEN, activation="relu")),
    "Bidirectional LSTM": chain(both_ways("LSTM", "concat"), head()),
    "Bidirectional GRU": chain(both_ways("GRU", "sum", frames=False), head()),
    "RNN of cells": chain(stacked_cells),
    "Masking": chain(layer("Masking"), lstm(frames=False)),
    "Embedding": chain(layer("Embedding", 20, 6), gru(frames=False), shape=(FRAMES,)),
    "Embedding with mask": chain(
        layer("Embedding", 20, 6, mask_zero=True), lstm(frames=False), shape=(FRAMES,)
    ),
    "Conv1D causal": chain(layer("Conv1D", 6, 3, padding="causal", activation="relu"), lstm()),
    "Conv1D, MaxPooling1D": chain(
        layer("Conv1D", 6, 3, padding="same", strides=2), layer("MaxPooling1D", 2), lstm()
    ),
    "SeparableConv1D": chain(layer("SeparableConv1D", 6, 3, padding="same"), gru(frames=False)),
    "DepthwiseConv1D": chain(layer("DepthwiseConv1D", 3, dilation_rate=2), lstm()),
    "Conv1DTranspose": chain(layer("Conv1DTranspose", 3, 3, strides=2), lstm()),
    "AveragePooling1D, UpSampling1D": chain(
        layer("AveragePooling1D", 2), lstm(), layer("UpSampling1D", 2)
    ),
    "GlobalAveragePooling1D": chain(lstm(), layer("GlobalAveragePooling1D"), head()),
    "GlobalMaxPooling1D": chain(lstm(), layer("GlobalMaxPooling1D"), head()),
    "TimeDistributed Dense": chain(lstm(), over_time("Dense", 3)),
    "CNN and LSTM": chain(
        over_time("Conv2D", 3, 3, activation="relu"),
        over_time("MaxPooling2D", 2),
        over_time("Flatten"),
        lstm(frames=False),
        head(),
        shape=CNN,
    ),
    "CNN, separable": chain(
        layer("Conv2D", 4, 3, strides=2, padding="same", use_bias=False),
        layer("BatchNormalization"),
        layer("ReLU", 6.0),
        layer("DepthwiseConv2D", 3, padding="same"),
        layer("SeparableConv2D", 5, 3),
        layer("GlobalAveragePooling2D", keepdims=True),
        layer("Reshape", (1, 5)),
        lstm(frames=False),
        shape=(12, 12, 2),
    ),
    "ConvLSTM1D": chain(
        layer("ConvLSTM1D", 3, 3, padding="same", return_sequences=True), shape=(4, 6, 2)
    ),
    "ConvLSTM2D": chain(layer("ConvLSTM2D", 3, 3, padding="same"), shape=(4, 5, 5, 2)),
    "LayerNormalization": chain(lstm(), layer("LayerNormalization"), head()),
    "BatchNormalization": chain(layer("BatchNormalization"), lstm(), head()),
    "GroupNormalization": chain(layer("Dense", 6), layer("GroupNormalization", 2), lstm()),
    "UnitNormalization": chain(layer("UnitNormalization"), gru()),
    "Normalization": normalized,
    "Rescaling": chain(layer("Rescaling", 0.5, 0.1), lstm()),
    "EinsumDense": chain(layer("EinsumDense", "btf,fg->btg", (FRAMES, 6), bias_axes="g"), lstm()),
    "Attention": branches(attention("Attention")),
    "AdditiveAttention": branches(attention("AdditiveAttention")),
    "MultiHeadAttention": branches(heads(causal=False)),
    "MultiHeadAttention causal": branches(heads(causal=True)),
    "RepeatVector": chain(
        lstm(frames=False), layer("RepeatVector", FRAMES), lstm(), over_time("Dense", FEATURES)
    ),
    "encoder, decoder": branches(encoder_decoder, (FRAMES, FEATURES), (6, 3)),
    "merging layers": branches(merges),
    "Dot": branches(dot, (FRAMES, FEATURES), (6, 3)),
    "activations": branches(functions),
    "layout": branches(shapes_of),
    "dropout and noise": branches(recurrent_noise),
    "stateful LSTM": lambda keras: keras.Sequential(
        [keras.Input(batch_shape=(1, FRAMES, FEATURES)), lstm(stateful=True)(keras.layers)]
    ),
    "dropout in training": branches(always_training),
}
"""By name."""

ON_TORCH = (
    *("LSTM", "LSTM last", "GRU", "GRU reset before", "SimpleRNN", "Bidirectional LSTM"),
    *("Conv1D causal", "TimeDistributed Dense", "Embedding", "ConvLSTM1D", "RepeatVector"),
    *("MultiHeadAttention", "MultiHeadAttention causal", "GlobalAveragePooling1D"),
)
"""Those that the torch backend is tried with."""


def given(model: Any, numpy: Any) -> list[Any]:
    """An input of each: a batch of one; whole numbers are numbers of words, one of them zero."""
    rng = numpy.random.default_rng(1)
    found = []
    for item in model.inputs:
        shape = [1, *(FRAMES if n is None else n for n in item.shape[1:])]
        if "words" in item.name or len(shape) == 2:
            x = rng.integers(1, 20, shape).astype("float32")
            x[:, -2:] = 0
        else:
            x = rng.standard_normal(shape).astype("float32")
        found.append(x)
    return found


def main() -> int:
    """Export those that were named."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    sys.path.insert(0, str(DOORS))
    numpy, keras, door = map(importlib.import_module, ("numpy", "keras", "keras_worker"))
    failures = {}
    for name in names:
        keras.utils.set_random_seed(0)
        try:
            model = MODELS[name](keras)
            rng = numpy.random.default_rng(2)
            # No bias stays zero, no statistic one: an exporter that forgets them would be right.
            model.set_weights(
                [
                    w + abs(rng.normal(0, 0.1, w.shape)).astype(w.dtype)
                    if w.dtype.kind == "f"
                    else w
                    for w in model.get_weights()
                ]
            )
            x = given(model, numpy)
            found = model(x[0] if len(x) == 1 else x)
            shown = found if isinstance(found, list | tuple) else [found]
            shown = [keras.ops.convert_to_numpy(y) for y in shown]
            door.export(keras, model, str(folder / f"{name}.onnx"))
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
            continue
        arrays = {f"in{k}": data for k, data in enumerate(x)}
        numpy.savez(folder / f"{name}.npz", **arrays, **{f"out{k}": y for k, y in enumerate(shown)})
    (folder / "failures.json").write_text(json.dumps(failures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
