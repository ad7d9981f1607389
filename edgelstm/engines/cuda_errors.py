"""Errors of the CUDA driver: their names, and what to do about them."""

from __future__ import annotations

from edgelstm.errors import EdgeLSTMError, TargetUnavailableError, ToolchainError

NOT_READY = 600
"""Of cuStreamQuery: the work goes on. No error."""

GOING_DOWN = (4, 709)
"""The process ends and the driver with it: what is to be given back is given back already."""

OTHER_CUDA = "update the driver, or compile with the wheels of an older CUDA (--option cuda=12)"
_FAULT = (
    "the kernel failed, and nothing more runs in this process: start it again, and report the "
    "model if it fails again"
)
_BUSY = "close sessions, or use fewer streams"
_NO_DEVICE = "check nvidia-smi and CUDA_VISIBLE_DEVICES, or compile for another target"

_UNAVAILABLE = {
    3: ("CUDA_ERROR_NOT_INITIALIZED", "a process that forked after loading CUDA cannot use it"),
    34: ("CUDA_ERROR_STUB_LIBRARY", "the library found is the toolkit's stub, not the driver's"),
    46: ("CUDA_ERROR_DEVICE_UNAVAILABLE", "another process has the GPU for itself"),
    100: ("CUDA_ERROR_NO_DEVICE", _NO_DEVICE),
    101: ("CUDA_ERROR_INVALID_DEVICE", _NO_DEVICE),
    802: ("CUDA_ERROR_SYSTEM_NOT_READY", "start nvidia-fabricmanager, or the machine again"),
    803: ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "the driver was updated: start the machine again"),
    804: ("CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", OTHER_CUDA),
}
_FAILED = {
    1: ("CUDA_ERROR_INVALID_VALUE", "this is a bug in edgelstm: please report it"),
    2: ("CUDA_ERROR_OUT_OF_MEMORY", _BUSY),
    200: ("CUDA_ERROR_INVALID_IMAGE", OTHER_CUDA),
    201: ("CUDA_ERROR_INVALID_CONTEXT", "another library destroyed the GPU's primary context"),
    209: ("CUDA_ERROR_NO_BINARY_FOR_GPU", OTHER_CUDA),
    218: ("CUDA_ERROR_INVALID_PTX", OTHER_CUDA),
    221: ("CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "compile for this very chip (--target cuda:sm_NN)"),
    222: ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", OTHER_CUDA),
    500: ("CUDA_ERROR_NOT_FOUND", "the artifact's code and manifest differ: compile it again"),
    700: ("CUDA_ERROR_ILLEGAL_ADDRESS", _FAULT),
    701: ("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "compile for this very chip"),
    702: ("CUDA_ERROR_LAUNCH_TIMEOUT", "the display's watchdog ended it: use shorter chunks"),
    710: ("CUDA_ERROR_ASSERT", _FAULT),
    716: ("CUDA_ERROR_MISALIGNED_ADDRESS", _FAULT),
    719: ("CUDA_ERROR_LAUNCH_FAILED", _FAULT),
    720: ("CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", _BUSY),
}


def driver_error(call: str, code: int, name: str | None, text: str | None) -> EdgeLSTMError:
    """The error of a call.

    Args:
        call: the function of the driver.
        code: what it returned.
        name: of the code, as the driver says; None if it does not know.
        text: the driver's words for it, or None.
    """
    known, advice = (_UNAVAILABLE | _FAILED).get(code, (None, ""))
    word = name or known or "an error without a name"
    said = f"{call} says {word} ({code}{f', {text}' if text else ''})"
    remedy = f": {advice}" if advice else ""
    if code in _UNAVAILABLE:
        return TargetUnavailableError(f"no usable CUDA device here: {said}{remedy}")
    return ToolchainError(f"the CUDA driver failed: {said}{remedy}")
