"""A GPU made of the mock driver and the emulator: sessions of the engine run on it unchanged."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm_compiler.driver import compile_model
from tests.cuda.emulator.machine import Launch, Machine

Array = NDArray[np.uint8]
Argument = tuple[Array, int] | int
SOURCE = Path(__file__).with_name("mock_driver.c")
_KERNEL = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    *[ctypes.c_uint] * 5,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)
_WAITER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_ADDRESSES = 6
_NOT_READY = 600
_LAUNCH_FAILED = 700


def find_compiler() -> str | None:
    """A C compiler, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_mock(folder: Path) -> Path:
    """The mock driver as a shared object."""
    compiler = find_compiler()
    assert compiler is not None
    path = folder / "libcuda_mock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(path), str(SOURCE)], check=True)
    return path


@dataclass
class Compiled:
    """An artifact, with the PTX of all its kernels."""

    artifact: Artifact
    ptx: str

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """What the manifest says of them."""
        kernels: list[dict[str, Any]] = self.artifact.manifest["target"]["facts"]["kernels"]
        return kernels


_KNOWN: dict[tuple[Any, ...], Compiled] = {}


def compile_for(
    model: Any, target: str, folder: Path, *, quantize: str | None = None, **options: str
) -> Compiled:
    """Compile for a chip, keeping the PTX; the same model only once."""
    content = model if isinstance(model, Path) else model.SerializeToString(deterministic=True)
    key = (content, target, quantize, *sorted(options.items()))
    if key not in _KNOWN:
        _KNOWN[key] = _compile(model, target, folder, quantize, options)
    # Nothing of another test's GPU is loaded in it.
    return Compiled(Artifact(_KNOWN[key].artifact.container), _KNOWN[key].ptx)


def _compile(
    model: Any, target: str, folder: Path, quantize: str | None, options: dict[str, str]
) -> Compiled:
    artifact = compile_model(
        model,
        target=target,
        target_options=options,
        quantize=quantize,
        dump=folder,
        check=False,
    )
    (listing,) = folder.glob("*_kernels.txt")
    return Compiled(artifact, listing.read_text(encoding="utf-8"))


class EmulatedGpu:
    """The mock driver with kernels run by the emulator.

    Args:
        path: the mock driver.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.mock_notes.restype = ctypes.c_char_p
        self._library.mock_piece.restype = ctypes.c_size_t
        self._library.mock_piece.argtypes = [ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)]
        self._library.mock_is_host.argtypes = [ctypes.c_uint64]
        self._callbacks = _KERNEL(self._start), _WAITER(self._wait)
        self._library.mock_kernel(*self._callbacks)
        self._waiting: dict[int, threading.Thread] = {}
        self.ptx = ""
        self.seed: int | None = None
        self.late: int | None = None
        self.limit = 400_000
        self.failure: Exception | None = None
        self.change: Callable[[str], str] | None = None

    def prepare(self, capability: tuple[int, int], processors: int = 132) -> None:
        """Be this GPU, with nothing noted and nothing failing."""
        self._library.mock_device(*capability, processors)
        self._library.mock_clear()
        self.set_watchdog(False)
        self.fail("", 0)
        self.seed, self.late, self.failure, self.change = None, None, None, None
        self.limit = 400_000

    def fail(self, call: str, code: int) -> None:
        """Let a call of the driver return an error from now on."""
        self._library.mock_fail(call.encode(), code)

    def notes(self) -> list[str]:
        """The calls so far."""
        text: bytes = self._library.mock_notes()
        return text.decode().splitlines()

    def clear(self) -> None:
        """Forget the calls."""
        self._library.mock_clear()

    def live_pieces(self) -> int:
        """Pieces of memory not given back."""
        return int(self._library.mock_live())

    def live_handles(self) -> int:
        """Streams, graphs, modules and events not given back."""
        return int(self._library.mock_handles())

    def set_watchdog(self, is_on: bool) -> None:
        """Whether the GPU has a display whose watchdog ends long kernels."""
        self._library.mock_watchdog(int(is_on))

    def await_idle(self) -> None:
        """Until no kernel runs any more: those that wait end when they hear nothing."""
        for thread in self._waiting.values():
            thread.join()

    def _start(
        self,
        entry: bytes,
        grid: int,
        block: int,
        shared: int,
        cluster: int,
        cooperative: int,
        arguments: Any,
        stream: int,
    ) -> int:
        del cooperative
        name = entry.decode()
        values: list[Argument] = []
        pieces: dict[int, Array] = {}
        for index in range(_ADDRESSES):
            address = ctypes.c_uint64.from_address(arguments[index]).value
            start = ctypes.c_uint64(address)
            size = self._library.mock_piece(address, ctypes.byref(start))
            if start.value not in pieces:
                area = (ctypes.c_ubyte * size).from_address(start.value)
                pieces[start.value] = np.frombuffer(area, np.uint8)
            values.append((pieces[start.value], address - start.value))
        shared_with_host = [
            piece for place, piece in pieces.items() if self._library.mock_is_host(place)
        ]
        counts = (arguments[index] for index in range(_ADDRESSES, _ADDRESSES + 2))
        values.extend(ctypes.c_uint32.from_address(place).value for place in counts)
        text = self.ptx if self.change is None else self.change(self.ptx)
        launch = Launch(grid, block, shared, cluster)
        if not name.endswith("_doorbell"):
            return self._run(text, name, launch, values, [])
        thread = threading.Thread(
            target=self._run, args=(text, name, launch, values, shared_with_host), daemon=True
        )
        self._waiting[stream] = thread
        thread.start()
        return 0

    def _run(
        self,
        text: str,
        name: str,
        launch: Launch,
        values: list[Argument],
        shared_with_host: list[Array],
    ) -> int:
        try:
            machine = Machine(text, name, launch, values, self.seed, shared_with_host, self.late)
            machine.run(self.limit)
        except Exception as error:
            self.failure = error
            print(f"the emulator stopped: {type(error).__name__}: {error}")
            return _LAUNCH_FAILED
        return 0

    def _wait(self, stream: int, until_done: int) -> int:
        """Whether the kernel of a stream has ended; with errors of a kernel that waits."""
        thread = self._waiting.get(stream)
        if thread is None:
            return 0
        if until_done:
            thread.join()
        if thread.is_alive():
            return _NOT_READY
        del self._waiting[stream]
        return _LAUNCH_FAILED if self.failure is not None else 0
