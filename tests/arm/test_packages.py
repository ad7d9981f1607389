"""`export-c --package`: Arduino libraries and Zephyr modules, as their build systems take them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgelstm.cli import cli
from edgelstm.errors import CapabilityError
from edgelstm.output_folder import LIST_NAME
from edgelstm_compiler import compile_model
from tests.arm.c_project import MICROCONTROLLERS, STRICT, export, gcc_flags, run, tool
from tests.arm.elf_account import symbol_sizes
from tests.arm.integer_models import in_integers, save
from tests.models import lstm_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

# What the sketches use of an Arduino core.
ARDUINO = """
#pragma once
#include <stdint.h>
extern "C" { void setup(); void loop(); }
struct Line {
  void begin(long);
  explicit operator bool();
  int available();
  int read();
  void write(uint8_t);
  void print(const char *); void print(long);
  void println(const char *); void println(long); void println(unsigned long);
};
extern Line Serial;
unsigned long micros();
void delay(unsigned long);
"""
# As Zephyr's cmake/modules/extensions.cmake defines them, less what needs a board.
ZEPHYR = """
cmake_minimum_required(VERSION 3.13)
project(stub C ASM)
set(CONFIG_EDGELSTM_NET y)
function(zephyr_include_directories)
  foreach(each ${ARGV})
    include_directories(${each})
    set_property(GLOBAL APPEND PROPERTY FOUND_INCLUDES ${CMAKE_CURRENT_SOURCE_DIR}/${each})
  endforeach()
endfunction()
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC "")
  set_property(GLOBAL APPEND PROPERTY ZEPHYR_LIBS ${name})
endmacro()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_library_include_directories)
  target_include_directories(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_library_sources_ifdef toggle)
  if(${${toggle}})
    zephyr_library_sources(${ARGN})
  endif()
endfunction()
function(zephyr_library_import name path)
  add_library(${name} STATIC IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${path})
  set_property(GLOBAL APPEND PROPERTY ZEPHYR_LIBS ${name})
endfunction()
add_subdirectory(${MODULE} module)
get_property(libraries GLOBAL PROPERTY ZEPHYR_LIBS)
get_property(includes GLOBAL PROPERTY FOUND_INCLUDES)
if(libraries)
  add_executable(sample ${SAMPLE}/src/main.c printk.c)
  target_include_directories(sample PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${includes})
  target_link_libraries(sample ${libraries})
