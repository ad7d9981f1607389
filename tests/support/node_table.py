"""OPERATORS.md: every operator with its node tests, and every one of them that is refused."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from edgelstm_compiler.onnx_import.folding import FOLDABLE
from edgelstm_compiler.onnx_import.ops import OPERATORS
from edgelstm_compiler.onnx_import.ops.random import RANDOM
from edgelstm_compiler.onnx_import.sequences import SEQUENCE_OPERATORS
from tests.support.node_cases import LOOPS, outcomes, single_operators

FILE = Path(__file__).parents[2] / "compiler/edgelstm_compiler/onnx_import/OPERATORS.md"

HEAD = """# Operators that are imported

Written by `make support-table`; a test fails where it is stale. The node tests are those of
`onnx.backend.test` with one float32 node, on the reference target: none gives another number.
"""

MEANINGS = (
    (r"holds no elements|nothing is left|no inputs", "tensors without elements, or no inputs"),
    (r"element .* is (nan|-?inf)|is not finite", "NaN or infinity as input: a sample is refused"),
    (r"training_mode|training outputs", "training mode"),
    (r"opset \d+, expected", "an opset before 7"),
    (r"random numbers", "random numbers"),
    (r"computed at run time|must be constant", "a shape, length or condition that is computed"),
)
"""Reasons for refusals, said once."""

OF_NO_NETWORK = frozenset(meaning for _, meaning in MEANINGS[:5])


def rendered() -> str:
    """The file."""
    names = sorted({*OPERATORS, *LOOPS, *SEQUENCE_OPERATORS, "If"} - {*RANDOM})
    lines = [HEAD, *_listed(f"{len(names)} operators", names), ""]
    constants = sorted(FOLDABLE - {*names})
    lines += [*_listed("On constants alone", constants), ""]
    cases = {name: outcomes(name) for name in sorted(single_operators())}
    total = sum(map(len, cases.values()))
    passed = sum(list(found.values()).count("passed") for found in cases.values())
    lines += [
        f"{passed} of {total} node tests pass; the others are refused:",
        "",
        "| operator | passed | refused, and why |",
        "|---|---|---|",
    ]
    for name, found in cases.items():
        good = list(found.values()).count("passed")
        if good < len(found):
            lines.append(f"| {name} | {good} of {len(found)} | {_reasons(found)} |")
    return "\n".join(lines) + "\n"


def _listed(what: str, names: Sequence[str]) -> list[str]:
    return textwrap.wrap(f"{what}: {', '.join(names)}.", 138, break_long_words=False)


def shares_of_networks() -> dict[str, float]:
    """By operator which share passes of the cases that a trained network in float32 may hold.

    Left out are tensors without elements, NaN and infinity as samples, training, random numbers,
    and opsets before 7.
    """
    shares = {}
    for name in single_operators():
        found = outcomes(name).values()
        meant = [text for text in found if _reason(text) not in OF_NO_NETWORK]
        if meant:
            shares[name] = meant.count("passed") / len(meant)
    return shares


def _reasons(found: dict[str, str]) -> str:
    by_reason: dict[str, int] = {}
    for text in found.values():
        if text != "passed":
            reason = _reason(text)
            by_reason[reason] = by_reason.get(reason, 0) + 1
    return "; ".join(f"{reason} ({count})" for reason, count in sorted(by_reason.items()))


def _reason(text: str) -> str:
    for pattern, meaning in MEANINGS:
        if re.search(pattern, text):
            return meaning
    last = text.splitlines()[-1].split(": ", 1)[-1]
    return re.sub(r"\s+", " ", last).replace("|", "/")[:110]


def committed() -> str:
    """The file as it stands."""
    return FILE.read_text(encoding="utf-8")


def write() -> None:
    """Write the file."""
    FILE.write_text(rendered(), encoding="utf-8")
