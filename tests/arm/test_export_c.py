"""`export-c`: a C project that compiles without a warning and computes what it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgelstm.cli import cli
from edgelstm.errors import TargetUnavailableError
from edgelstm.output_folder import LIST_NAME
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.archive import static_library
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.c_export.names import identifiers, words
from edgelstm_compiler.c_export.pieces import ExportOptions
from edgelstm_compiler.c_export.project import export_project
from edgelstm_compiler.demo import MODEL_PATH
from tests.arm.c_project import build, export, run, tool
from tests.models import CellCase, cell_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

NO_ALLOCATION = r"""
#include <stddef.h>
#include <stdio.h>
#include "tug_phase.h"
static int calls;
void *malloc(size_t size);
void *malloc(size_t size) { (void)size; ++calls; return NULL; }
static tug_phase_state state;
static tug_phase_scratch scratch;
int main(void)
{
    static tug_phase_input in[50];
    static tug_phase_output out[50];
    int before;
    tug_phase_init(&state, &scratch);
    before = calls;
    if (tug_phase_run(tug_phase_weights, &state, &scratch, in, out, 50) != 0) return 2;
    return calls != before;
}
"""
DAMAGED = r"""
#include "tug_phase.h"
static tug_phase_state state;
static tug_phase_scratch scratch;
int main(void)
{
    ((uint32_t *)(void *)tug_phase_weights)[5] ^= 4u;
    return tug_phase_selftest(&state, &scratch) == -1 ? 0 : 1;
}
"""


@pytest.fixture(scope="module")
def demo():
    return compile_model(MODEL_PATH, check=False, rate_hz=100.0)


@pytest.mark.parametrize("isa", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_the_example_passes_under_sanitizers(demo, isa: str, tmp_path: Path) -> None:
    """Address and undefined-behaviour sanitizers, known outputs from NumPy, two streams."""
    from edgelstm.engines.native import code_variants

    if any(v.isa == isa and v.obstacle() for v in code_variants(demo.container)):
        pytest.skip(f"this CPU has no {isa}")
    folder = export(demo, tmp_path, model=MODEL_PATH, isa=isa)
    program = build(folder, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    assert run(program).stdout == "tug_phase: PASS\n"


def test_valgrind_finds_nothing(demo, tmp_path: Path) -> None:
    """No read of memory that nobody wrote, no write beyond a block."""
    valgrind = tool("valgrind")
    program = build(export(demo, tmp_path), "-O1", "-g")
    done = run(valgrind, "-q", "--error-exitcode=9", program)
    assert "PASS" in done.stdout


def test_nothing_is_allocated(demo, tmp_path: Path) -> None:
    """A malloc of our own is never called."""
    folder = export(demo, tmp_path)
    main = tmp_path / "example" / "no_malloc.c"
    main.write_text(NO_ALLOCATION)
    run(build(folder, "-O1", "-fno-builtin", main=main))


def test_damaged_weights_are_noticed(demo, tmp_path: Path) -> None:
    """The checksum of the self-test."""
    folder = export(demo, tmp_path)
    source = folder / "tug_phase_weights.c"
    source.write_text(source.read_text().replace("const uint32_t", "uint32_t", 1))
    header = folder / "tug_phase.h"
    header.write_text(header.read_text().replace("extern const uint32_t", "extern uint32_t"))
    main = tmp_path / "example" / "damaged.c"
    main.write_text(DAMAGED)
    run(build(folder, "-O1", main=main))


def test_the_header_is_cpp_too(demo, tmp_path: Path) -> None:
    """C++11 and C++20, pedantic, no warning."""
    folder = export(demo, tmp_path)
    source = tmp_path / "main.cpp"
    source.write_text(
        '#include "tug_phase.h"\nint main() { return sizeof(tug_phase_state) != 512; }'
    )
    for standard in ("c++11", "c++20"):
        flags = (f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
        run(tool("c++"), *flags, f"-I{folder}", source, "-o", tmp_path / "cpp")
        run(tmp_path / "cpp")


def test_cmake_builds_and_tests_it(demo, tmp_path: Path) -> None:
    """The generated CMakeLists.txt, from configure to ctest."""
    cmake = tool("cmake")
    folder = export(demo, tmp_path / "c")
    run(cmake, "-S", folder, "-B", tmp_path / "build", "-DCMAKE_BUILD_TYPE=Release")
    run(cmake, "--build", tmp_path / "build")
    assert "PASS" in run(tmp_path / "build" / "tug_phase_example").stdout


def test_two_models_in_one_program(demo, tmp_path: Path) -> None:
    """Names of different models never meet."""
    other = compile_model(
        cell_model(CellCase(op="GRU", hidden=9, features=4, steps=1)), name="other", check=False
    )
    export(demo, tmp_path / "one")
    export(other, tmp_path / "two")
    main = tmp_path / "main.c"
    main.write_text(
        '#include "tug_phase.h"\n#include "other.h"\n'
        "static tug_phase_state a; static tug_phase_scratch b;\n"
        "static other_state c; static other_scratch d;\n"
        "int main(void) { return tug_phase_selftest(&a, &b) || other_selftest(&c, &d); }\n"
    )
    sources = [*(tmp_path / "one").glob("*.c"), *(tmp_path / "two").glob("*.c"), main]
    objects = [*(tmp_path / "one").glob("*.o"), *(tmp_path / "two").glob("*.a")]
    includes = [f"-I{tmp_path / 'one'}", f"-I{tmp_path / 'two'}"]
    run(tool("cc"), *includes, *sources, *objects, "-o", tmp_path / "both")
    run(tmp_path / "both")


def test_call_mode(tmp_path: Path) -> None:
    """A whole sequence as one call: no state, several outputs, whole numbers among the inputs."""
    case = CellCase(op="LSTM", hidden=7, features=3, steps=4, batch=2, sequence_lens="input")
    artifact = compile_model(cell_model(case), mode="call", name="sequence", check=False)
    program = build(export(artifact, tmp_path), "-O1", "-fsanitize=address,undefined")
    assert run(program).stdout == "sequence: PASS\n"


def test_the_command(demo, tmp_path: Path) -> None:
    """`edgelstm export-c` writes the files it names and accounts for flash and RAM."""
    demo.save(tmp_path / "demo.edgelstm")
    arguments = ["export-c", str(tmp_path / "demo.edgelstm"), "-o", str(tmp_path / "c"), "--json"]
    done = CliRunner().invoke(cli, [*arguments, "--model", str(MODEL_PATH), "--steps", "4"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    found = {str(path.relative_to(tmp_path / "c")) for path in (tmp_path / "c").rglob("*.*")}
    assert set(report["files"]) == found - {LIST_NAME}
    memory = report["memory"]
    assert memory["ram"] == memory["state"] + memory["scratch"]
    parts = ("text", "rodata", "weights", "state_init")
    assert memory["flash"] == sum(memory[part] for part in parts)
    assert report["selftest"]["steps"] == 4


def test_flash_and_ram_of_a_microcontroller(tmp_path: Path) -> None:
    """What is reported is what stands in the object; `inspect` prints it too."""
    artifact = compile_model(MODEL_PATH, target="cortex-m4", check=False)
    golden = record_golden(artifact, None, 2, MODEL_PATH)
    memory = export_project(artifact, tmp_path, golden).memory
    assert memory.stack is not None
    assert memory.stack < 1024
    assert memory.text < 12 * 1024
    artifact.save(tmp_path / "m4.edgelstm")
    shown = CliRunner().invoke(cli, ["inspect", str(tmp_path / "m4.edgelstm")])
    assert "on cortex-m4, bytes:" in shown.output
    assert str(memory.text) in shown.output


def test_what_cannot_be_exported_is_refused(demo, tmp_path: Path) -> None:
    """A target without machine code, and an instruction set that is not there."""
    reference = compile_model(MODEL_PATH, target="reference", check=False)
    golden = record_golden(reference, None, 1, None)
    with pytest.raises(TargetUnavailableError, match="cortex-m4"):
        export_project(reference, tmp_path, golden)
    with pytest.raises(TargetUnavailableError, match="x86-64-v2"):
        export_project(demo, tmp_path, golden, ExportOptions(isa="z80"))


def test_names_and_words() -> None:
    """Any name of a tensor becomes an identifier, all different; bytes become words."""
    found = identifiers(["/lstm/Y:0", "lstm.Y.0", "class", "7", "", "größe"])
    assert found == ["lstm_Y_0", "lstm_Y_0_2", "v_class", "v_7", "value", "gr__e"]
    assert words(b"\1\2\3\4\5") == "    0x04030201u, 0x00000005u"
    assert words(b"") == "    0x00000000u"


@pytest.mark.parametrize("member", ["a.o", "a_name_of_some_length.o"])
def test_archive(member: str, tmp_path: Path) -> None:
    """Binutils read our archives."""
    ar = tool("cc").replace("/cc", "/ar")
    path = tmp_path / "x.a"
    path.write_bytes(static_library(member, b"odd", ["f", "g"]))
    assert run(ar, "t", path).stdout.strip() == member
    assert run(ar, "p", path).stdout == "odd"
