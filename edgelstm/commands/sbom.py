"""`edgelstm sbom`: a bill of materials in CycloneDX JSON."""

from __future__ import annotations

from pathlib import Path

import click

import edgelstm.artifact
from edgelstm.bill import artifact_bill, installation_bill
from edgelstm.errors import ArtifactError
from edgelstm.new_file import write_new


@click.command("sbom")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; it must not exist.  [default: standard output]",
)
def sbom_command(artifact: Path | None, output: Path | None) -> None:
    """Write a CycloneDX bill of materials of ARTIFACT, or of this installation without one.

    \b
    edgelstm sbom gait.edgelstm -o gait.cdx.json
    edgelstm sbom
    """
    if artifact is None:
        text = installation_bill()
    else:
        text = artifact_bill(edgelstm.artifact.load(artifact))
    if output is None:
        click.echo(text)
    else:
        write_new(output, (text + "\n").encode(), ArtifactError)
