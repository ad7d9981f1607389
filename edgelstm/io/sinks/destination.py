"""What sinks say of themselves, unless they say otherwise; see `LiveSink`."""

from __future__ import annotations

from collections.abc import Mapping


class Destination:
    """A sink that takes everything at once, and loses nothing."""

    @property
    def waiting(self) -> int:
        """Nothing waits."""
        return 0

    @property
    def lost(self) -> Mapping[str, int]:
        """Nothing is lost."""
        return {}

    @property
    def trouble(self) -> str:
        """There is none."""
        return ""

    def poll(self) -> None:
        """Nothing is to be done by the clock."""
