"""`edgelstm audit`: how well a model does by groups of people."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import json_option, print_json, say
from edgelstm.errors import CapabilityError, OutputError
from edgelstm.io.columns import split_names
from edgelstm.monitor import fairness_report
from edgelstm.monitor.fairness import audit_model, read_groups
from edgelstm.outputs import STANDARD, check_output, write_output


@click.command("audit")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--recordings",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with labelled recordings.",
)
@click.option(
    "--groups",
    "table",
    required=True,
    metavar="FILE.csv",
    type=click.Path(path_type=Path, dir_okay=False),
    help="recording,person,age,sex,...: the groups of each recording.",
)
@click.option(
    "-o",
    "--output",
    default="audit.html",
    show_default=True,
    metavar="FILE.html",
    help="The report; - is standard output.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="The data behind it too: figures of groups as CSV; those and every recording where the "
    "name ends in .json. Again for both.",
)
@click.option("--label-column", default="label", show_default=True, help="Of the recordings.")
@click.option("--labels", default="", metavar="A,B,...", help="Classes, where ARTIFACT has none.")
@click.option("--output-name", default="", help="Which output has the classes.")
@click.option("--columns", default="", metavar="A,B,...", help="As for run.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="HZ")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@loading_options
@json_option
def audit_command(
    artifact: Path,
    recordings: Path,
    table: Path,
    output: str,
    data: tuple[str, ...],
    label_column: str,
    labels: str,
    output_name: str,
    columns: str,
    rate: float | None,
    seed: int,
    load: Loader,
    as_json: bool,
) -> None:
    """Compare how well ARTIFACT does for groups of people.

    Accuracy, missed phases and delays of each group, with 95 % intervals over people (bootstrap);
    the smallest group is named.

    \b
    edgelstm audit tug.edgelstm --recordings trials/ --groups people.csv -o audit.html
    """
    read = [artifact, table, *recordings.iterdir()]
    for path in (output, *data):
        check_output(path, read, OutputError)
    model = load(artifact)
    if model.signature.mode != "stream":
        raise CapabilityError(
            f"{model.name!r} was compiled with --mode {model.signature.mode}, and an audit steps "
            "through recordings: compile it with --mode stream"
        )
    found = audit_model(
        model,
        recordings,
        read_groups(table),
        label_column=label_column,
        labels=split_names(labels) if labels else (),
        output=output_name,
        columns=split_names(columns) if columns else (),
        rate_hz=rate,
        seed=seed,
    )
    figures = fairness_report.to_json(found, model.name)
    write_output(output, fairness_report.to_html(found, model.name).encode(), read)
    for path in data:
        is_json = path.lower().endswith(".json")
        text = json.dumps(figures, indent=1) + "\n" if is_json else fairness_report.to_csv(found)
        write_output(path, text.encode(), read)
    is_taken = STANDARD in (output, *data)
    if as_json:
        print_json(figures, err=is_taken)
        return
    for result in found.results:
        title = f"{result.attribute} = {result.group}" if result.attribute else result.group
        figure = result.accuracy
        say(
            f"{title}: {figure.value:.1%} of {result.samples} samples right "
            f"({figure.low:.1%} to {figure.high:.1%}), {result.people} people",
            err=is_taken,
        )
    if found.smallest is not None:
        small = found.smallest
        say(
            f"smallest group: {small.attribute} = {small.group}, {small.people} people",
            err=is_taken,
        )
    say(f"report: {output}", err=is_taken)
