"""A machine without NVIDIA's driver."""

from __future__ import annotations

import pytest

from edgelstm.engines.cuda_driver import DRIVER_VARIABLE, Driver
from edgelstm.errors import TargetUnavailableError


def test_no_driver_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is missing and what to do."""
    monkeypatch.setenv(DRIVER_VARIABLE, "/nowhere/libcuda.so.1")
    with pytest.raises(TargetUnavailableError, match=r"no CUDA driver here.*install NVIDIA"):
        Driver()
