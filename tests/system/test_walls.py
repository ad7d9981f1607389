"""The walls of the house: who imports what, and what a device has to load."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from edgelstm.engines import ENGINES
from edgelstm.engines.cpu_features import ELF_MACHINES
from edgelstm_compiler.target import DEFAULT_TARGET, target_names

ROOT = Path(__file__).parents[2]
PACKAGES = (
    ROOT / "edgelstm",
    ROOT / "compiler" / "edgelstm_compiler",
    ROOT / "targets" / "edgelstm_targets",
)
ROOMS = {
    "tvm": ("targets/edgelstm_targets/tvm_cpu",),
    "onnx": (
        "compiler/edgelstm_compiler/onnx_import",
        "compiler/edgelstm_compiler/onnx_backend.py",
        "compiler/edgelstm_compiler/demo/train.py",
    ),
    "onnxruntime": (
        "compiler/edgelstm_compiler/onnx_import/peer.py",
        "compiler/edgelstm_compiler/demo/train.py",
    ),
    "elftools": ("compiler/edgelstm_compiler/elf.py",),
    "unicorn": ("compiler/edgelstm_compiler/emulation/machine.py",),
    "torch": ("compiler/edgelstm_compiler/demo/train.py",),
}


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported_modules(path: Path) -> set[str]:
    """Top-level names of everything a file imports when it runs (not for type checkers only)."""
    tree = tree_of(path)
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]


@pytest.mark.parametrize("module", ROOMS)
def test_each_foreign_library_lives_in_one_room(module: str) -> None:
    """A library that is not ours is imported in its own room only."""
    places = [str(path.relative_to(ROOT)) for path in sources() if module in imported_modules(path)]
    assert places, f"{module} is used somewhere"
    strangers = [place for place in places if not place.startswith(ROOMS[module])]
    assert not strangers


def test_the_device_package_needs_numpy_and_click_alone() -> None:
    """Nothing under edgelstm/ imports anything but the standard library, NumPy and click.

    The monitor's server, which only its command loads, stands on the packages of its extra.
    """
    allowed = set(sys.stdlib_module_names) | {"edgelstm", "numpy", "click"}
    server = PACKAGES[0] / "monitor" / "server"
    for path in sorted(PACKAGES[0].rglob("*.py")):
        own = {"starlette", "uvicorn", "h11"} if path.is_relative_to(server) else set()
        assert imported_modules(path) <= allowed | own, path


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "import edgelstm",
            ("click", "onnx", "onnxruntime", "tvm", "numba", "edgelstm_compiler", "elftools"),
        ),
        ("import edgelstm.cli", ("onnx", "onnxruntime", "tvm", "numba", "edgelstm_compiler")),
        ("import edgelstm_compiler.driver", ("tvm", "numba", "onnxruntime")),
    ],
)
def test_import_budget(statement: str, absent: tuple[str, ...]) -> None:
    """What an import loads, seen in a fresh interpreter."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & set(absent)


def words_of(path: Path) -> set[str]:
    """Words of a file's texts without its docstrings; names as targets have them stay whole."""
    tree = tree_of(path)
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    texts = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    )
    return {word.strip("-") for text in texts for word in re.findall(r"[\w-]+", text)}


def test_no_room_of_the_compiler_knows_a_target() -> None:
    """Facts of processors are asked for; the compiler names its own target and the default.

    An engine or a machine may be called as a target is.
    """
    own = {"reference": "reference.py", DEFAULT_TARGET: "target.py"}
    strangers = set(target_names()) - set(own) - {*ENGINES, *ELF_MACHINES.values()}
    assert {"cortex-m4", "rpi4", "armv7", "jetson-orin-gpu"} <= strangers
    found = {}
    for path in sorted(PACKAGES[1].rglob("*.py")):
        words = words_of(path)
        known = words & strangers
        known |= {w for w in words if re.match("cortex-[amr][0-9]", w, re.IGNORECASE)}
        if DEFAULT_TARGET in words and path.name != own[DEFAULT_TARGET]:
            known |= {DEFAULT_TARGET} & set(exact_texts(path))
        if known:
            found[str(path.relative_to(PACKAGES[1]))] = known
    assert not found


def exact_texts(path: Path) -> set[str]:
    """Texts of a file, whole."""
    tree = tree_of(path)
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {node.value for node in nodes if isinstance(node.value, str)}


def test_no_file_outgrows_its_room() -> None:
    """Files have one subject and at most 500 lines."""
    long = {str(path): len(path.read_text().splitlines()) for path in sources()}
    assert not {path: count for path, count in long.items() if count > 500}


def test_every_file_says_what_stands_in_it() -> None:
    """Every module has a docstring, every folder of sources a README."""
    for path in sources():
        assert ast.get_docstring(tree_of(path)), path
    folders = {path.parent for path in sources() if path.name != "__init__.py"}
    for package in PACKAGES:
        assert (package / "README.md").exists() or (package.parent / "README.md").exists(), package
    assert folders
