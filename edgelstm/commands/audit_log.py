"""`edgelstm audit-log`: who did what in a store, and whether the log is whole."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from edgelstm.commands.report import json_option, print_json, say
from edgelstm.io.sinks.fhir_observations import moment
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.audit_log import entries, verify

_STORE = click.argument("store", type=click.Path(path_type=Path, dir_okay=False))


@click.group("audit-log")
def audit_log_command() -> None:
    """Read and verify the audit log of a store."""


@audit_log_command.command("verify")
@_STORE
@click.option(
    "--head",
    default="",
    metavar="DIGEST",
    help="Digest that an earlier `verify` printed and that was kept elsewhere: shows entries that "
    "were cut off behind it.",
)
@json_option
def verify_command(store: Path, head: str, as_json: bool) -> None:
    """Check that no entry was altered, removed or inserted; exits with 7 where one was."""
    with closing(open_store(store, is_new_allowed=False)) as connection:
        count, last = verify(connection, head)
    if as_json:
        print_json({"entries": count, "head": last})
    else:
        say(f"{count} entries, whole; head {last}")


@audit_log_command.command("show")
@_STORE
@json_option
def show_command(store: Path, as_json: bool) -> None:
    """Print the entries, oldest first."""
    with closing(open_store(store, is_new_allowed=False)) as connection:
        found = list(entries(connection))
    if as_json:
        print_json({"entries": [asdict(entry) for entry in found]})
        return
    for entry in found:
        parts = (entry.actor, entry.action, entry.subject, entry.detail)
        say(f"{entry.id:5d} {moment(entry.time)} {'; '.join(filter(None, parts))}")
