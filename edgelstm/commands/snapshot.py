"""`edgelstm snapshot`: stored states of streams."""

from __future__ import annotations

from pathlib import Path

import click

import edgelstm.artifact
from edgelstm.commands.report import json_option, print_json, print_table, say
from edgelstm.errors import StreamError
from edgelstm.new_file import write_new
from edgelstm.state_conversion import convert_snapshot

LARGEST_SNAPSHOT_BYTES = 1 << 30
"""No file beyond this is read as a snapshot."""


@click.group("snapshot")
def snapshot_command() -> None:
    """Work with the stored state of a stream, `bytes(session.snapshot())`."""


@snapshot_command.command("convert")
@click.argument("old", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    required=True,
    metavar="ARTIFACT",
    type=click.Path(path_type=Path),
    help="What the snapshot was taken from.",
)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="ARTIFACT",
    type=click.Path(path_type=Path),
    help="The same model with another calibration or scheme.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The new snapshot.  [default: OLD with .converted appended]",
)
@click.option("--any-source", is_flag=True, help="Also where the ONNX files differ.")
@json_option
def convert_command(
    old: Path, source: Path, target: Path, output: Path | None, any_source: bool, as_json: bool
) -> None:
    """Make the snapshot OLD fit an artifact with other scales: every state rounded once.

    \b
    edgelstm snapshot convert gait.snap --from gait_v1.edgelstm --to gait_v2.edgelstm
    """
    output = output or old.with_name(old.name + ".converted")
    data = _read(old)
    before, after = edgelstm.artifact.load(source), edgelstm.artifact.load(target)
    snapshot, changes = convert_snapshot(data, before, after, any_source=any_source)
    write_new(output, bytes(snapshot), StreamError)
    if as_json:
        print_json(
            {
                "output": str(output),
                "model_id": snapshot.model_id,
                "states": [change.to_json() for change in changes],
            }
        )
        return
    say(f"{output} continues {old} on {after.name} ({snapshot.model_id[:12]}...)")
    rows = [
        [c.name, c.before, c.after, f"{c.max_error:.3g}", f"{c.saturated} of {c.elements}"]
        for c in changes
    ]
    print_table(["state", "from", "to", "largest change", "saturated"], rows)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_SNAPSHOT_BYTES + 1)
    except OSError as exc:
        raise StreamError(f"cannot read the snapshot {path}: {exc.strerror or exc}") from exc
    if len(data) > LARGEST_SNAPSHOT_BYTES:
        raise StreamError(
            f"{path} has more than {LARGEST_SNAPSHOT_BYTES} bytes: no snapshot of a session"
        )
    return data
