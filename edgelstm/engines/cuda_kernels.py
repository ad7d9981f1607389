"""The kernels that an artifact lists, which of them a GPU runs, and how they are loaded.

`target.facts` of the manifest:

```
kernels: [{"section", "form": "cubin" | "ptx", "capability": [major, minor], "entry", "shape":
           "block" | "exchange" | "cluster" | "tensor", "team": blocks a stream, "group": streams
           a block, "threads", "shared_bytes", "mail_bytes", "image": [layouts of the weights],
           "streams": "one" | "many" | "doorbell", "above": streams a multiprocessor, ...}]
```

Of the kernels that are there for a GPU, all compiled for the same chip, a session takes the one for
the most streams that it has enough of: more than `above` for each multiprocessor, and as many as a
group. Artifacts without `above` have 0 there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.container import Container
from edgelstm.engines.cuda_driver import Device
from edgelstm.engines.cuda_image import Layout, make_image
from edgelstm.engines.cuda_launch import Function
from edgelstm.engines.cuda_memory import DeviceMemory
from edgelstm.errors import ArtifactFormatError

EXACT_CHIPS = ((8, 7),)
"""Chips of Jetson modules: their cubins run there alone, and no other runs there."""

ROLES = ("one", "many", "doorbell")
"""What a kernel is for: one stream, many, or one stream whose frames it waits for."""

_SHAPES = ("block", "exchange", "cluster", "tensor")
_FREE_SHAPES = ("block", "tensor")
"""Their blocks do not wait for each other: any number of streams may be run."""


@dataclass(frozen=True, slots=True)
class KernelEntry:
    """One kernel of an artifact, as the manifest says."""

    section: str
    form: str
    capability: tuple[int, int]
    entry: str
    shape: str
    team: int
    threads: int
    shared_bytes: int
    mail_bytes: int
    image: tuple[Layout, ...]
    streams: str
    group: int = 1
    above: float = 0.0

    @property
    def name(self) -> str:
        """What it is called in its section: "one", "many", "many_16"."""
        return self.section.rpartition("/")[2]

    def blocks(self, streams: int) -> int:
        """The grid for that many streams."""
        return -(-streams // self.group) * self.team

    def least_streams(self, processors: int) -> int:
        """From how many streams on it is taken on a GPU with so many multiprocessors."""
        return max(math.floor(self.above * processors) + 1, self.group)

    def rank(self, capability: tuple[int, int]) -> int | None:
        """How well it suits a GPU (higher is better), or None where it does not run."""
        if self.form == "ptx":
            return 0 if self.capability <= capability else None
        if self.capability == capability:
            return 1000
        if self.capability in EXACT_CHIPS or capability in EXACT_CHIPS:
            return None
        same = self.capability[0] == capability[0] and self.capability[1] <= capability[1]
        return 1 + self.capability[1] if same else None


def kernel_entries(container: Container) -> tuple[KernelEntry, ...]:
    """The kernels of an artifact.

    Raises:
        ArtifactFormatError: the manifest does not list them properly.
    """
    try:
        listed = container.manifest["target"]["facts"]["kernels"]
        entries = tuple(_entry(item) for item in listed)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ArtifactFormatError(
            f"the manifest's list of kernels is malformed ({error!r}); compile the model again"
        ) from error
    for entry in entries:
        container.section(entry.section)
    if not entries:
        raise ArtifactFormatError("the artifact holds no kernels; compile the model again")
    return entries


def entries_for(
    entries: Sequence[KernelEntry], capability: tuple[int, int]
) -> tuple[KernelEntry, ...]:
    """The entries for the chip that suits a GPU best; none where nothing runs."""
    ranks = [entry.rank(capability) for entry in entries]
    best = max((rank for rank in ranks if rank is not None), default=None)
    return tuple(
        entry
        for entry, rank in zip(entries, ranks, strict=True)
        if rank is not None and rank == best
    )


class LoadedKernel:
    """A kernel on the device with its image of the weights."""

    def __init__(self, device: Device, container: Container, entry: KernelEntry) -> None:
        self.entry = entry
        self.function = Function(
            device,
            bytes(container.section(entry.section)),
            entry.form,
            entry.entry,
            entry.threads,
            entry.shared_bytes,
            entry.team if entry.shape == "cluster" else 1,
            entry.shape == "exchange",
        )
        blob = np.frombuffer(container.section("weights"), np.uint8)
        image = make_image(blob, entry.image)
        self.weights = DeviceMemory(device, image.size)
        self.weights.upload(image)

    def fits(self, streams: int) -> bool:
        """Whether so many streams may be run by it."""
        if self.entry.shape in _FREE_SHAPES:
            return True
        return streams * self.entry.team <= self.function.resident_blocks()


def _entry(item: Mapping[str, Any]) -> KernelEntry:
    major, minor = item["capability"]
    entry = KernelEntry(
        section=item["section"],
        form=item["form"],
        capability=(int(major), int(minor)),
        entry=item["entry"],
        shape=item["shape"],
        team=int(item["team"]),
        threads=int(item["threads"]),
        shared_bytes=int(item["shared_bytes"]),
        mail_bytes=int(item["mail_bytes"]),
        image=tuple(Layout.from_json(each) for each in item["image"]),
        streams=item["streams"],
        group=int(item.get("group", 1)),
        above=float(item.get("above", 0)),
    )
    sizes = (entry.threads, entry.shared_bytes, entry.mail_bytes)
    if (
        not all(isinstance(text, str) for text in (entry.section, entry.entry))
        or entry.shape not in _SHAPES
        or entry.form not in ("cubin", "ptx")
        or entry.streams not in ROLES
        or (entry.streams == "many" and entry.shape not in _FREE_SHAPES)
        or not 1 <= entry.team <= 1024
        or not 1 <= entry.group <= 1024
        or not 32 <= entry.threads <= 1024
        or not 0 <= entry.above < math.inf
        or min(sizes) < 0
    ):
        raise ValueError(f"kernel {entry.entry!r}")
    return entry
