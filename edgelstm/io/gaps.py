"""Time made even as far as a policy says: duplicates, disorder, gaps and jitter of one stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import is_floating
from edgelstm.io.block import Array, Block, SampleFlag
from edgelstm.io.blocks import join_blocks
from edgelstm.io.tally import Tally

OnGap = Literal["feed", "hold", "interpolate", "reset"]
ON_GAP: tuple[OnGap, ...] = get_args(OnGap)

_REMEMBERED = 4096
"""How many sample numbers are remembered: what comes again after that counts as new."""


@dataclass(frozen=True, slots=True)
class GapPolicy:
    """What happens where samples are missing, double or late.

    Args:
        rate_hz: of the samples.
        on_gap: `feed`: nothing is changed, all is counted; `hold`, `interpolate`: missing samples
            are made, up to `limit_s`; `reset`: none are made. Behind a gap over `limit_s` the model
            starts afresh, except with `feed`.
        limit_s: a gap that is longer is not bridged.
        longest_step_s: a longer step between two stamps is a gap; one and a half periods if None.
            Senders that deliver in bursts need more.
        reorder_s: how long samples wait for earlier ones. Without waiting, late ones are dropped.
    """

    rate_hz: float
    on_gap: OnGap = "feed"
    limit_s: float = 1.0
    longest_step_s: float | None = None
    reorder_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz < np.inf:
            raise ValueError(f"rate_hz is {self.rate_hz}")
        if self.on_gap not in ON_GAP:
            raise ValueError(f"on_gap is {self.on_gap!r}, not one of {', '.join(ON_GAP)}")
        if not self.limit_s >= 0 or not self.reorder_s >= 0:
            raise ValueError("limit_s and reorder_s are durations")


class GapFilter:
    """A stage that applies a policy.

    Samples with a number that was there already are duplicates and dropped, whatever the policy.
    All but `feed` also drop samples that are late, and those that repeat stamp and values of the
    one before. Equal stamps with other values are a sender's bursts: kept and counted.

    A sample that is made has the number -1: it is nobody's sample, and has no key.
    """

    def __init__(self, policy: GapPolicy) -> None:
        self.policy = policy
        self.tally = Tally()
        self._period = 1.0 / policy.rate_hz
        longest = policy.longest_step_s
        self._longest = 1.5 * self._period if longest is None else longest
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self._keys: NDArray[np.float64] = np.empty(0)
        self._key = -np.inf
        self._newest = np.nan
        self._pending: Block | None = None
        self._last: Block | None = None  # one sample
        self._last_valid: Block | None = None
        self._stamp = np.nan  # the newest one handed on, and how many samples ago
        self._since = 0
        self._top = -1

    def feed(self, block: Block) -> list[Block]:
        """Samples in; what the policy makes of them."""
        self.tally.seen += len(block)
        block = self._without_known_numbers(block)
        if self.policy.reorder_s > 0:
            block = self._reorder(block)
        done = self._pass(block)
        self.tally.waiting = 0 if self._pending is None else len(self._pending)
        return done

    def finish(self) -> list[Block]:
        """What still waits for earlier samples."""
        pending, self._pending = self._pending, None
        self._keys = np.empty(0)
        done = [] if pending is None else self._pass(pending)
        self.tally.waiting = 0
        return done

    def _drop(self, block: Block, kept: NDArray[np.bool_], reason: str) -> Block:
        if kept.all():
            return block
        self.tally.dropped[reason] += int((~kept).sum())
        return block.at(kept)

    def _without_known_numbers(self, block: Block) -> Block:
        numbers = block.sequence
        newest = self._numbers.max(initial=-1)
        if len(numbers) and numbers[0] > newest and (np.diff(numbers) > 0).all():
            fresh = np.ones(len(numbers), np.bool_)
        else:
            fresh = np.zeros(len(numbers), np.bool_)
            fresh[np.unique(numbers, return_index=True)[1]] = True
            fresh = (fresh & ~np.isin(numbers, self._numbers)) | (numbers < 0)
        seen = numbers[fresh & (numbers >= 0)]
        self._numbers = np.concatenate([self._numbers, seen])[-_REMEMBERED:]
        return self._drop(block, fresh, "duplicate")

    def _reorder(self, block: Block) -> Block:
        """Sorted by stamp; those that nothing earlier is expected for any more."""
        newest = np.fmax.accumulate(np.concatenate([[self._newest], block.stamps]))
        self.tally.noted["out of order"] += int((block.stamps < newest[:-1]).sum())
        self._newest = float(newest[-1])
        block = self._drop(block, ~(block.stamps < newest[:-1] - self.policy.reorder_s), "late")
        # What has no stamp stays behind the sample that came in front of it.
        keys = _filled_forward(block.stamps, self._key)
        if len(keys):
            self._key = float(keys[-1])
        blocks = [block] if self._pending is None else [self._pending, block]
        joined = join_blocks(blocks)
        keys = np.concatenate([self._keys, keys])
        order = np.argsort(keys, kind="stable")
        joined, keys = joined.at(order), keys[order]
        # Before the first stamp there is nothing to wait for.
        newest_key = self._newest if np.isfinite(self._newest) else np.inf
        count = int(np.count_nonzero(keys <= newest_key - self.policy.reorder_s))
        self._pending, self._keys = joined.part(slice(count, len(joined))), keys[count:]
        return joined.part(slice(0, count))

    def _pass(self, block: Block) -> list[Block]:
        is_strict = self.policy.on_gap != "feed"
        newest = np.fmax.accumulate(np.concatenate([[self._stamp], block.stamps]))[:-1]
        late = block.stamps < newest
        if is_strict:
            block = self._drop(block, ~late, "late")
            block = self._drop(block, ~self._is_repeated(block), "duplicate")
        else:
            self.tally.noted["out of order"] += int(late.sum())
        if not len(block):
            return []
        self.tally.fed += len(block)
        tops = np.maximum.accumulate(np.concatenate([[self._top], block.sequence]))
        missing = self._missing(block, tops[:-1])
        done = self._bridge(block, missing)
        self._top = int(tops[-1])
        self._remember(block)
        return [done]

    def _is_repeated(self, block: Block) -> NDArray[np.bool_]:
        """Samples with the stamp and the values of the one before."""
        before = self._with_last(block)
        same = np.diff(before.stamps) == 0
        self.tally.noted["equal stamps"] += int(same.sum())
        for values in before.frames.values():
            if not same.any():
                break
            table = values.reshape(len(values), -1)
            one, other = table[1:], table[:-1]
            equal = (one == other) | ((one != one) & (other != other))
            same = same & equal.all(axis=1)
        self.tally.noted["equal stamps"] -= int(same.sum())
        return np.concatenate([np.zeros(len(block) - len(same), np.bool_), same])

    def _with_last(self, block: Block) -> Block:
        return block if self._last is None else join_blocks([self._last, block])

    def _missing(self, block: Block, tops: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many samples are missing in front of each one."""
        n = len(block)
        missing = np.zeros(n, np.int64)
        known = np.flatnonzero(np.isfinite(block.stamps))
        if len(known):
            at = np.concatenate([[-self._since], known]) if self._since else known
            stamps = block.stamps[known]
            stamps = np.concatenate([[self._stamp], stamps]) if self._since else stamps
            # A late sample that is fed all the same is no step back and none forward again.
            steps, counts = np.diff(np.maximum.accumulate(stamps)), np.diff(at)
            behind = at[1:]
            lacking = np.rint(steps / self._period).astype(np.int64) - counts
            # The step in front of a sample, less the time of what came without stamps.
            own = steps - (counts - 1) * self._period
            is_gap = (own > self._longest) & (lacking > 0)
            missing[behind] = np.where(is_gap, lacking, 0)
            uneven = ~is_gap & (np.abs(own - self._period) > 0.5 * self._period)
            self.tally.noted["jitter"] += int(uneven.sum())
        unknown = ~np.isfinite(block.stamps)
        skipped = np.where(tops < 0, 0, block.sequence - tops - 1)
        missing[unknown] = np.maximum(skipped, 0)[unknown]
        return missing

    def _bridge(self, block: Block, missing: NDArray[np.int64]) -> Block:
        if not missing.any():
            return block
        self.tally.noted["gaps"] += int(np.count_nonzero(missing))
        self.tally.noted["missing samples"] += int(missing.sum())
        limit = round(self.policy.limit_s * self.policy.rate_hz)
        is_long = missing > limit
        made = np.zeros_like(missing)
        if self.policy.on_gap in ("hold", "interpolate"):
            made = np.where(is_long, 0, missing)
            made[~self._has_valid_before(block)] = 0
        flags = block.flags.copy()
        flags[(missing > 0) & (made == 0)] |= np.uint8(SampleFlag.AFTER_GAP)
        if self.policy.on_gap != "feed":
            self.tally.noted["resets"] += int(is_long.sum())
            flags[is_long] |= np.uint8(SampleFlag.RESET)
        block = replace(block, flags=flags)
        if not made.any():
            return block
        self.tally.filled += int(made.sum())
        return _fill(block, made, self._before(block), is_held=self.policy.on_gap == "hold")

    def _has_valid_before(self, block: Block) -> NDArray[np.bool_]:
        valid = (block.flags & SampleFlag.INVALID) == 0
        before = np.concatenate([[self._last_valid is not None], valid[:-1]])
        return np.asarray(np.logical_or.accumulate(before))

    def _before(self, block: Block) -> Block:
        """The block with the last valid sample in front, which need not be the last one."""
        last = self._last_valid if self._last_valid is not None else block.part(slice(0, 1))
        if self._last is not None:
            stand_in = self._last
            last = Block(
                last.frames, stand_in.stamps, last.arrival, stand_in.sequence, stand_in.flags
            )
        return join_blocks([last, block])

    def _remember(self, block: Block) -> None:
        n = len(block)
        known = np.flatnonzero(np.isfinite(block.stamps))
        if len(known):
            self._stamp = float(np.fmax(np.max(block.stamps[known]), self._stamp))
            self._since = n - int(known[-1])
        elif self._since:
            self._since += n
        self._last = block.part(slice(n - 1, n))
        valid = np.flatnonzero((block.flags & SampleFlag.INVALID) == 0)
        if len(valid):
            self._last_valid = block.part(slice(valid[-1], valid[-1] + 1))


