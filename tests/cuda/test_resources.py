"""What the compiled kernels take: registers, spills, names, bytes that repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgelstm.engines.cuda_cubin import read_cubin
from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.target import find_target
from edgelstm_targets.numba_cuda.toolkit import toolkit_version
from tests import models

DEMO = Path(__file__).parents[2] / "compiler/edgelstm_compiler/demo/tug_phase.onnx"


def layers(op: str, count: int, features: int, hidden: int) -> Any:
    """Recurrent layers over free time."""
    return models.stacked_model(
        ops=(op,) * count, features=features, hidden=hidden, steps=None, head="sequence"
    )


GATES: dict[str, tuple[Any, int]] = {
    "demo": (DEMO, 128),
    "LSTM (9, 64)": (layers("LSTM", 1, 9, 64), 144),
    "GRU (9, 64)": (layers("GRU", 1, 9, 64), 144),
    "LSTM (9, 64) x 2": (layers("LSTM", 2, 9, 64), 128),
    "LSTM (64, 256)": (layers("LSTM", 1, 64, 256), 168),
}
"""Models, and registers that no thread of theirs exceeds."""


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("demo", "sm_87"),
        ("LSTM (9, 64)", "sm_87"),
        ("LSTM (9, 64)", "sm_90"),
        ("GRU (9, 64)", "sm_87"),
        ("LSTM (9, 64) x 2", "sm_90"),
        ("LSTM (64, 256)", "sm_90"),
    ],
)
def test_registers_and_spills(name: str, chip: str) -> None:
    """No kernel spills, none takes more registers than its gate, none more than the block has."""
    model, most = GATES[name]
    artifact = compile_model(model, target=f"cuda:{chip}", check=False)
    for kernel in artifact.manifest["target"]["facts"]["kernels"]:
        if kernel["form"] != "cubin":
            continue
        found = read_cubin(bytes(artifact.container.section(kernel["section"])))
        resources = found[kernel["entry"]]
        assert resources.frame_bytes == 0
        assert resources.registers <= most, (kernel["entry"], resources.registers)
        assert resources.registers * kernel["threads"] <= 65536
        # Six addresses and two counts, as the engine packs them.
        assert [size for _, size in resources.parameters] == [8] * 6 + [4] * 2


def test_bytes_repeat_and_names_are_stable() -> None:
    """Compiling twice gives the same artifact; kernels bear the model's name."""
    model = layers("GRU", 1, 3, 8)
    first = compile_model(model, target="cuda:sm_87", check=False)
    second = compile_model(model, target="cuda:sm_87", check=False)
    assert first.container.digest == second.container.digest
    assert [k["entry"] for k in first.manifest["target"]["facts"]["kernels"]] == ["tiny_many"] * 2


@pytest.mark.slow
def test_one_artifact_for_all_chips() -> None:
    """`cuda:all` holds a cubin for every chip that the wheels know, and PTX of the newest."""
    artifact = compile_model(layers("LSTM", 1, 3, 8), target="cuda:all", check=False)
    sections = [name for name in artifact.sizes if name.startswith(("cubin/", "ptx/"))]
    chips = ["sm_86", "sm_87", "sm_89", "sm_90"]
    chips += ["sm_100", "sm_120"] if toolkit_version() == 13 else []
    assert sorted(sections) == sorted(
        [*(f"cubin/{chip}/many" for chip in chips), f"ptx/{chips[-1]}/many"]
    )


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("cuda:sm_70", {}, "knows no chip 'sm_70'"),
        ("cuda", {"cuda": "11"}, "expected 12 or 13"),
        ("cuda", {"shape": "ring"}, "expected auto, block"),
        ("cuda", {"colour": "red"}, "no option 'colour'"),
        ("cuda:sm_120", {"cuda": "12"}, "needs CUDA 13"),
        ("host:fast", {}, "no option 'variant'"),
    ],
)
def test_options_that_are_refused(target: str, options: dict[str, str], words: str) -> None:
    """Unknown chips, versions and options are named."""
    with pytest.raises(CapabilityError, match=words):
        find_target(target).options(options)


def test_wheels_of_another_version_are_refused() -> None:
    """A cubin of one CUDA is never passed for one of another."""
    other = "12" if toolkit_version() == 13 else "13"
    with pytest.raises(TargetUnavailableError, match=f"not {other}"):
        compile_model(
            layers("LSTM", 1, 3, 8),
            target="cuda:sm_87",
            target_options={"cuda": other},
            check=False,
        )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (models.lstm_model(steps=None, batch=2), "session\\(streams=N\\)"),
    ],
)
def test_models_that_are_refused(model: Any, words: str) -> None:
    """What has no device code is refused by the node's name."""
    with pytest.raises(CapabilityError, match=words):
        compile_model(model, target="cuda:sm_87", check=False)


def test_windows_are_refused() -> None:
    """Mode call is for other targets."""
    with pytest.raises(CapabilityError, match="no mode 'call'"):
        compile_model(models.lstm_model(), target="cuda:sm_87", mode="call", check=False)
