"""Known inputs and outputs are numbers that every sound device reproduces."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgelstm.errors import StreamError
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.golden import record_golden
from tests.unit.selfcheck.checked_models import one_layer

LOG = [helper.make_node("Log", ["x"], ["fed"])]
NEVER = [
    helper.make_node("Abs", ["x"], ["a"]),
    helper.make_node("Neg", ["a"], ["n"]),
    helper.make_node("Sqrt", ["n"], ["fed"]),
]


@pytest.mark.parametrize("check", [True, False])
def test_random_input_within_the_domain(check: bool) -> None:
    """Whether the self-check told the domain or not, no output is NaN."""
    model = one_layer("LSTM", before=LOG, frames="fed")
    golden = record_golden(compile_model(model, target="reference", check=check), None, 16, None)
    assert golden.steps == 16
    assert np.isfinite(np.frombuffer(golden.outputs, np.float32)).all()


def test_a_recording_outside_the_domain_is_refused() -> None:
    """The error names the output, the step and what to do."""
    artifact = compile_model(one_layer("LSTM", before=LOG, frames="fed"), target="reference")
    frames = {"x": np.full((5, 6), -1, np.float32)}
    with pytest.raises(StreamError, match=r"no known outputs.*--input"):
        record_golden(artifact, frames, 5, None)


def test_no_domain_is_refused() -> None:
    """Zero is the only number this model takes, and it is found; below it nothing is."""
    more = {"one": np.asarray(np.float32(1))}
    before = [*NEVER[:2], helper.make_node("Sub", ["n", "one"], ["d"])]
    before.append(helper.make_node("Sqrt", ["d"], ["fed"]))
    never = one_layer("LSTM", before=before, frames="fed", more=more)
    with pytest.raises(StreamError, match="no known outputs"):
        record_golden(compile_model(never, target="reference"), None, 16, None)
    zero = compile_model(one_layer("LSTM", before=NEVER, frames="fed"), target="reference")
    assert np.isfinite(np.frombuffer(record_golden(zero, None, 4, None).outputs, np.float32)).all()
