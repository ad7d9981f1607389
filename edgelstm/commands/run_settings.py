"""What the command line and a file of settings say together about a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.commands.run_live import is_live
from edgelstm.io.settings import FileSettings, LiveSettings, StreamSettings
from edgelstm.io.time_settings import TimeSettings
from edgelstm.outputs import STANDARD


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line and a file say together.

    Args:
        artifact: that the file names.
        settings: of the run.
        values: those that were given.
        file: where those that the command line does not say come from; None where all do.
    """

    artifact: Path | None
    settings: LiveSettings
    values: Mapping[str, Any]
    file: Path | None = None

    @property
    def is_live(self) -> bool:
        """Whether the run is one of the live pipeline."""
        streams = self.settings.streams
        inputs = [text for stream in streams for text in stream.inputs]
        is_named = any(stream.name or stream.patient for stream in streams)
        is_timed = not {"rate_hz", "is_realtime", "speed", "silence_s", "time"}.isdisjoint(
            self.values
        )
        return is_named or is_timed or is_live(inputs, self.settings.outputs)

    def policy(self, default: str) -> str:
        """What is done with bad samples of a recording."""
        policy = self.values.get("policy")
        return default if policy is None else str(policy.value)


def given_settings(
    inputs: Sequence[str],
    outputs: Sequence[str],
    options: Mapping[str, Any],
    config: Path | None,
) -> Given:
    """The settings of the command line, and behind them those of a file.

    Args:
        inputs: of the command line.
        outputs: the same.
        options: the same, under the names of `LiveSettings`; None where one is not given.
        config: the file.

    Raises:
        RecordingError: the file is wrong; names the line.
    """
    found = FileSettings(None, (), ())
    if config is not None:
        from edgelstm.io.toml_settings import read_settings  # the parser is for files alone

        found = read_settings(config)
    values = {**found.values, **{name: x for name, x in options.items() if x is not None}}
    if "time" in values:
        given = {**found.values.get("time", {}), **(options.get("time") or {})}
        values["time"] = TimeSettings(**given)
    streams = (StreamSettings(tuple(inputs)),) if inputs else found.streams
    settings = LiveSettings(
        streams or (StreamSettings((STANDARD,)),),
        tuple(outputs) or found.outputs or (STANDARD,),
        **values,
    )
    return Given(found.artifact, settings, values, config)
