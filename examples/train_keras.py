"""Trains the same classifier with Keras and exports it to ONNX: examples/gait_keras.onnx.

pip install tensorflow-cpu tf2onnx
python examples/train_keras.py
"""

from __future__ import annotations

import keras
import numpy as np

from recordings import HERE, RECORDINGS, trial

FEATURES, HIDDEN, CLASSES = 6, 24, 5
TRIALS, EPOCHS, PIECE = 80, 25, 200


def main() -> None:
    """Train on simulated people, tell how many frames of two others are right, export."""
    keras.utils.set_random_seed(0)
    people = [trial(seed) for seed in range(TRIALS)]
    pieces = [
        (samples[start : start + PIECE], labels[start : start + PIECE])
        for samples, _, labels in people
        for start in range(0, len(samples) - PIECE, PIECE // 2)
    ]
    x = np.stack([samples for samples, _ in pieces])
    y = np.stack([labels for _, labels in pieces])
    frames = x.reshape(-1, FEATURES)
    scale = 1 / frames.std(0)
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES), name="imu"),
            # The exporter turns the constants of a Normalization layer into inputs of the model.
            keras.layers.Rescaling(scale.tolist(), (-frames.mean(0) * scale).tolist()),
            keras.layers.LSTM(HIDDEN, return_sequences=True),
            keras.layers.Dense(CLASSES, activation="softmax", name="phase"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=32, epochs=EPOCHS, verbose=0)
    for name, seed in RECORDINGS.items():
        samples, _, labels = trial(seed)
        found = model.predict(samples[None], verbose=0)[0].argmax(-1)
        print(f"{name}: {100 * np.mean(found == labels):.1f} % of {len(labels)} frames right")
    # With the batch left open; an LSTM over a batch fixed to 1 is exported as a Loop.
    model.export(str(HERE / "gait_keras.onnx"), format="onnx", verbose=False)


if __name__ == "__main__":
    main()
