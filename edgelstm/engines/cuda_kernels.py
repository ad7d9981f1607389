"""The kernels that an artifact lists, which of them a GPU runs, and how they are loaded.

`target.facts` of the manifest:

```
kernels: [{"section", "form": "cubin" | "ptx", "capability": [major, minor], "entry", "shape":
           "block" | "exchange" | "cluster" | "tensor", "team": blocks a stream, "group": streams
           a block, "threads", "shared_bytes", "mail_bytes", "image": [layouts of the weights],
           "streams": "one" | "many" | "doorbell", ...}]
```
"""

from __future__ import annotations

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

    def blocks(self, streams: int) -> int:
        """The grid for that many streams."""
        return -(-streams // self.group) * self.team

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
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactFormatError(
            f"the manifest's list of kernels is malformed ({error!r}); compile the model again"
        ) from error
    for entry in entries:
        container.section(entry.section)
    if not entries:
        raise ArtifactFormatError("the artifact holds no kernels; compile the model again")
    return entries


def best_entry(
    entries: Sequence[KernelEntry], streams: str, capability: tuple[int, int]
) -> KernelEntry | None:
    """The entry of that kind that suits a GPU best, or None."""
    ranked = [
        (rank, -index)
        for index, entry in enumerate(entries)
        if entry.streams == streams and (rank := entry.rank(capability)) is not None
    ]
    return entries[-max(ranked)[1]] if ranked else None


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
        if self.entry.shape in ("block", "tensor"):
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
    )
    sizes = (entry.threads, entry.shared_bytes, entry.mail_bytes)
    if (
        entry.shape not in _SHAPES
        or entry.form not in ("cubin", "ptx")
        or entry.streams not in ROLES
        or not 1 <= entry.team <= 1024
        or not 1 <= entry.group <= 1024
        or not 32 <= entry.threads <= 1024
        or min(sizes) < 0
    ):
        raise ValueError(f"kernel {entry.entry!r}")
    return entry
