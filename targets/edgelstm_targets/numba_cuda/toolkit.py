"""The compilers: Numba-CUDA to PTX, nvJitLink to cubin, out of wheels alone; no GPU, no toolkit."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgelstm.errors import TargetUnavailableError, ToolchainError
from edgelstm.install_hint import install_hint
from edgelstm_targets.numba_cuda.chips import Chip

_REMEDY = install_hint("compiler", "cuda")
_REMEDY_12 = f"{install_hint('compiler', 'cuda12')}, in an environment without CUDA 13 wheels"
_MODULES = {
    "numba": "numba",
    "numba.cuda": "numba-cuda",
    "llvmlite": "llvmlite",
    "cuda.core": "cuda-core",
    "cuda.bindings": "cuda-bindings",
}
_WHEELS = {
    13: ("nvidia-cuda-runtime", "nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-nvjitlink"),
    12: (
        "nvidia-cuda-runtime-cu12",
        "nvidia-cuda-nvcc-cu12",
        "nvidia-cuda-nvrtc-cu12",
        "nvidia-nvjitlink-cu12",
    ),
}
# By version of Numba-CUDA: the NumPy with which it cannot be imported any more.
_NUMPY_TOO_NEW = {"0.30.4": (2, 5)}
# Never read; its name holds a counter of the process, and so would the bytes of the cubin.
_ENVIRONMENT = re.compile(r"^\.common \.global [^\n]*_ZN08NumbaEnv[^\n]*;\n", re.MULTILINE)
_SHORTCUTS_FOR = {"numba": "0.68.1", "numba-cuda": "0.30.4"}
_COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A kernel in Python, ready to compile.

    Args:
        function: the Python function.
        signature: its Numba type.
        name: of the entry point; stable.
        threads: of a block.
        cluster: blocks of a cluster, 1 for none.
        residents: blocks that are to share a multiprocessor: fewer registers for each.
    """

    function: Callable[..., Any]
    signature: Any
    name: str
    threads: int
    cluster: int = 1
    residents: int = 1


def toolkit_version() -> int | None:
    """Major version of the CUDA wheels that compilations here use, or None."""
    try:
        return int(version("cuda-bindings").split(".")[0])
    except (PackageNotFoundError, ValueError):
        return None


def obstacle(toolkit: int | None = None) -> str | None:
    """Why this environment cannot compile (for one major version of CUDA), or None."""
    missing = [package for module, package in _MODULES.items() if not _has(module)]
    found = toolkit_version()
    if missing or found is None:
        return f"{', '.join(missing) or 'cuda-bindings'} not installed: {_REMEDY}"
    if toolkit is not None and toolkit != found:
        remedy = _REMEDY_12 if toolkit == 12 else _REMEDY
        return f"the wheels here are of CUDA {found}, not {toolkit}: {remedy}"
    absent = [wheel for wheel in _WHEELS.get(found, ()) if not _is_installed(wheel)]
    if found not in _WHEELS or absent:
        return f"wheels of CUDA {found} missing ({', '.join(absent)}): {_REMEDY}"
    cuda = version("numba-cuda")
    too_new = _NUMPY_TOO_NEW.get(cuda)
    if too_new is not None and _release("numpy") >= too_new:
        dropped = f"NumPy {version('numpy')} has dropped what numba-cuda {cuda} needs"
        return f"{dropped}: pip install 'numpy<{'.'.join(map(str, too_new))}'"
    return None


def expect_toolkit(toolkit: int | None = None) -> int:
    """The major version of CUDA to compile with.

    Raises:
        TargetUnavailableError: packages are missing, or they are of another version.
    """
    reason = obstacle(toolkit)
    found = toolkit_version()
    if reason is not None or found is None:
        raise TargetUnavailableError(f"target cuda cannot compile here: {reason}")
    return found


def compile_ptx(source: KernelSource, chip: Chip) -> str:
    """PTX of one kernel.

    Raises:
        ToolchainError: Numba or NVVM failed.
    """
    bounds: tuple[int, ...] = (source.threads, source.residents)
    if source.cluster > 1:
        bounds = (source.threads, 1, source.cluster)
    try:
        with _shortcuts():
            return _compile(source, chip, bounds)
    except Exception as error:  # Numba raises whatever its passes raise
        raise ToolchainError(f"Numba could not compile {source.name}: {error}") from error


def _compile(source: KernelSource, chip: Chip, bounds: tuple[int, ...]) -> str:
    from numba import cuda

    # abi_name names a kernel, though documented for device functions only; a test watches it.
    text, _ = cuda.compile(
        source.function,
        source.signature,
        device=False,
        abi="numba",
        abi_info={"abi_name": source.name},
        cc=chip.capability,
        output="ptx",
        launch_bounds=bounds,
    )
    return _COMMENT.sub("", _ENVIRONMENT.sub("", text))


@contextmanager
def _shortcuts() -> Iterator[None]:
    """Less time in Numba's front end, for versions that it was compared with; others go without."""
    if {name: version(name) for name in _SHORTCUTS_FOR} != _SHORTCUTS_FOR:
        yield
        return
    from edgelstm_targets.numba_cuda.frontend import shortcuts

    with shortcuts():
        yield


def link_cubin(ptx: str, chip: Chip) -> bytes:
    """Machine code of one PTX text.

    Raises:
        ToolchainError: the linker refused it.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode

    try:
        linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=LinkerOptions(arch=chip.name))
        return bytes(linker.link("cubin").code)
    except Exception as error:  # so does the linker
        raise ToolchainError(f"nvJitLink could not assemble for {chip.name}: {error}") from error


def versions() -> dict[str, str]:
    """What compiled it, for the manifest."""
    names = (
        "numba",
        "numba-cuda",
        "llvmlite",
        "cuda-core",
        *_WHEELS.get(toolkit_version() or 0, ()),
    )
    return {name: version(name) for name in names}


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _release(package: str) -> tuple[int, ...]:
    """Major and minor version."""
    return tuple(int(part) for part in version(package).split(".")[:2])


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
