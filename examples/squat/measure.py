"""How well squats that the model was not trained on are counted, timed and judged.

python examples/squat/measure.py --data DIR

The last fifth of the rows of each kind was held out of training; by their order probably other
people's, but the data set has no numbers of people. They are streamed one behind the other with
rests between them, through the compiled model and the decoding of `squat.toml`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from squats import RATE_HZ, Sequence, Squats, read_squats, sequence

from edgelstm.artifact import Artifact
from edgelstm.io.decoding.events import REPETITION
from edgelstm.io.decoding.model_decoder import make_decoder, output_table
from edgelstm.io.decoding.recipe import recipe_from_json
from edgelstm_compiler.driver import compile_model

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Figures:
    """What was found.

    Args:
        squats: how many there were.
        counted: how many of them were told once, and nothing else while they lasted.
        told: how many repetitions were told at all.
        duration_errors_s: of those counted, from the beginning of DOWN to the end of UP.
        quality: told and given, of those counted.
        is_correct: of those counted.
    """

    squats: int
    counted: int
    told: int
    duration_errors_s: NDArray[np.float64]
    quality: NDArray[np.float64]
    is_correct: NDArray[np.bool_]

    @property
    def correlation(self) -> float:
        """Pearson's, of quality told and given."""
        return float(np.corrcoef(self.quality.T)[0, 1])

    @property
    def area(self) -> float:
        """How often a correct squat is judged better than an incorrect one (area under the ROC)."""
        right, wrong = self.quality[self.is_correct, 0], self.quality[~self.is_correct, 0]
        above = right[:, None] > wrong[None]
        return float((above + 0.5 * (right[:, None] == wrong[None])).mean())


def compiled(target: str = "reference") -> Artifact:
    """The model; its description stands beside it."""
    return compile_model(FOLDER / "squat.onnx", target=target, check=False)


def measure(artifact: Artifact, squats: Squats, seed: int = 7) -> Figures:
    """Stream all squats once, and compare."""
    drawn = sequence(squats, np.random.default_rng(seed))
    told = _repetitions(artifact, drawn)
    errors, quality, is_correct = [], [], []
    for number, first, behind in drawn.squats:
        moving = first + np.flatnonzero(drawn.labels[first:behind])
        begin, end = moving[0] / RATE_HZ, (moving[-1] + 1) / RATE_HZ
        own = [each for each in told if each[0] < end and begin < each[1]]
        if len(own) == 1:
            start, stop, score = own[0]
            errors.append(abs((stop - start) - (end - begin)))
            quality.append((score, float(squats.quality[number])))
            is_correct.append(bool(squats.is_correct[number]))
    return Figures(
        len(drawn.squats),
        len(errors),
        len(told),
        np.array(errors),
        np.array(quality),
        np.array(is_correct),
    )


def _repetitions(artifact: Artifact, drawn: Sequence) -> list[tuple[float, float, float]]:
    """Beginning, end and score of each that was told."""
    recipe = recipe_from_json(artifact.description.decoding, "squat.toml")
    decoder = make_decoder(recipe, artifact.signature, artifact.description, RATE_HZ)
    with artifact.session() as session:
        outputs = session.run(drawn.frames)
    assert isinstance(outputs, dict)
    n = len(drawn.frames)
    table = output_table(outputs, artifact.signature)
    events = [
        *decoder.feed(table, np.arange(n) / RATE_HZ, np.arange(n), np.ones(n, bool)).events,
        *decoder.finish().events,
    ]
    return [
        (event.data["start"], event.data["start"] + event.data["duration_s"], event.data["score"])
        for event in events
        if event.kind == REPETITION
    ]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parts = read_squats(parser.parse_args().data)
    artifact = compiled()
    for name, squats in (("held out", parts.held_out), ("trained", parts.trained)):
        found = measure(artifact, squats)
        error = found.duration_errors_s
        print(
            f"{name}: {found.counted} of {found.squats} squats counted once ({found.told} told); "
            f"duration: error {np.median(error):.2f} s median, {np.quantile(error, 0.95):.2f} s "
            f"95 %; quality: error {np.abs(np.diff(found.quality)).mean():.3f}, correlation "
            f"{found.correlation:.2f}, correct above incorrect in {found.area:.1%}"
        )


if __name__ == "__main__":
    main()
