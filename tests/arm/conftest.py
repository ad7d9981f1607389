"""Exports, agents and emulators take the host's code for older instruction sets, too."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _every_instruction_set(every_instruction_set: None) -> None:
    """For all files of this folder."""