endif()
"""
PRINTK = """
#include <stdarg.h>
#include <stdio.h>
void printk(const char *format, ...);
void printk(const char *format, ...)
{
    va_list more;
    va_start(more, format);
    vprintf(format, more);
    va_end(more);
}
"""


def properties(folder: Path) -> dict[str, str]:
    """library.properties, every line a key and a value."""
    lines = (folder / "library.properties").read_text().splitlines()
    assert all("=" in line for line in lines)
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fields = {"hidden": 7, "features": 3, "steps": None}
    return save(lstm_model(**fields), tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("target", MICROCONTROLLERS)
def test_layout_of_an_arduino_library(target: str, model: Path, tmp_path: Path) -> None:
    """What the library specification demands: fields, folders, names."""
    artifact = in_integers(model, target, name="net")
    folder = export(artifact, tmp_path, model=model, package="arduino", agent=True)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found - {LIST_NAME} == {
        "library.properties",
        "keywords.txt",
        "README.md",
        "src/net.h",
        "src/net_agent.h",
        "src/net.c",
        "src/net_weights.c",
        "src/net_selftest.c",
        "src/net_agent.c",
        f"src/{target}/libnet_kernels.a",
        "examples/SelfTest/SelfTest.ino",
        "examples/Agent/Agent.ino",
    }
    fields = properties(folder)
    required = ("version", "author", "maintainer", "sentence", "paragraph", "url")
    assert all(fields[key].strip() for key in required)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", fields["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] == "Data Processing"
    assert fields["includes"] == "net.h"
    # Sources beside a precompiled library are compiled with `true` only.
    assert fields["precompiled"] == "true"
    assert fields["ldflags"] == "-lnet_kernels"
    assert re.fullmatch(r"\*|[a-z0-9_]+(,[a-z0-9_]+)*", fields["architectures"])
    keywords = (folder / "keywords.txt").read_text().splitlines()
    assert all(re.fullmatch(r"net_\w+\tKEYWORD[12]", line) for line in keywords)


@pytest.mark.parametrize(
    ("target", "scheme", "convention"),
    [
        ("cortex-m0plus", "int8-full", ()),
        ("cortex-m4", "fp32", ("-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")),
        ("cortex-m4", "fp32", ("-mfpu=fpv4-sp-d16", "-mfloat-abi=softfp")),
        ("cortex-m4", "int8-full", ("-mfloat-abi=soft",)),
    ],
)
@pytest.mark.parametrize("weights", ["c", "incbin"])
def test_an_arduino_core_builds_it(
    target: str, scheme: str, convention: tuple[str, ...], weights: str, model: Path, tmp_path: Path
) -> None:
    """Sources one by one, sketches as C++, -I src, -L src/CPU, whatever the core's float ABI is."""
    if scheme == "fp32":
        artifact = compile_model(model, target=target, name="net", check=False)
    else:
        artifact = in_integers(model, target, name="net")
    options = {"package": "arduino", "agent": True, "weights": weights}
    folder = export(artifact, tmp_path / "net", model=model, **options)
    core = tmp_path / "core"
    core.mkdir()
    (core / "Arduino.h").write_text(ARDUINO)
    cpu = (f"-mcpu={target}", "-mthumb", *convention)
    common = (*cpu, "-Os", "-ffunction-sections", "-fdata-sections", f"-I{core}")
    includes = f"-I{folder / 'src'}"
    objects = []
    for source in sorted((folder / "src").rglob("*.[cS]")):
        objects.append(tmp_path / f"{source.name}.o")
        run(
            tool("arm-none-eabi-gcc"),
            *common,
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            includes,
            "-c",
            source,
            "-o",
            objects[-1],
        )
    strict = ("-std=gnu++11", "-fno-rtti", "-fno-exceptions", "-Wall", "-Wextra", "-Werror")
    for sketch, entry in (("SelfTest", "setup"), ("Agent", "loop")):
        source = tmp_path / f"{sketch}.cpp"
        text = (folder / "examples" / sketch / f"{sketch}.ino").read_text()
        source.write_text(f"#include <Arduino.h>\n{text}")
        program = tmp_path / f"{sketch}.elf"
        run(
            tool("arm-none-eabi-g++"),
            *common,
            *strict,
            includes,
            "-c",
            source,
            "-o",
            tmp_path / "sketch.o",
        )
        # A relocatable link: conventions and names are checked, and no board's start is needed.
        libraries = (f"-L{folder / 'src' / target}", properties(folder)["ldflags"])
        run(
            tool("arm-none-eabi-g++"),
            *cpu,
            "-nostdlib",
            f"-Wl,-e,{entry}",
            "-Wl,--gc-sections",
            "-Wl,--unresolved-symbols=ignore-all",
            tmp_path / "sketch.o",
            *objects,
            *libraries,
            "-o",
            program,
        )
        assert {"net_step", "net_weights"} <= set(symbol_sizes(program)), sketch


@pytest.mark.parametrize("weights", ["c", "incbin"])
@pytest.mark.parametrize("switch", ["y", ""])
def test_zephyr_builds_the_module(weights: str, switch: str, model: Path, tmp_path: Path) -> None:
    """CMakeLists.txt with Zephyr's functions: library, kernels, sample; nothing if not chosen."""
    artifact = compile_model(model, target="cortex-m4", name="net", check=False)
    options = {"package": "zephyr", "agent": True, "weights": weights}
    folder = export(artifact, tmp_path / "net", model=model, **options)
    # The same files around code for this machine, which can be linked and run here.
    host = export(
        compile_model(model, name="net", check=False), tmp_path / "c", model=model, weights=weights
    )
    (folder / "lib" / "libnet_kernels.a").write_bytes((host / "libnet_kernels.a").read_bytes())
    for path in sorted(host.glob("net*")):
        place = folder / ("include" if path.suffix == ".h" else "src") / path.name
        if place.exists():
            place.write_bytes(path.read_bytes())
    stub = tmp_path / "stub"
    (stub / "zephyr" / "sys").mkdir(parents=True)
    (stub / "zephyr" / "kernel.h").write_text("")
    (stub / "zephyr" / "sys" / "printk.h").write_text("void printk(const char *format, ...);\n")
    (stub / "printk.c").write_text(PRINTK)
    text = ZEPHYR.replace("NET y", f"NET {switch}")
    chosen = "set(CONFIG_EDGELSTM_NET_SELFTEST y)\nset(CONFIG_EDGELSTM_NET_AGENT y)\nfunction"
    (stub / "CMakeLists.txt").write_text(text.replace("function", chosen, 1))
    sample = folder / "samples" / "net"
    settings = (f"-DMODULE={folder}", f"-DSAMPLE={sample}")
    run(tool("cmake"), "-S", stub, "-B", tmp_path / "build", *settings)
    run(tool("cmake"), "--build", tmp_path / "build")
    program = tmp_path / "build" / "sample"
    assert program.exists() == bool(switch)
    if switch:
        assert run(program).stdout == "net: PASS\n"


