"""Instructions, counted: what a step costs on ARM, and that the counting itself is right."""

from __future__ import annotations

import pytest

from edgelstm.errors import ArtifactFormatError, InternalError, TargetUnavailableError
from edgelstm_compiler import compile_model
from edgelstm_compiler.elf import AARCH64, ARM
from edgelstm_compiler.emulation import machine
from edgelstm_compiler.emulation.image import Image, read_image
from edgelstm_compiler.emulation.kernel import EmulatedKernel, count_cost, emulator_of
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests.models import CellCase, cell_model, stacked_model
from tests.quantized_models import recordings, step_graph

pytestmark = pytest.mark.tvm
unicorn = pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
pytest.importorskip("tvm")

MARGIN = 1.05
# target: instructions per multiply-accumulate of an LSTM of 64 inputs and 128 units as they are,
# and what they must stay below in any case.
COUNTS = {
    "aarch64": (0.537, 0.60),
    "rpi4": (0.500, 0.60),
    "rpi5": (0.500, 0.60),
    "armv7": (0.760, 0.90),
    "cortex-m4": (3.84, 4.0),
    "cortex-m7": (2.81, 3.0),
}


@pytest.fixture(scope="module")
def large():
    return cell_model(CellCase(op="LSTM", hidden=128, features=64, steps=1))


@pytest.mark.parametrize("target", COUNTS)
def test_a_step_costs_no_more_than_it_did(target: str, large) -> None:
    """Within five percent of what is written here, and below the bound."""
    cost = count_cost(compile_model(large, target=target, mode="stream", check=False))
    known, bound = COUNTS[target]
    assert cost.per_mac <= min(known * MARGIN, bound), cost


@pytest.mark.parametrize(("target", "text"), [("cortex-m4", 2614), ("cortex-m7", 2402)])
def test_float_code_of_microcontrollers_is_small(target: str, text: int) -> None:
    """An LSTM of 6 inputs and 32 units: no more than five percent above what it is."""
    model = cell_model(CellCase(op="LSTM", hidden=32, features=6, steps=1))
    artifact = compile_model(model, target=target, mode="stream", check=False)
    (facts,) = artifact.manifest["target"]["facts"]["isas"]
    assert facts["text_bytes"] + facts["rodata_bytes"] <= MARGIN * text


@pytest.mark.parametrize(("target", "skipped"), [("aarch64", 0), ("armv7", 0), ("cortex-m4", 0.05)])
def test_counting_blocks_counts_instructions(target: str, skipped: float) -> None:
    """The quick way of counting gives what a hook on every instruction gives.

    Unicorn's hook leaves out what Thumb's IT skips; it takes a cycle, so we count it.
    """
    artifact = compile_model(
        cell_model(CellCase(hidden=9, steps=1)), target=target, mode="stream", check=False
    )
    kernel = EmulatedKernel(artifact)
    emulated, name = kernel._machine, f"{artifact.name}_step"
    places = [kernel._weights, kernel._state, kernel._scratch]
    places += [emulated.allocate(4096), emulated.allocate(4096)]
    emulated.call(name, places, count=True)
    quick = emulated.instructions
    seen = [0]

    def enter(uc: object, address: int, size: int, user: object) -> None:
        seen[0] += 1

    emulated._uc.hook_add(unicorn.UC_HOOK_CODE, enter)
    emulated.call(name, places)
    assert seen[0] > 100
    assert seen[0] <= quick <= seen[0] * (1 + skipped)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_the_stack_bound_holds(target: str, op: str) -> None:
    """A step never goes deeper than the manifest says, seen by painting; and nearly that deep."""
    model = cell_model(CellCase(op=op, hidden=20, features=6, steps=1))
    artifact = compile_model(model, target=target, mode="stream", check=False)
    bound = artifact.manifest["target"]["facts"]["isas"][0]["stack_bytes"]
    used = count_cost(artifact).stack_bytes
    assert used <= bound <= 2 * used + 64


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33"])
@pytest.mark.parametrize("head", [None, "sequence"])
def test_the_stack_bound_of_integers_holds(target: str, head: str | None) -> None:
    """The same for int8-full: frames aligned for vectors, and frames too large for one operand."""
    model = stacked_model(ops=("LSTM", "GRU"), hidden=20, features=6, steps=None, head=head)
    artifact = compile_model(
        model,
        target=target,
        mode="stream",
        quantize="int8-full",
        calibration=recordings(step_graph(model), frames=40),
        quantize_options=QuantizeOptions(integer_io=True),
        check=False,
    )
    bound = artifact.manifest["target"]["facts"]["isas"][0]["stack_bytes"]
    used = count_cost(artifact).stack_bytes
    assert bound is not None
    assert used <= bound <= 2 * used + 64


def test_without_unicorn_the_message_says_what_to_install(monkeypatch) -> None:
    """One line with the extra's name."""
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    artifact = compile_model(
        cell_model(CellCase(hidden=4, steps=1)), target="reference", mode="stream", check=False
    )
    with pytest.raises(TargetUnavailableError, match="no machine code"):
        EmulatedKernel(artifact)
    assert not machine.emulator_version()
    with pytest.raises(TargetUnavailableError, match=r"compiler\[emulate\]"):
        machine.Machine(Image(ARM, ((0, b""),), {}), emulator_of("cortex-m4"))


def test_code_that_goes_astray_is_an_error_and_no_crash() -> None:
    """An undefined instruction ends the call, not the process."""
    image = Image(AARCH64, ((0, b"\0" * 64),), {"f": 0})
    with pytest.raises(InternalError, match="emulated code failed"):
        machine.Machine(image, emulator_of("aarch64")).call("f", [])


@pytest.mark.parametrize("cpu", ["cortex-m85", "cortex-m23", "armv6"])
def test_an_unlisted_processor_is_no_other_processor(cpu: str) -> None:
    """Its code would run on the wrong instruction set; the message lists those that there are."""
    with pytest.raises(TargetUnavailableError, match=f"no emulated {cpu}; there is .*cortex-m4"):
        emulator_of(cpu)


def test_code_for_another_processor_than_its_name_says_is_refused() -> None:
    """A section `code/cortex-m4` with AArch64 code is damaged, and does not run."""
    image = Image(AARCH64, ((0, b"\0" * 64),), {"f": 0})
    with pytest.raises(ArtifactFormatError, match=r"the code is for aarch64, .* says arm"):
        machine.Machine(image, emulator_of("cortex-m4"))


def test_x86_needs_no_emulation() -> None:
    """Code of the host is refused by name."""
    artifact = compile_model(
        cell_model(CellCase(hidden=4, steps=1)),
        target="host",
        target_options={"cpu": "generic"},
        mode="stream",
        check=False,
    )
    assert read_image(artifact.container.section("code/x86-64-v2")).symbols
    with pytest.raises(TargetUnavailableError, match="ARM code"):
        EmulatedKernel(artifact)
