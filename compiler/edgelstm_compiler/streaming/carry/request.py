"""What a caller asks about the states of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CarryRequest:
    """Which outputs are fed back into which inputs.

    Args:
        pairs: output by input, as the caller says; those found are added for other inputs.
        is_off: nothing is carried: every input and output is the caller's.
        is_complete: these pairs are all that there are; none is looked for.
        overlap: by input how many of its newest elements along time stand in front of the next
            chunk, too; under "" for the only input that is left.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    is_off: bool = False
    is_complete: bool = False
    overlap: Mapping[str, int] = field(default_factory=dict)

    @property
    def says_something(self) -> bool:
        """Whether the caller asked for anything that needs states as inputs."""
        return bool(self.pairs or self.overlap)


def carry_request(
    carry: Mapping[str, str] | bool | None, overlap: int | Mapping[str, int] | None
) -> CarryRequest:
    """The request of a caller in Python.

    Args:
        carry: output by input; False: nothing is carried; None or True: what is found.
        overlap: of the only input, or by name (`NAME@AXIS` where several axes are long).
    """
    pairs = carry if isinstance(carry, Mapping) else {}
    if overlap is None:
        overlap = {}
    elif not isinstance(overlap, Mapping):
        overlap = {"": overlap}
    return CarryRequest(dict(pairs), carry is False, overlap=dict(overlap))


def request_of(options: Mapping[str, Any]) -> CarryRequest:
    """What a manifest's options say that was carried.

    Args:
        options: entry `options` of the manifest.
    """
    pairs, overlap = options.get("carry") or {}, options.get("overlap") or {}
    if not pairs and not overlap:
        return CarryRequest(is_off=True)
    return CarryRequest(dict(pairs), is_complete=True, overlap=dict(overlap))
