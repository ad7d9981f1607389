"""Operators that draw random numbers: refused, with the way out."""

from __future__ import annotations

from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops.elementwise import ImportFunction
from edgelstm_compiler.onnx_import.source import OnnxNode, Results


def refuse_random(node: OnnxNode) -> Results:
    """RandomNormal, RandomUniform, their Like forms, Bernoulli, Multinomial.

    Raises:
        RefusedError: always.
    """
    raise RefusedError(
        "it draws random numbers, and no two runs would agree: export the model in evaluation mode "
        "(model.eval()), or draw the numbers outside and give them to it as an input"
    )


RANDOM: dict[str, ImportFunction] = dict.fromkeys(
    (
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    ),
    refuse_random,
)
"""By operator."""
