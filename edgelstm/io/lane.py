"""One stream on its way: samples of its sensor through stages and model to predictions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.errors import RecordingError, StreamError
from edgelstm.io.assign import AssignInputs
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.checkpoint import (
    Checkpoint,
    Remembered,
    damaged_checkpoint,
    policy_to_json,
    read_policy,
)
from edgelstm.io.counters import Counters
from edgelstm.io.decoding.lane_decoder import LaneDecoder
from edgelstm.io.feeder import Fed, Feeder
from edgelstm.io.fusion import Fusion
from edgelstm.io.lane_options import LaneOptions, model_identity
from edgelstm.io.lane_stages import (
    BeginBehind,
    cut_at_resets,
    model_rate,
    recipe_of_model,
    stages_behind,
    stages_in_front,
)
from edgelstm.io.live import Channels, Delivery
from edgelstm.io.named_outputs import NamedOutputs
from edgelstm.io.numbering import GROUP
from edgelstm.io.ordering import Ordering
from edgelstm.io.predictions import UNTRUSTED, Event, ModelIdentity, Predictions
from edgelstm.io.stage import Chain, Stage

_UNTRUSTED = np.uint8(UNTRUSTED)
_RESET = int(SampleFlag.RESET)

RESERVED = 1_000_000
"""Numbers that a run which was killed may have used behind its last checkpoint."""

_EPOCH = 1e8
"""Stamps beyond this are seconds since 1970, not since the device began."""


@dataclass(slots=True)
class Lane:
    """One stream; see the module.

    Args:
        name: part of the key of every prediction.
        model: what is run.
        options: how.
        is_replay: its samples come again when it is opened anew, and have no time of arrival.
    """

    name: str
    model: Artifact
    options: LaneOptions
    is_replay: bool = False
    counters: Counters = field(default_factory=Counters)
    error: StreamError | None = None
    """Why the stream ended in front of its source: the policy is to stop at a bad sample."""
    identity: ModelIdentity = field(init=False)
    last_label: str = ""
    events: list[Event] = field(default_factory=list)
    """What there is to tell; whoever tells it takes it out."""
    _decoder: LaneDecoder | None = None
    _fusion: Fusion | None = None
    _feeder: Feeder = field(init=False)
    _named: NamedOutputs = field(init=False)
    _ordering: Ordering = field(init=False)
    _chain: Chain | None = None
    _assign: AssignInputs | None = None
    _channels: Channels | None = None
    _mapping: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _suppressed: int = -1
    _is_end_told: bool = False
    _anchor: float | None = None
    _committed: int = -1
    _begin_at: int = 0
    _reserved: int = 0
    _offset: int | None = None
    _is_after_restart: bool = False

    def __post_init__(self) -> None:
        model = self.model
        self._named = NamedOutputs(model.signature, model.description)
        self.identity = model_identity(model, self._named)
        self._ordering = Ordering(self.counters)
        if self.options.sensors:
            if self.options.rate_hz is None:
                raise RecordingError(
                    f"{self.name}: several sensors meet at the model's rate, which is not known: "
                    "give --rate HZ"
                )
            self._fusion = Fusion(
                self.options.sensors,
                self._rate_of_predictions() or self.options.rate_hz,
                self.options.rate_hz,
                self.options.time,
                self.counters,
                self._remark,
            )
        recipe = recipe_of_model(self.options.time, model)
        if recipe is not None and (recipe.has_phases or recipe.alarms):
            self._decoder = LaneDecoder(recipe, model, self.name, self._rate_of_predictions())
        # The session comes last: what is refused above has none to close.
        self._feeder = Feeder(
            model.session(),
            self.options.policy,
            self.counters,
            self.options.reset_every,
            self.options.keeps_inputs,
        )

    @property
    def decoder(self) -> LaneDecoder | None:
        """What makes events of predictions; None where nothing does."""
        return self._decoder

    @property
    def last_sample(self) -> int:
        """Number of the last sample that was dealt with; -1 in front of the first."""
        return self._ordering.last

    @property
    def model_ns(self) -> int:
        """Time spent in the model."""
        return self._feeder.replay.model_ns

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which columns feed which input, once that is known."""
        return self._mapping if self._assign is None else self._assign.mapping

    def resume(self, checkpoint: Checkpoint) -> str:
        """Go on where an earlier run stopped; what there is to say about it.

        A recording is read again, and what is done already left out. A live stream has a gap.

        Raises:
            StreamError: the checkpoint is damaged, or of another model.
        """
        last = checkpoint.last_sample
        self._committed = last
        if self.is_replay and self._decoder is not None:
            # What a decoder remembers comes out of the outputs: they are made again, unsaid.
            self._suppressed, self._is_end_told = last, read_policy(checkpoint.policy).is_over
            return f"goes on behind sample {last}"
        self._ordering = Ordering(self.counters, last)
        gap_s = max(time.time() - checkpoint.time, 0.0)
        is_old = not self.is_replay and gap_s > self.options.restart_gap_s
        remembered = read_policy(checkpoint.policy)
        if not is_old:
            self._feeder.session.restore(checkpoint.snapshot)
            self._feeder.remember(remembered)
            self._anchor = remembered.anchor
        if self.is_replay:
            return f"goes on behind sample {last}"
        self._begin_at = last + 1
        self._reserved = 0 if checkpoint.is_clean else RESERVED
        self._is_after_restart = True
        self.counters.noted["gaps by restarts"] += 1
        decoding = self._resume_decoding(remembered.decoding, is_old)
        state = "begins anew" if is_old else "goes on with its state"
        return f"{state} after {gap_s:.1f} s without this program{decoding}"

    def _resume_decoding(self, state: Mapping[str, Any] | None, is_old: bool) -> str:
        """Have the decoder go on where an earlier run stopped; what is to be said beside that.

        Where that is too long ago, what was going on ends there, and alarms stay.
        """
        if self._decoder is None or state is None:
            return ""
        try:
            is_same = self._decoder.restore(state)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise damaged_checkpoint(exc) from exc
        if not is_same:
            return "; phases and alarms begin anew: it decodes by another recipe"
        if is_old:
            self.events += self._decoder.begin_anew()
        return ""

    def take(self, delivery: Delivery, sensor: str = "") -> list[Predictions]:
        """What the model says to a delivery, which is counted already; see also `error`.

        Args:
            delivery: samples.
            sensor: whose they are, of several.

        Raises:
            RecordingError: which columns feed the model is not clear.
        """
        block = delivery.block
        if self._fusion is not None:
            return self._predict_fused(self._fusion, self._fusion.take(sensor, delivery))
        if block is None or not len(block):
            return []
        if self._offset is None:
            is_counted = delivery.channels is not None and delivery.channels.is_counted
            self._begin(int(block.sequence[0]), is_counted)
        faults = delivery.faults
        if self._offset:
            block = replace(block, sequence=block.sequence + self._offset)
            faults = {number + self._offset: reason for number, reason in faults.items()}
        if self._is_after_restart:
            block = replace(block, flags=block.flags.copy())
            block.flags[0] |= SampleFlag.AFTER_GAP
            self._is_after_restart = False
        self._feeder.faults.update(faults)
        chain = self._chain
        if chain is None or delivery.channels != self._channels:
            self._mapping = delivery.mapping
            chain = self._make_chain(delivery.channels)
        return self._predict(chain.feed(block))

    def finish(self, *, is_over: bool = True) -> list[Predictions]:
        """What stages held back.

        Args:
            is_over: the stream ends here; else another run goes on with it.
        """
        done: list[Predictions] = []
        if self._fusion is not None:
            done += self._predict_fused(self._fusion, self._fusion.finish())
        if self._chain is not None:
            done += self._predict(self._chain.finish())
        if is_over and self.error is None:
            done += self._said(self._feeder.end(), is_told=not self._is_end_told)
        if self._decoder is not None:
            self.events += self._decoder.finish()
        return done

    def close(self) -> None:
        """End the session."""
        self._feeder.session.close()

    def checkpoint(self, is_clean: bool = False) -> Checkpoint | None:
        """Where the stream stands; None where it stands where the last one was taken."""
        last = self._ordering.last
        is_old = last < 0 or last < self._suppressed
        if self.error is not None or is_old or (last == self._committed and not is_clean):
            return None
        self._committed = last
        return Checkpoint(
            self.name,
            self.model.model_id,
            last,
            bytes(self._feeder.session.snapshot()),
            policy_to_json(self._remembered()),
            time.time(),
            is_clean,
        )

    def _remembered(self) -> Remembered:
        replay, decoder = self._feeder.replay, self._decoder
        # Of a recording the outputs are made again, and what is decoded comes out of them.
        state = None if decoder is None or self.is_replay else decoder.state()
        late, waiting = replay.late, self._feeder.waiting
        return Remembered(
            replay.since_reset,
            replay.last_good,
            self._anchor,
            self._feeder.quality.recent,
            state,
            None if late is None else late.to_json(),
            None if waiting is None else waiting.to_json(),
            replay.is_over,
        )

    def _begin(self, first: int, is_counted: bool) -> None:
        """The first sample of this run: its number is behind those of earlier ones.

        The numbers of a sensor that counts go on by themselves, which shows what is missing.
        """
        begin_at = self._begin_at if is_counted else self._begin_at + self._reserved
        if self.options.time.is_resampled:
            self._offset = 0  # ticks have numbers of their own, which `BeginBehind` moves
            return
        self._offset = 0 if self.is_replay or first >= begin_at else begin_at - first

    def _make_chain(self, channels: Channels | None) -> Chain:
        if self._chain is not None and self._channels is not None and channels is not None:
            raise RecordingError(
                f"{self.name}: the columns were {', '.join(self._channels.names)}, and are now "
                f"{', '.join(channels.names)}: start again with the new ones"
            )
        self._channels = channels
        options, counters = self.options, self.counters
        stages = list(options.stages(self.name, counters))
        stages += stages_in_front(
            self.name, options.time, self.model, options.rate_hz, counters, self._remark
        )
        if options.time.is_resampled and not self.is_replay:
            stages.append(BeginBehind(self._begin_at + self._reserved))
        groups = {} if channels is None else {GROUP: channels}
        self._chain = chain = Chain([*stages, *self._stages_of_inputs(groups)])
        return chain

    def _stages_of_inputs(self, groups: Mapping[str, Channels]) -> list[Stage]:
        """From columns, or inputs already, to what the model is fed."""
        options, signature = self.options, self.model.signature
        stages: list[Stage] = []
        if groups:
            self._assign = AssignInputs(
                signature,
                groups,
                options.columns,
                self.model.description.names(signature),
                self.name,
            )
            stages.append(self._assign)
        stages += stages_behind(
            options.time,
            self.model,
            self.mapping,
            self._rate_of_predictions(),
            self.counters,
            self._remark,
        )
        return [*stages, self._ordering]

    def _predict_fused(self, fusion: Fusion, blocks: Sequence[Block]) -> list[Predictions]:
        """What the model says to ticks of several sensors."""
        if not blocks:
            return []
        if self._chain is None:
            begin: list[Stage] = []
            if not self.is_replay:
                begin.append(BeginBehind(self._begin_at + self._reserved))
            self._chain = Chain([*begin, *self._stages_of_inputs(fusion.channels or {})])
        if self._is_after_restart:
            flags = blocks[0].flags.copy()
            flags[0] |= np.uint8(SampleFlag.AFTER_GAP)
            blocks = [replace(blocks[0], flags=flags), *blocks[1:]]
            self._is_after_restart = False
        return self._predict([out for block in blocks for out in self._chain.feed(block)])

    def _predict(self, blocks: Sequence[Block]) -> list[Predictions]:
        out = []
        for block in self._stretches(blocks):
            is_told = not self._is_suppressed(block)
            if int(block.flags[0]) & _RESET:
                out += self._begin_anew(is_told=is_told)
            fed = self._feeder.feed(block)
            self.error = fed.error
            out += self._said(fed, is_told=is_told)
            if self.error is not None:
                break
        return out

    def _said(self, fed: Fed | None, *, is_told: bool) -> list[Predictions]:
        """Predictions for the sinks; none where an earlier run has told them."""
        told = len(self.events)
        predictions = None if fed is None else self._predictions(fed)
        if not is_told:
            del self.events[told:]
        elif predictions is not None:
            self.counters.predictions += len(predictions)
            return [predictions]
        return []

    def _stretches(self, blocks: Sequence[Block]) -> Iterator[Block]:
        """The blocks cut where the model begins anew, and behind what an earlier run has said."""
        for block in [part for each in blocks for part in cut_at_resets(each)]:
            if self._suppressed < 0:
                yield block
                continue
            newest = np.maximum.accumulate(block.sequence)
            cut = int(np.searchsorted(newest, self._suppressed, "right"))
            if 0 < cut < len(block):
                yield block.part(slice(0, cut))
                yield block.part(slice(cut, len(block)))
            else:
                yield block

    def _is_suppressed(self, block: Block) -> bool:
        """Whether an earlier run has said what there is to say; false from there on."""
        if self._suppressed < 0:
            return False
        if block.sequence.max() > self._suppressed:
            self._suppressed = -1
        return self._suppressed >= 0

    def _begin_anew(self, *, is_told: bool) -> list[Predictions]:
        """A gap that is too long: the state is of another time."""
        done = self._said(self._feeder.restart(), is_told=is_told)
        if self._decoder is not None:
            events = self._decoder.begin_anew()
            self.events += events if is_told else []
        return done

    def _remark(self, text: str) -> None:
        model = self.model
        event = Event(self.name, time.time(), "warning", text)
        self.events.append(replace(event, model=model.name, model_id=model.model_id))

    def _rate_of_predictions(self) -> float | None:
        rate = self.options.rate_hz
        if (self.options.time.is_resampled or self.options.sensors) and rate is not None:
            return model_rate(self.model, rate)
        return rate

    def _predictions(self, fed: Fed) -> Predictions | None:
        samples = fed.samples
        if not len(samples):
            return None
        block = samples.block
        sequence = block.sequence
        times = self._time(block.stamps, block.arrival, sequence)
        valid = (fed.flags & _UNTRUSTED) == 0
        said = fed.outputs
        if self._decoder is not None:
            self.events += self._decoder.feed(said, times, sequence, valid)
        flags = fed.flags
        if not (sequence >= 0).all():
            # Samples that were made move the model on, and are nobody's: they have no key.
            own = np.flatnonzero(sequence >= 0)
            samples, times, valid, flags = samples.of(own), times[own], valid[own], flags[own]
            said = {name: values[own] for name, values in said.items()}
            if not len(samples):
                return None
            block = samples.block
        outputs, labels = self._named.apply(said, {})
        for names in labels.values():
            self.last_label = names[-1]
        inputs = dict(block.frames) if self.options.keeps_inputs else {}
        return Predictions(
            self.name,
            self.identity,
            block.sequence,
            times,
            block.stamps,
            block.arrival,
            flags,
            valid,
            samples.quality,
            outputs,
            labels,
            inputs,
        )

    def _time(
        self, stamps: NDArray[np.float64], arrival: NDArray[np.float64], sequence: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        if not self.is_replay:
            return arrival + (time.time() - time.monotonic())
        rate = self.options.rate_hz
        numbers = np.maximum.accumulate(sequence)
        own = np.where(np.isfinite(stamps), stamps, numbers / rate if rate else np.nan)
        if own[0] > _EPOCH:
            return own
        if self._anchor is None:
            self._anchor = time.time() - (float(own[0]) if np.isfinite(own[0]) else 0.0)
        return np.where(np.isfinite(own), own, 0.0) + self._anchor