@pytest.mark.parametrize("target", MICROCONTROLLERS)
def test_layout_of_a_zephyr_module(target: str, model: Path, tmp_path: Path) -> None:
    """module.yml, Kconfig symbols of the processor, a sample; FPU where there are floats only."""
    artifact = in_integers(model, target, name="net")
    folder = export(artifact, tmp_path / "a", model=model, package="zephyr", agent=True)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "zephyr/module.yml",
        "CMakeLists.txt",
        "Kconfig",
        "include/net.h",
        "include/net_agent.h",
        "src/net.c",
        "lib/libnet_kernels.a",
        "samples/net/CMakeLists.txt",
        "samples/net/prj.conf",
        "samples/net/sample.yaml",
        "samples/net/src/main.c",
    } <= found
    module = (folder / "zephyr" / "module.yml").read_text()
    assert "name: net\nbuild:\n  cmake: .\n  kconfig: Kconfig\n" in module
    kconfig = (folder / "Kconfig").read_text()
    assert re.findall(r"^config (\w+)$", kconfig, re.M) == [
        "EDGELSTM_NET",
        "EDGELSTM_NET_SELFTEST",
        "EDGELSTM_NET_AGENT",
    ]
    assert f"depends on CPU_{target.upper().replace('-', '_')}\n" in kconfig
    assert "FPU" not in kconfig
    configured = (folder / "samples" / "net" / "prj.conf").read_text().split()
    assert configured == ["CONFIG_EDGELSTM_NET=y", "CONFIG_EDGELSTM_NET_SELFTEST=y"]
    if target in ("cortex-m4", "cortex-m55"):
        floats = compile_model(model, target=target, name="net", check=False)
        folder = export(floats, tmp_path / "b", model=model, package="zephyr")
        assert "select FPU" in (folder / "Kconfig").read_text()


@pytest.mark.parametrize("package", ["arduino", "zephyr"])
def test_code_for_larger_processors_is_refused(package: str, model: Path, tmp_path: Path) -> None:
    """By the name of the instruction set, with the targets to compile for."""
    artifact = compile_model(model, name="net", check=False)
    with pytest.raises(CapabilityError, match=r"x86-64-v2.*cortex-m4"):
        export(artifact, tmp_path, package=package)


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_weights_as_a_file(target: str, model: Path, tmp_path: Path) -> None:
    """`--weights incbin`: the same bytes at the same alignment; the self-test's checksum agrees."""
    artifact = compile_model(model, target=target, name="net", check=False)
    folder = export(artifact, tmp_path, model=model, weights="incbin")
    assert not (folder / "net_weights.c").exists()
    assert (folder / "net_weights.bin").read_bytes() == artifact.container.section("weights")
    source, found = folder / "net_weights.S", tmp_path / "weights.o"
    if target == "host":
        sources = [*sorted(folder.glob("*.[cS]")), folder / "example" / "main.c"]
        library = folder / "libnet_kernels.a"
        run(tool("cc"), *STRICT, f"-I{folder}", *sources, library, "-o", tmp_path / "program")
        assert run(tmp_path / "program").stdout == "net: PASS\n"
    else:
        gcc = (tool("arm-none-eabi-gcc"), *gcc_flags(target))
        run(*gcc, f"-I{folder}", "-c", source, "-o", found)
        assert symbol_sizes(found)["net_weights"] == artifact.manifest["memory"]["weights_bytes"]


def test_the_header_says_what_numbers_mean(model: Path, tmp_path: Path) -> None:
    """Rate and period, delay, the user's own words, scales of whole numbers."""
    artifact = in_integers(model, "cortex-m4", name="net", rate_hz=50.0)
    artifact.save(tmp_path / "net.edgelstm")
    arguments = ["export-c", str(tmp_path / "net.edgelstm"), "-o", str(tmp_path / "c")]
    words = ["--describe", "X=three angles in degrees", "--describe", "Y=hidden */ state"]
    done = CliRunner().invoke(cli, [*arguments, *words])
    assert done.exit_code == 0, done.output
    header = (tmp_path / "c" / "net.h").read_text()
    assert "Sampling rate: 50 Hz, one step every 20 ms." in header
    assert "three angles in degrees" in header
    assert "hidden * / state" in header
    assert "no delay: it belongs to the frame just given" in header
    assert re.search(r"#define NET_X_SCALES \{[-.0-9e]+f, [-.0-9e]+f, [-.0-9e]+f\}", header)
    assert "#define NET_X_ZERO_POINT 0" in header
    wrong = CliRunner().invoke(cli, [*arguments, "--describe", "Z=nothing"])
    assert wrong.exit_code == 4
    assert "'Z' is no input or output of net: it has X, Y" in wrong.stderr
    assert CliRunner().invoke(cli, [*arguments, "--describe", "nothing"]).exit_code == 2
