"""The sizes of memory that code says it is made for, against those of the manifest."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.errors import ArtifactFormatError

SIZES = ("weights", "a state", "scratch", "an input", "an output")
"""What the numbers of `NAME_sizes` are the bytes of."""


def expect_sizes(wanted: Sequence[int], sizes: Sequence[int], isa: str) -> None:
    """Compare what code wants with what the manifest says.

    Raises:
        ArtifactFormatError: they differ.
    """
    for what, code, manifest in zip(SIZES, wanted, sizes, strict=True):
        if code != manifest:
            raise ArtifactFormatError(
                f"the code for {isa} is made for {what} of {code} bytes, the manifest says "
                f"{manifest}: the artifact was altered; compile the model again"
            )
