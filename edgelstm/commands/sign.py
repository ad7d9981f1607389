"""`edgelstm sign`: a detached signature beside an artifact."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.commands.report import json_option, print_json, say
from edgelstm.signing import PasswordNeededError, sign_artifact


@click.command("sign")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Ed25519 private key: PEM (edgelstm trust new-key, openssl genpkey) or OpenSSH's.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The signature.  [default: ARTIFACT.sig]",
)
@json_option
def sign_command(artifact: Path, key: Path, output: Path | None, as_json: bool) -> None:
    """Sign what ARTIFACT holds; nothing of it is executed.

    \b
    edgelstm trust new-key build.key
    edgelstm sign gait.edgelstm --key build.key
    \b
    The signature is Ed25519 over bytes 32 to 63 of ARTIFACT, its digest; openssl checks it, too:
    dd if=gait.edgelstm of=digest bs=32 skip=1 count=1
    openssl pkeyutl -verify -pubin -inkey build.key.pub -rawin -in digest -sigfile gait.edgelstm.sig
    """
    try:
        target, signer = sign_artifact(artifact, key, output)
    except PasswordNeededError:
        password = click.prompt(f"password of {key}", hide_input=True, err=True)
        target, signer = sign_artifact(artifact, key, output, password.encode())
    if as_json:
        print_json({"signature": str(target), "fingerprint": signer.fingerprint})
    else:
        say(f"{target}: {artifact} signed by {signer}")
