"""What is asked of the time of samples, and of what becomes of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgelstm.io.alignment import SILENT_S
from edgelstm.io.decoding.recipe import Recipe
from edgelstm.io.gaps import OnGap


@dataclass(frozen=True, slots=True)
class TimeSettings:
    """How time and units of samples are treated, see `GapPolicy` and `Alignment`.

    Args:
        on_gap: None: gaps are not looked for.
        gap_limit_s: a longer gap is not bridged.
        gap_after_s: a longer step is a gap; None: one and a half periods.
        reorder_s: how long samples wait for earlier ones.
        is_resampled: samples are brought to the model's rate by their stamps.
        silent_s: a sensor without samples for so long is silent.
        offsets_s: added to the times of a sensor, by the name of its source; "" for all.
        scale: factors by column, see `parse_scale`.
        decode: what becomes of predictions; None: what the artifact says.
    """

    on_gap: OnGap | None = None
    gap_limit_s: float = 1.0
    gap_after_s: float | None = None
    reorder_s: float = 0.0
    is_resampled: bool = False
    silent_s: float = SILENT_S
    offsets_s: Mapping[str, float] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    decode: Recipe | None = None
