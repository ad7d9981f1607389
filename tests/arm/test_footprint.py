"""Flash and RAM as `inspect` prints them, beside what a linker makes of the exported project."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgelstm.artifact import Artifact
from edgelstm.cli import cli
from edgelstm_compiler import compile_model
from tests.arm.c_project import export, gcc_flags, link_for_board, run, tool
from tests.arm.elf_account import linked_parts, section_sizes, symbol_sizes
from tests.arm.integer_models import in_integers, save
from tests.models import gru_model, lstm_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

# No library and no start-up code: the program is the model, its data, and these lines.
MAIN = r"""
#include "net.h"
net_state state;
net_scratch scratch;
net_input in;
net_output out;
void reset(void);
void reset(void)
{
    net_init(&state, &scratch);
    net_step(net_weights, &state, &scratch, &in, &out);
    net_run(net_weights, &state, &scratch, &in, &out, 1);
    for (;;) {
    }
}
"""
BARE = r"""
ENTRY(reset)
SECTIONS
{
    .text 0 : { *(.text .text.*) *(.rodata .rodata.*) }
    .ARM.exidx : { *(.ARM.exidx*) }
    .data 0x20000000 : { *(.data .data.*) *(.bss .bss.* COMMON) }
}
"""
FLOATS = re.compile(r"__aeabi_(?:c?[fd]|[iul]+2[fd]|h2f)|__\w+[sd]f\d?$|__fix\w*|__float\w*")
"""Names of libgcc's soft floats."""


def link_bare(folder: Path, isa: str) -> tuple[Path, str]:
    """The program, and the linker's map of it."""
    (folder / "bare.c").write_text(MAIN)
    (folder / "bare.ld").write_text(BARE)
    program, listing = folder / "bare.elf", folder / "bare.map"
    sources = [folder / "net.c", folder / "net_weights.c", folder / "bare.c"]
    flags = ("-Os", "-nostdlib", "-ffreestanding", "-std=c99", f"-Wl,-Map={listing}")
    script = f"-T{folder / 'bare.ld'}"
    library = next(folder.glob("lib*_kernels.a"))
    compiler = (tool("arm-none-eabi-gcc"), *gcc_flags(isa))
    run(*compiler, *flags, f"-I{folder}", *sources, library, script, "-o", program)
    return program, listing.read_text()


def inspected(artifact: Artifact, folder: Path) -> dict[str, int]:
    """What the command prints."""
    artifact.save(folder / "net.edgelstm")
    done = CliRunner().invoke(cli, ["inspect", str(folder / "net.edgelstm"), "--json"])
    (device,) = json.loads(done.stdout)["devices"]
    return device


@pytest.mark.parametrize(
    ("scheme", "target"),
    [
        ("fp32", "cortex-m4"),
        ("fp32", "cortex-m7"),
        ("fp32", "cortex-m55"),
        ("int8-full", "cortex-m0plus"),
        ("int8-full", "cortex-m3"),
        ("int8-full", "cortex-m4"),
        ("int8-full", "cortex-m55"),
    ],
)
@pytest.mark.parametrize("first", [None, "constant"])
def test_flash_and_ram_to_the_byte(
    scheme: str, target: str, first: str | None, tmp_path: Path
) -> None:
    """Every byte that the model's files give to a program is in the account, and no other."""
    if scheme == "fp32":
        model = save(lstm_model(hidden=11, features=3, steps=None, initial_h=first), tmp_path)
        artifact = compile_model(model, target=target, name="net", check=False)
    else:
        model = save(gru_model(hidden=9, features=5, steps=None, initial_h=first), tmp_path)
        artifact = in_integers(model, target, name="net")
    printed = inspected(artifact, tmp_path)
    folder = export(artifact, tmp_path / "c", model=model, steps=2)
    program, listing = link_bare(folder, target)
    parts, symbols, sections = linked_parts(listing), symbol_sizes(program), section_sizes(program)
    kernels = parts["net_kernels.o"]
    assert kernels.get(".text", 0) == printed["text"]
    assert sum(size for name, size in kernels.items() if name[:7] == ".rodata") == printed["rodata"]
    assert not set(kernels) & {".data", ".bss", ".ARM.exidx", ".ARM.extab"}
    assert symbols["net_weights"] == printed["weights"]
    assert symbols.get("first_state", 0) == printed["state_init"]
    assert (printed["state_init"] > 0) == (first is not None)
    assert symbols["state"] == printed["state"]
    assert symbols["scratch"] == printed["scratch"]
    parts_of_flash = ("text", "rodata", "weights", "state_init")
    assert printed["flash"] == sum(printed[part] for part in parts_of_flash)
    assert printed["ram"] == symbols["state"] + symbols["scratch"]
    # The whole program besides: init, reset, checksum, the lines above, and padding in between.
    ours = sum(
        symbols[name]
        for name in ("net_init", "net_reset", "net_checksum", "reset")
        if name in symbols
    )
    assert 0 <= sections[".text"] - printed["flash"] - ours < 64 + 4 * 8
    assert ours < 250


