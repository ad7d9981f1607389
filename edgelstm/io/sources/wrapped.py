"""A source around another one: what it tells is told by the inner one, frames come as it likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from edgelstm.io.base import Batch, Source

Inner = TypeVar("Inner", bound=Source)


class WrappedSource(Generic[Inner]):
    """Tells columns and progress of another source.

    Args:
        source: the inner one.
    """

    def __init__(self, source: Inner) -> None:
        self._source = source

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns that pass through."""
        return self._source.kept

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which columns feed which input."""
        return self._source.mapping

    @property
    def total(self) -> int | None:
        """Amount to read."""
        return self._source.total

    @property
    def done(self) -> int:
        """Amount read so far."""
        return self._source.done

    def batches(self) -> Iterator[Batch]:
        """All frames in order."""
        return self._source.batches()
