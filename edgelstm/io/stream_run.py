"""One run of a stream from its source to its output, which ends well whatever ends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.description import Description
from edgelstm.errors import RecordingError
from edgelstm.interruption import StopRequest
from edgelstm.io.base import Batch, Recording, Source
from edgelstm.io.continuation import expect_continued
from edgelstm.io.files import Format, open_sink, open_source, output_format
from edgelstm.io.named_outputs import NamedOutputs, NamedSink
from edgelstm.io.ndjson import NdjsonSource
from edgelstm.io.numbers import Decimal
from edgelstm.io.replay import BadSamplePolicy, Replay
from edgelstm.io.sinks.output_sink import OutputSink
from edgelstm.io.sources.chunked import ChunkedSource
from edgelstm.io.sources.wrapped import WrappedSource
from edgelstm.io.state_file import StreamState, Written, read_state, save_state
from edgelstm.io.step_rows import ChunkEnds, Rows, row_columns, row_signature, step_rows
from edgelstm.io.watch import WatchedSource
from edgelstm.outputs import STANDARD, Protected, check_output
from edgelstm.sessions import mode_of

Progress = Callable[[Source], AbstractContextManager[Callable[[int], None]]]
"""Shows how far a recording is; what it yields is called with each advance."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a run is asked for; see `edgelstm run --help`.

    Args:
        input_path: a recording, or `-`.
        output_path: where predictions go, or `-`.
        decimal: sign in front of decimals in CSV; None to find it.
        protect: what is read besides, and must not be written over.
        state_path: where the state is kept; None: nowhere.
        is_resumed: continue behind the last frame of the state file.
        save_every_s: seconds between two states, at least.
        reset_every: frames fed after which the stream begins anew; None: never.
    """

    input_path: str
    output_path: str
    protect: tuple[Protected, ...] = ()
    input_format: Format | None = None
    output_format: Format | None = None
    columns: Sequence[str] = ()
    keep: Sequence[str] = ()
    has_header: bool = True
    decimal: Decimal | None = None
    policy: BadSamplePolicy = BadSamplePolicy.RAISE
    state_path: Path | None = None
    is_resumed: bool = False
    save_every_s: float = 10.0
    reset_every: int | None = None


@dataclass(slots=True)
class StreamRun:
    """A run, and what there is to tell about it at any time, also after it failed.

    Args:
        model: what is run.
        options: how.
        say: called with what is odd about the data.
    """

    model: Artifact
    options: StreamOptions
    say: Callable[[str], None] = lambda text: None
    _replay: Replay | None = None
    _sink: OutputSink | None = None
    _first: int = 0
    _bad_before: int = 0
    _saved_at: float = field(default_factory=monotonic)
    _remarks: list[str] = field(default_factory=list)
    _is_cut: bool = False

    def run(self, stop: StopRequest, show: Progress) -> None:
        """Run to the end of the source.

        Args:
            stop: signals; one ends the run behind the frame it comes at.
            show: see `Progress`.

        Raises:
            EdgeLSTMError: what was predicted before is written, and the state is saved.
            Interrupted: a signal came; the same.
        """
        state = self._read_state()
        with ExitStack() as stack:
            with stop.raising():
                opened = stack.enter_context(self._open_source())
                is_ndjson = isinstance(opened, NdjsonSource)
                if isinstance(opened, ChunkedSource):
                    opened.keep_every_frame()
                    self._is_cut = True
                told = tuple(opened.remarks)
                for remark in told:
                    self._say(remark)
                model = self.model
                source: Source = WatchedSource(
                    opened, model.signature, model.description, self._say
                )
                if state is not None and source.total is not None:
                    source = _Remainder(source, state.last_frame)
                session = stack.enter_context(self.model.session())
                if state is not None:
                    session.restore(state.snapshot)
                    self._first, self._bad_before = state.last_frame, state.bad_frames
            # Arrays are written when the output ends; the state is saved behind that.
            stack.callback(self._save)
            with stop.raising():
                output_format = self._output_format(is_ndjson)
                named = self._named(output_format, (*source.kept, *self._columns(source)))
                sink = stack.enter_context(
                    self._open_sink(named, output_format, state, source.total is None)
                )
            self._sink = sink
            rows = self._rows(state)
            self._replay = replay = Replay(
                session,
                _Waiting(source, stop),
                NamedSink(sink, named),
                self.options.policy,
                self.options.reset_every,
                rows=rows,
                stays_open=self._stays_open(source),
            )
            if state is not None:
                replay.since_reset = state.since_reset
                replay.last_good = dict(state.last_good)
                replay.is_over = state.is_over
                if replay.late is not None and state.late is not None:
                    replay.late.restore(state.late)
                    replay.late.skip_said(_lines_behind(state.written, sink.written))
            sink.while_waiting(stop.check)
            # A reader may wait for the header before it sends the first sample.
            sink.flush()
            self._save()
            self._feed(replay, stop, stack.enter_context(show(source)))
            for remark in opened.remarks[len(told) :]:
                self._say(remark)
            if isinstance(rows, ChunkEnds) and replay.stays_open and rows.waiting:
                self._say(
                    f"the last {rows.waiting} frames fill no step of {model.signature.chunk}: "
                    "their row comes when --resume goes on behind them"
                )

    def _feed(self, replay: Replay, stop: StopRequest, advance: Callable[[int], None]) -> None:
        read = 0
        is_first = True

        def progress() -> None:
            nonlocal read, is_first
            advance(replay.source.done - read)
            read = replay.source.done
            # A new output is to be known as soon as it has taken the name of an old one.
            if monotonic() - self._saved_at >= self.options.save_every_s or is_first:
                self._save()
            is_first = is_first and not replay.frames_out
            stop.check()

        replay.run(progress)

    def summary(self) -> dict[str, Any] | None:
        """What happened so far; None before there was anything."""
        replay, sink = self._replay, self._sink
        if replay is None or sink is None:
            return None
        summary = {
            "artifact": self.model.name,
            "engine": dict(replay.session.kernel.facts),
            "frames": replay.frames_in,
            "predictions": sink.predictions,
            "fed": replay.frames_fed,
            "bad_frames": replay.bad_frames,
            "bad_by_reason": dict(replay.bad_by_reason),
            "on_bad_sample": replay.policy.value,
            "columns": {name: list(names) for name, names in replay.source.mapping.items()},
            "ns_per_step": round(replay.model_ns / max(replay.frames_run, 1), 1),
        }
        summary["warnings"] = list(self._remarks)
        if self.options.state_path is not None:
            summary["state_file"] = str(self.options.state_path)
            summary["first_frame"] = self._first + 1
        return summary

    def _say(self, remark: str) -> None:
        self._remarks.append(remark)
        self.say(remark)

    def _read_state(self) -> StreamState | None:
        options = self.options
        if options.state_path is None:
            return None
        if self.model.signature.is_late and self._rows(None) is not None:
            raise RecordingError(
                f"--state-file with a step of {self.model.signature.chunk} frames of "
                f"{self.model.name!r}, whose outputs come later than their frames: compile it "
                "without --chunk, or leave --state-file out"
            )
        _expect_apart(options.state_path, options)
        state = read_state(options.state_path)
        if not options.is_resumed:
            return None
        expect_continued(
            options.output_path, None if state is None else state.written, options.state_path
        )
        if state is not None and state.model_id != self.model.model_id:
            raise RecordingError(
                f"{options.state_path} is the state of {state.artifact!r} "
                f"({state.model_id[:12]}...), not of this {self.model.name!r} "
                f"({self.model.model_id[:12]}...): name the artifact it was saved with, or remove "
                "it to begin anew"
            )
        return state

    def _open_source(self) -> AbstractContextManager[Recording]:
        options = self.options
        return open_source(
            options.input_path,
            self.model.signature,
            options.input_format,
            options.columns,
            options.keep,
            options.has_header,
            self.model.description.names(self.model.signature),
            options.decimal,
        )

    def _output_format(self, is_ndjson: bool) -> Format:
        options = self.options
        if options.output_format is not None:
            return options.output_format
        if options.output_path == STANDARD:
            return "ndjson" if is_ndjson else "csv"
        return output_format(options.output_path)

    def _rows(self, state: StreamState | None) -> Rows | None:
        """What makes lines of steps of several frames, behind the frames of an earlier run."""
        signature = self.model.signature
        since = 0 if state is None else state.since_reset
        phase = since % signature.chunk
        return step_rows(signature, is_cut=self._is_cut, fed=self._first, phase=phase)

    def _stays_open(self, source: Source) -> bool:
        """Whether the stream goes on in another run: its state is kept.

        Recordings end; where something is told of an end, they end once.
        """
        is_told = self.model.signature.is_late and source.total is not None
        return self.options.state_path is not None and not is_told

    def _columns(self, source: Source) -> tuple[str, ...]:
        """What is told about each answer, in columns of its own.

        Raises:
            RecordingError: a column that passes through has such a name.
        """
        signature = self.model.signature
        columns = mode_of(signature.mode).columns or row_columns(signature, is_cut=self._is_cut)
        taken = [name for name in columns if name in source.kept]
        if taken:
            raise RecordingError(
                f"--keep {taken[0]}: a column of this name tells which frames an answer stands "
                "for; rename it in the recording, or leave it out"
            )
        return columns

    def _named(self, chosen: Format, kept: Sequence[str]) -> NamedOutputs:
        """The names of the outputs; NPY, which has room for one array, has none."""
        description = Description() if chosen == "npy" else self.model.description
        written = row_signature(self.model.signature, is_cut=self._is_cut)
        return NamedOutputs(written, description, kept)

    def _open_sink(
        self, named: NamedOutputs, chosen: Format, state: StreamState | None, is_live: bool
    ) -> AbstractContextManager[OutputSink]:
        options = self.options
        return open_sink(
            options.output_path,
            named.signature,
            chosen,
            named.kept,
            (*options.protect, options.input_path),
            None if state is None else state.written,
            is_live,
        )

    def _save(self) -> None:
        """Save the state if the output is as far as the state is."""
        replay, sink, path = self._replay, self._sink, self.options.state_path
        if path is None or replay is None or sink is None or not sink.is_whole:
            return
        sink.sync()
        state = StreamState(
            self.model.name,
            self.model.model_id,
            self._first + replay.frames_done,
            self._bad_before + replay.bad_frames,
            bytes(replay.session.snapshot()),
            replay.last_good,
            sink.written,
            replay.since_reset,
            None if replay.late is None else replay.late.to_json(),
            replay.is_over,
        )
        save_state(path, state)
        self._saved_at = monotonic()


class _Waiting(WrappedSource[Source]):
    """A source that a signal ends while it waits for frames."""

    def __init__(self, source: Source, stop: StopRequest) -> None:
        super().__init__(source)
        self._stop = stop

    def batches(self) -> Iterator[Batch]:
        batches = iter(self._source.batches())
        while True:
            with self._stop.raising():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


class _Remainder(WrappedSource[Source]):
    """A recording behind its first frames."""

    def __init__(self, source: Source, skipped: int) -> None:
        super().__init__(source)
        self._skipped = skipped

    def batches(self) -> Iterator[Batch]:
        left = self._skipped
        for batch in self._source.batches():
            skipped = min(left, len(batch))
            left -= skipped
            if skipped < len(batch):
                yield batch.part(slice(skipped, len(batch))) if skipped else batch
        if left:
            raise RecordingError(
                f"the recording has {self._skipped - left} frames, the state file tells of "
                f"{self._skipped}: it is another recording, or was cut"
            )


def _lines_behind(saved: Written | None, found: Written | None) -> int:
    """Lines that an earlier run wrote behind the state that it saved last, and that stay."""
    if saved is None or found is None:
        return 0
    return max(found.predictions - saved.predictions, 0)


def _expect_apart(state_path: Path, options: StreamOptions) -> None:
    """The state file is none of the others, also where none of them is there yet."""
    if str(state_path) == STANDARD:
        raise RecordingError("--state-file takes the name of a file, not -")
    others = [*options.protect, options.input_path, options.output_path]
    for other in others:
        if isinstance(other, int) or other == STANDARD:
            continue
        if os.path.realpath(other) == os.path.realpath(state_path):
            raise RecordingError(
                f"the state file {state_path} is also {os.fspath(other)}: name another file"
            )
    check_output(state_path, others, RecordingError)
