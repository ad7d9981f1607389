"""`edgelstm trust`: whose signatures this machine accepts."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.commands.report import json_option, print_facts, print_json, say
from edgelstm.container import Container
from edgelstm.signing import make_key
from edgelstm.trust import TrustedKey, TrustStore, default_folder, signature_of

_folder = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the keys.  [default: $EDGELSTM_TRUST, else ~/.config/edgelstm/trust]",
)


@click.group("trust")
def trust_command() -> None:
    """Keys that artifacts have to be signed by.

    \b
    Where EDGELSTM_TRUST names a folder, artifacts run only if a key in it signed them; elsewhere
    `run --require-signature` asks for that.
    \b
    edgelstm trust add build.key.pub --name build
    edgelstm trust verify gait.edgelstm
    """


@trust_command.command("add")
@click.argument("key", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it.  [default: as the file is called]")
@_folder
@json_option
def add_command(key: Path, name: str | None, directory: Path | None, as_json: bool) -> None:
    """Trust the owner of the public KEY (PEM or OpenSSH's); a name that is taken is refused."""
    _show(_store(directory).add(key, name), "trusted", as_json)


@trust_command.command("list")
@_folder
@json_option
def list_command(directory: Path | None, as_json: bool) -> None:
    """Show the trusted keys with their fingerprints."""
    store = _store(directory)
    keys = store.trusted()
    if as_json:
        found = [{"name": key.name, "fingerprint": key.fingerprint} for key in keys]
        print_json({"directory": str(store.folder), "keys": found})
        return
    say(f"{store.folder}: {len(keys)} keys")
    print_facts([(key.name, f"SHA-256 {key.fingerprint}") for key in keys])


@trust_command.command("remove")
@click.argument("name")
@_folder
def remove_command(name: str, directory: Path | None) -> None:
    """Trust the owner of the key NAME no longer."""
    _store(directory).remove(name)
    say(f"{name} is trusted no longer")


@trust_command.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--signature",
    type=click.Path(path_type=Path),
    help="The signature.  [default: ARTIFACT.sig]",
)
@_folder
@json_option
def verify_command(
    artifact: Path, signature: Path | None, directory: Path | None, as_json: bool
) -> None:
    """Check every byte of ARTIFACT and its signature; exit code 5 where it is not to be trusted."""
    digest = Container.read(artifact).digest
    found = signature or signature_of(artifact)
    key = _store(directory).verify(digest, found, str(artifact))
    _show(key, f"{artifact} is signed by", as_json)


@trust_command.command("new-key")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def new_key_command(path: Path, as_json: bool) -> None:
    """Make a private key PATH, for `edgelstm sign`, and the public PATH.pub; none is replaced."""
    _show(make_key(path), f"{path} is the private key of", as_json)


def _store(directory: Path | None) -> TrustStore:
    return TrustStore(directory or default_folder())


def _show(key: TrustedKey, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": key.name, "fingerprint": key.fingerprint})
    else:
        say(f"{what}: {key}")
