"""`edgelstm schemes`: what can be quantized how, and what each target makes of it."""

from __future__ import annotations

import click

from edgelstm.commands.report import json_option, print_json, print_table, progress_bar
from edgelstm_compiler.quant.support_table import support_rows
from edgelstm_compiler.quant_report.trials import try_target
from edgelstm_compiler.target import find_target


@click.command("schemes")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Also compile a small layer for this target in every scheme. May be repeated.",
)
@json_option
def schemes_command(targets: tuple[str, ...], as_json: bool) -> None:
    """Show the quantization schemes: which operators and attributes each admits, and why not.

    \b
    edgelstm schemes
    edgelstm schemes --target host --target cortex-m4
    """
    found = [find_target(name) for name in targets]
    table = support_rows()
    tried = []
    with progress_bar("trying", len(found) or None) as advance:
        for target in found:
            tried += try_target(target)
            advance(1)
    if as_json:
        print_json({"schemes": table, "targets": tried})
        return
    rows = [[r["scheme"], r["what"], _yes(r["admitted"]), r["reason"]] for r in table]
    print_table(["scheme", "operator or attribute", "", ""], rows, indent=0)
    if tried:
        click.echo()
        rows = [
            [r["target"], r["scheme"], r["what"], _yes(r["admitted"]), r["reason"]] for r in tried
        ]
        print_table(["target", "scheme", "operator", "", ""], rows, indent=0)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
