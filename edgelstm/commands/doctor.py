"""`edgelstm doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

import edgelstm.artifact
from edgelstm.commands.report import json_option, print_json, say
from edgelstm.errors import EdgeLSTMError
from edgelstm.io.decoding.model_decoder import make_decoder
from edgelstm.io.decoding.recipe import recipe_from_json
from edgelstm.machine_checks import (
    Check,
    State,
    check_clock,
    check_disk,
    check_extras,
    check_installation,
    check_serial_ports,
)

_MARKS = {State.OK: "ok", State.MISSING: "-", State.WARNING: "!", State.FAULT: "FAULT"}


@click.command("doctor")
@click.argument("artifacts", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where outputs go.  [default: here]",
)
@json_option
def doctor_command(artifacts: tuple[Path, ...], folder: Path, as_json: bool) -> None:
    """Look at this machine, and at ARTIFACTS: what is there, what is missing, and how to get it.

    \b
    edgelstm doctor
    edgelstm doctor phase.edgelstm --folder /var/lib/ward
    """
    checks = [
        *check_installation(),
        *check_extras(),
        *check_serial_ports(),
        check_clock(),
        check_disk(folder.resolve()),
        *(_check_artifact(path) for path in artifacts),
    ]
    faults = [check for check in checks if check.state is State.FAULT]
    if as_json:
        rows = [
            {
                "subject": check.subject,
                "state": check.state.value,
                "text": check.text,
                "remedy": check.remedy,
            }
            for check in checks
        ]
        print_json({"ok": not faults, "checks": rows})
    else:
        width = max(len(check.subject) for check in checks)
        for check in checks:
            say(f"{_MARKS[check.state]:5s}  {check.subject.ljust(width)}  {check.text}")
            if check.remedy:
                say(f"{'':5s}  {'':{width}}  -> {check.remedy}")
    if faults:
        click.get_current_context().exit(1)


def _check_artifact(path: Path) -> Check:
    """Whether an artifact is whole, runs here, and can be decoded as it says."""
    subject = f"artifact {path}"
    try:
        artifact = edgelstm.artifact.load(path)
        description = artifact.description
        with artifact.session() as session:
            facts = session.kernel.facts
        if description.decoding is not None:
            recipe = recipe_from_json(description.decoding, str(path))
            make_decoder(recipe, artifact.signature, description)
    except (EdgeLSTMError, OSError) as exc:
        return Check(subject, State.FAULT, str(exc))
    return Check(
        subject, State.OK, f"{artifact.name} runs here ({', '.join(map(str, facts.values()))})"
    )