@pytest.mark.parametrize("make", [lstm_model, gru_model])
def test_integers_need_no_soft_floats(make, tmp_path: Path) -> None:
    """Cortex-M0+, int8-full without floats: not one name of libgcc's floating point is linked."""
    model = save(make(hidden=10, features=4, steps=None), tmp_path)
    artifact = in_integers(model, "cortex-m0plus", name="net")
    folder = export(artifact, tmp_path / "c", model=model, steps=4)
    assert "Floating point: none at all." in (folder / "net.h").read_text()
    program = link_for_board(folder, "cortex-m0plus", "microbit", None, "-Wl,--no-gc-sections")
    names = [
        line.split()[-1] for line in run(tool("arm-none-eabi-nm"), program).stdout.splitlines()
    ]
    assert "net_step" in names
    assert [name for name in names if FLOATS.match(name)] == []
    run(
        tool("arm-none-eabi-gcc"),
        "-mcpu=cortex-m0plus",
        "-mthumb",
        "-xc",
        "-c",
        "-o",
        tmp_path / "soft.o",
        _source(tmp_path),
    )
    wanted = run(tool("arm-none-eabi-nm"), tmp_path / "soft.o").stdout
    assert any(FLOATS.match(name) for name in wanted.split()), "the search finds soft floats"


def _source(folder: Path) -> Path:
    path = folder / "soft.c"
    path.write_text("float twice(float x) { return x * 3.5f; }\n")
    return path


def _float_functions(folder: Path) -> set[str]:
    """Functions of the model with floating-point instructions, or registers, in them."""
    listing = run(tool("arm-none-eabi-objdump"), "-d", folder / "net_kernels.o").stdout
    found, name = set(), ""
    for line in listing.splitlines():
        if line.endswith(">:"):
            name = line.split("<")[1][:-2]
        fields = line.split("\t")
        if len(fields) > 2 and fields[2].startswith("v"):
            found.add(name)
    return found


def test_where_floats_are_left(tmp_path: Path) -> None:
    """Cortex-M4, int8-full: none with integer inputs and outputs, else conversions only."""
    model = save(lstm_model(hidden=16, features=4, steps=None), tmp_path)
    inside = export(in_integers(model, "cortex-m4", name="net"), tmp_path / "a", model=model)
    floats_outside = in_integers(model, "cortex-m4", name="net", integer_io=False)
    outside = export(floats_outside, tmp_path / "b", model=model)
    whole = compile_model(model, target="cortex-m4", name="net", check=False)
    floats = export(whole, tmp_path / "c", model=model)
    assert _float_functions(inside) == set()
    assert "only where inputs and outputs are converted" in (outside / "net.h").read_text()
    assert _float_functions(outside) <= {"net_frame", "net_run_inner", "net_step_inner"}
    assert _float_functions(outside)
    assert "Floating point: throughout" in (floats / "net.h").read_text()
