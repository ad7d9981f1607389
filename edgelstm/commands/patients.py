"""`edgelstm patients`: the patients of a store: list, export, erase, retain."""

from __future__ import annotations

import getpass
from contextlib import closing
from pathlib import Path

import click

from edgelstm.commands.report import json_option, print_json, say
from edgelstm.errors import OutputError
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.audit_log import append_entry, patient_digest
from edgelstm.monitor.erasure import apply_retention, erase_patient
from edgelstm.monitor.export import dump, to_csv, to_fhir, to_json
from edgelstm.monitor.history import History
from edgelstm.outputs import STANDARD, check_output, write_output

_STORE = click.argument("store", type=click.Path(path_type=Path, dir_okay=False))


@click.group("patients")
def patients_command() -> None:
    """Work with the patients of a store, by their pseudonyms."""


@patients_command.command("list")
@_STORE
@json_option
def list_command(store: Path, as_json: bool) -> None:
    """List patients with their visits and trials."""
    with closing(open_store(store, is_new_allowed=False)) as connection:
        history = History(connection)
        found = [history.of_patient(name) for name in history.patients()]
    rows = [
        {
            "patient": each.pseudonym,
            "visits": len(each.visits),
            "trials": sum(len(visit.trials) for visit in each.visits),
        }
        for each in found
    ]
    if as_json:
        print_json({"patients": rows})
        return
    for row in rows:
        say(f"{row['patient']}: {row['visits']} visits, {row['trials']} trials")


@patients_command.command("export")
@_STORE
@click.argument("patient")
@click.option("--format", "kind", type=click.Choice(["csv", "json", "fhir"]), default="csv")
@click.option("-o", "--output", default=STANDARD, help="[default: standard output]")
def export_command(store: Path, patient: str, kind: str, output: str) -> None:
    """Export the trials of PATIENT: CSV, JSON with trends, or a FHIR R4 bundle."""
    if output != STANDARD:
        check_output(output, (store,), OutputError)
    with closing(open_store(store, is_new_allowed=False)) as connection:
        found = History(connection).of_patient(patient)
        text = (
            to_csv(found)
            if kind == "csv"
            else dump({"json": to_json, "fhir": to_fhir}[kind](found))
        )
        subject = patient_digest(connection, patient)
        append_entry(connection, _actor(), "exported patient", subject, kind)
    write_output(output, text.encode())


@patients_command.command("erase")
@_STORE
@click.argument("patient")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_command(store: Path, patient: str, yes: bool) -> None:
    """Remove everything of PATIENT from STORE; nothing of it stays in the file."""
    with closing(open_store(store, is_new_allowed=False)) as connection:
        if not yes:
            click.confirm(f"Remove everything of {patient} for good?", abort=True)
        count = erase_patient(connection, patient, _actor())
    say(f"removed {patient}: {count} runs")


@patients_command.command("retain")
@_STORE
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Runs that began earlier are removed.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def retain_command(store: Path, days: float, dry_run: bool, as_json: bool) -> None:
    """Remove runs from STORE that are older than their retention."""
    with closing(open_store(store, is_new_allowed=False)) as connection:
        found = apply_retention(connection, days, _actor(), dry_run)
    if as_json:
        print_json({"removed": [list(each) for each in found], "dry_run": dry_run})
        return
    done = "would be removed" if dry_run else "removed"
    say(f"{len(found)} runs {done}")
    for session, pseudonym in found:
        say(f"  run {session}: {pseudonym or 'no patient'}")


def _actor() -> str:
    try:
        return f"account {getpass.getuser()}"
    except (KeyError, OSError):
        return "account unknown"
