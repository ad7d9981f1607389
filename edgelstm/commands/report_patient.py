"""`edgelstm report-patient`: a patient's printable report from a store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from edgelstm.errors import OutputError
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.history import History
from edgelstm.monitor.patient_page import patient_report
from edgelstm.outputs import STANDARD, check_output, write_output


@click.command("report-patient")
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("patient")
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE.html",
    help="- is standard output.",
)
@click.option(
    "--sem",
    "errors",
    multiple=True,
    metavar="MEASURE=VALUE",
    help="Standard error of measurement from elsewhere, such as total=0.9, in place of the one "
    "that repeated trials show; again for each measure.",
)
def report_patient_command(store: Path, patient: str, output: str, errors: tuple[str, ...]) -> None:
    """Write a report on PATIENT (a pseudonym) from STORE: one HTML file, to read and to print.

    Trends of every measure with the minimal detectable change, side against side, trials, notes.

    \b
    edgelstm report-patient ward.db P017 -o P017.html
    edgelstm report-patient ward.db P017 --sem total=0.9 -o P017.html
    """
    if output != STANDARD:
        check_output(output, (store,), OutputError)
    with closing(open_store(store, is_new_allowed=False)) as connection:
        # Errors that are given here are for this report alone.
        connection.execute("BEGIN")
        history = History(connection)
        for text in errors:
            history.give_error(*_error(text), "given")
        page = patient_report(history, patient)
        connection.execute("ROLLBACK")
    write_output(output, page.encode())


def _error(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not name or not 0 < number < float("inf"):
        raise click.BadParameter(f"{text!r} is not MEASURE=VALUE, as total=0.9", param_hint="--sem")
    return name, number
