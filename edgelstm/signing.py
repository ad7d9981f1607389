"""Making keys and signatures; `trust.py` checks them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgelstm.container import Container
from edgelstm.errors import UntrustedArtifactError
from edgelstm.new_file import write_new
from edgelstm.trust import (
    SIGNATURE_BYTES,
    TrustedKey,
    fingerprint,
    library,
    public_pem,
    read_key_file,
    signature_of,
)


class PasswordNeededError(UntrustedArtifactError):
    """The private key is encrypted."""


def make_key(path: Path) -> TrustedKey:
    """A new private key, PEM and readable by its owner alone, with `PATH.pub` beside it.

    Raises:
        UntrustedArtifactError: one of the files exists or cannot be written.
    """
    ed25519, serialization = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    if public.exists():
        raise UntrustedArtifactError(f"{public} exists already and is not replaced")
    private_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_new(path, private_pem, UntrustedArtifactError, is_private=True)
    write_new(public, public_pem(key.public_key()), UntrustedArtifactError)
    return TrustedKey(public.name, fingerprint(key.public_key()))


def sign_artifact(
    path: Path, key_file: Path, output: Path | None = None, password: bytes | None = None
) -> tuple[Path, TrustedKey]:
    """Sign what an artifact holds; every byte of it is checked before, and nothing executed.

    Args:
        path: the artifact.
        key_file: Ed25519 private key, PEM or of OpenSSH's form.
        output: the signature; None: `PATH.sig`. An older signature there is replaced.
        password: of an encrypted key.

    Returns:
        The signature's file, and the key.

    Raises:
        ArtifactError: no artifact, or a damaged one.
        PasswordNeededError: the key is encrypted and there is no password.
        UntrustedArtifactError: no such key; or something else stands where the signature goes.
    """
    digest = Container.read(path).digest
    key = _read_private_key(key_file, password)
    target = output or signature_of(path)
    _replace_signature(target, key.sign(bytes.fromhex(digest)))
    return target, TrustedKey(key_file.name, fingerprint(key.public_key()))


def _read_private_key(path: Path, password: bytes | None) -> Any:
    ed25519, serialization = _library()
    data = read_key_file(path)
    is_ssh = b"OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    try:
        key = load(data, password)
    except Exception as exc:  # the library's kinds of errors differ between its versions
        encrypted = b"ENCRYPTED" in data or (is_ssh and "assword" in str(exc))
        if encrypted and password is None:
            raise PasswordNeededError(f"{path} is encrypted: its password is needed") from exc
        reason = "the password is wrong, or it" if encrypted else "it"
        raise UntrustedArtifactError(f"{path}: {reason} is no private key") from exc
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UntrustedArtifactError(
            f"{path} is a key of another kind than Ed25519: make one with edgelstm trust new-key"
        )
    return key


def _replace_signature(target: Path, signature: bytes) -> None:
    """Write a signature over an older one, but over nothing else."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.exists() and target.stat().st_size != SIGNATURE_BYTES:
            raise UntrustedArtifactError(
                f"{target} exists and is no signature: it is not replaced; name another file"
            )
        write_new(temporary, signature, UntrustedArtifactError)
        os.replace(temporary, target)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise UntrustedArtifactError(f"cannot write {target}: {exc.strerror or exc}") from exc


def _library() -> tuple[Any, Any]:
    return library("hazmat.primitives.asymmetric.ed25519"), library(
        "hazmat.primitives.serialization"
    )
