"""The ARM targets: what they take and refuse, and what stands in their artifacts."""

from __future__ import annotations

import pytest

from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm_compiler import compile_model, elf
from edgelstm_compiler.target import Target, find_target, target_names
from edgelstm_targets.processors.table import PROCESSORS
from tests.models import CellCase, cell_model
from tests.quantized_models import recordings, step_graph

pytestmark = pytest.mark.tvm

FLOAT = [n for n, each in PROCESSORS.items() if each.has_float and each.machine != "x86_64"]


@pytest.fixture(scope="module")
def model():
    return cell_model(CellCase(op="LSTM", hidden=5, features=3, steps=2))


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_processor_is_a_target(name: str) -> None:
    """Found under its name, and never raising when asked."""
    target = find_target(name)
    assert isinstance(target, Target)
    assert target.name == name
    assert target.probe().reason
    assert name in target_names()


@pytest.mark.parametrize("name", FLOAT)
def test_artifact(name: str, model) -> None:
    """Code that wants nothing and shows its functions, and the object that it was linked from."""
    pytest.importorskip("tvm")
    artifact = compile_model(model, target=name, name="net", check=False)
    for isa in PROCESSORS[name].sets:
        code = bytes(artifact.container.section(f"code/{isa.name}"))
        loose = bytes(artifact.container.section(f"object/{isa.name}"))
        everywhere = ("net_run", "net_step")
        shown = everywhere if isa.is_bare else ("net_read", "net_run", "net_sizes", "net_step")
        assert elf.exports(code) == shown
        assert not elf.undefined(code, dynamic=True)
        assert not elf.undefined(loose)
        visible = {s.name for s in elf.symbols(loose, dynamic=False) if not s.is_local}
        assert visible == set(shown)
        assert elf.memory_of_code(loose)["data_bytes"] == 0


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m3"])
def test_floats_without_a_unit_are_refused(name: str, model) -> None:
    """By the name of the layer, with what to do."""
    pytest.importorskip("tvm")
    with pytest.raises(CapabilityError, match=r"LSTM .* f32.*int8-full.*cortex-m4"):
        compile_model(model, target=name, check=False)


def test_options_are_refused(model) -> None:
    """There are none."""
    with pytest.raises(CapabilityError, match="no option 'cpu'"):
        compile_model(model, target="rpi4", target_options={"cpu": "native"})


@pytest.mark.parametrize(
    ("name", "says"),
    [("rpi4", "code for aarch64"), ("armv7", "code for arm"), ("cortex-m4", "export-c")],
)
def test_loading_elsewhere_says_why(name: str, says: str, model, monkeypatch) -> None:
    """A session on a machine of another kind is refused."""
    pytest.importorskip("tvm")
    monkeypatch.setattr("edgelstm.engines.native.machine", lambda: "x86_64")
    artifact = compile_model(model, target=name, check=False)
    with pytest.raises(TargetUnavailableError, match=says):
        artifact.session()


def test_the_right_machine_takes_the_best_code(model, monkeypatch) -> None:
    """By the hwcaps that the kernel names; code for microcontrollers is never taken."""
    pytest.importorskip("tvm")
    from edgelstm.engines.native import choose_variant, code_variants

    monkeypatch.setattr("edgelstm.engines.native.machine", lambda: "arm")
    flags = {"neon", "vfpv3"}
    monkeypatch.setattr("edgelstm.engines.native.cpu_flags", lambda: frozenset(flags))
    variants = code_variants(compile_model(model, target="armv7", check=False).container)
    assert choose_variant(variants).isa == "armv7-neon"
    flags |= {"vfpv4", "idiva"}
    assert choose_variant(variants).isa == "armv7-vfpv4"
    variants = code_variants(compile_model(model, target="cortex-m4", check=False).container)
    with pytest.raises(TargetUnavailableError, match="microcontroller"):
        choose_variant(variants)


def _sections(model, target: str, scheme: str) -> list[str]:
    given = recordings(step_graph(model), frames=40)
    options = {} if scheme == "fp32" else {"quantize": scheme, "calibration": given}
    artifact = compile_model(model, target=target, check=False, **options)
    return [entry["section"] for entry in artifact.manifest["target"]["facts"]["isas"]]


@pytest.mark.parametrize("scheme", ["fp32", "w8", "int8", "int8-full"])
def test_dot_products_where_they_are_of_use(scheme: str) -> None:
    """Code for dot products of bytes stands in front, in artifacts that have such products."""
    pytest.importorskip("tvm")
    model = cell_model(CellCase(op="LSTM", hidden=5, features=3, steps=None))
    best = ["code/aarch64-dotprod"] if scheme.startswith("int8") else []
    assert _sections(model, "aarch64", scheme) == [*best, "code/aarch64"]


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        ("fp asimd evtstrm crc32 cpuid", "aarch64"),
        ("fp asimd crc32 atomics fphp asimdhp asimdrdm asimddp", "aarch64-dotprod"),
        ("fp asimd asimddp i8mm sve2 svei8mm bf16", "aarch64-dotprod"),
    ],
)
def test_hwcaps_choose(flags: str, isa: str, monkeypatch) -> None:
    """A Raspberry Pi 4, a Raspberry Pi 5, a processor with i8mm."""
    pytest.importorskip("tvm")
    from edgelstm.engines.native import choose_variant, code_variants

    model = cell_model(CellCase(op="GRU", hidden=5, features=3, steps=None))
    given = recordings(step_graph(model), frames=40)
    artifact = compile_model(
        model, target="aarch64", quantize="int8-full", calibration=given, check=False
    )
    monkeypatch.setattr("edgelstm.engines.native.machine", lambda: "aarch64")
    monkeypatch.setattr("edgelstm.engines.native.cpu_flags", lambda: frozenset(flags.split()))
    assert choose_variant(code_variants(artifact.container)).isa == isa


@pytest.mark.parametrize("target", ["armv7", "cortex-m4"])
def test_what_needs_a_library_is_refused(target: str) -> None:
    """64-bit division has no instruction on 32-bit processors: refused by name, no link error."""
    pytest.importorskip("tvm")
    from onnx import TensorProto, helper

    kind = helper.make_tensor_value_info("x", TensorProto.INT64, ["T", 4])
    by = helper.make_tensor("by", TensorProto.INT64, [4], [3, 5, 7, 9])
    node = helper.make_node("Div", ["x", "by"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.INT64, ["T", 4])
    graph = helper.make_graph([node], "division", [kind], [output], [by])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(CapabilityError, match="avoid 64-bit integers"):
        compile_model(model, target=target, mode="call", shapes={"x": (1, 4)}, check=False)