def _fill(block: Block, made: NDArray[np.int64], before: Block, *, is_held: bool) -> Block:
    """A block with `made` samples in front of each one.

    `before` is the block with the sample in front of it, whose values are the last valid ones.
    """
    n = len(block)
    valid = (before.flags & SampleFlag.INVALID) == 0
    last_valid = np.maximum.accumulate(np.where(valid, np.arange(n + 1), 0))
    # Of output row r: `to` is the sample that comes next, `step` how far r is towards it.
    to = np.repeat(np.arange(n), made + 1)
    starts = np.cumsum(made + 1) - (made + 1)
    step = np.arange(len(to)) - starts[to] + 1
    share = step / (made[to] + 1)
    is_made = step <= made[to]
    between = valid[1:][to] & valid[:-1][to] & (not is_held)
    frames = {
        name: _made(values, before.frames[name], to, last_valid[:-1][to], share, is_made, between)
        for name, values in block.frames.items()
    }
    stamps = before.stamps[to] + share * (block.stamps[to] - before.stamps[to])
    flag = np.where(between, int(SampleFlag.INTERPOLATED), int(SampleFlag.HELD)).astype(np.uint8)
    return Block(
        frames,
        np.where(is_made, stamps, block.stamps[to]),
        block.arrival[to],
        np.where(is_made, -1, block.sequence[to]),
        np.where(is_made, flag, block.flags[to]),
    )


def _made(
    values: Array,
    before: Array,
    to: NDArray[np.intp],
    held: NDArray[np.intp],
    share: Array,
    is_made: NDArray[np.bool_],
    is_between: NDArray[np.bool_],
) -> Array:
    result = values[to].copy()
    result[is_made] = before[held[is_made]]
    if is_floating(values.dtype):
        rows = is_made & is_between
        low, high = before[to[rows]].astype(np.float64), values[to[rows]].astype(np.float64)
        part = share[rows].reshape(-1, *[1] * (values.ndim - 1))
        result[rows] = (low + part * (high - low)).astype(values.dtype)
    return result


def _filled_forward(values: NDArray[np.float64], first: float) -> NDArray[np.float64]:
    """NaN replaced by the number in front of it."""
    at = np.where(np.isnan(values), -1, np.arange(len(values)))
    at = np.maximum.accumulate(at)
    return np.where(at < 0, first, values[np.maximum(at, 0)])
