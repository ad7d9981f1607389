"""Whom a machine trusts: public keys in a folder, and the check of an artifact's signature.

A signature is a file `ARTIFACT.sig` of 64 bytes: Ed25519 over the 32 bytes of the container's
digest (bytes 32 to 63 of the file), which covers every other byte. Keys are PEM files `NAME.pub`,
or `NAME.pem` where somebody put them there by hand. Nothing here reads an artifact: who asks has
copied it privately, and runs that copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgelstm.errors import UntrustedArtifactError
from edgelstm.extras import load_extra
from edgelstm.new_file import write_new

PublicKey = Any
"""`Ed25519PublicKey` of the package cryptography, which need not be here."""

TRUST_VARIABLE = "EDGELSTM_TRUST"
"""Environment variable that names the folder; where it is set, nothing unsigned runs."""

SIGNATURE_BYTES = 64
_SUFFIX = ".pub"
_SUFFIXES = (_SUFFIX, ".pem")
_LARGEST_KEY_BYTES = 1 << 14
_MOST_KEYS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One public key.

    Args:
        name: of its file, without suffix.
        fingerprint: SHA-256 of its DER form (SubjectPublicKeyInfo), in hexadecimal.
    """

    name: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.fingerprint[:16]}...)"


@dataclass(frozen=True, slots=True)
class TrustStore:
    """A folder of public keys.

    Args:
        folder: it need not exist; then nobody is trusted.
    """

    folder: Path

    def trusted(self) -> list[TrustedKey]:
        """All keys, by name.

        Raises:
            UntrustedArtifactError: the folder or a key in it cannot be read.
        """
        return [TrustedKey(name, fingerprint(key)) for name, key in self._load()]

    def add(self, source: Path, name: str | None = None) -> TrustedKey:
        """Trust the owner of a key.

        Args:
            source: a public key, PEM or of OpenSSH's form.
            name: what to call it; None: as the file is called.

        Raises:
            UntrustedArtifactError: no Ed25519 public key, or the name is taken or no name.
        """
        key = read_public_key(source)
        name = name or source.name.removesuffix(_SUFFIX).removesuffix(".pem")
        target = self._place(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UntrustedArtifactError(f"cannot make {self.folder}: {exc.strerror}") from exc
        write_new(target, public_pem(key), UntrustedArtifactError)
        return TrustedKey(name, fingerprint(key))

    def remove(self, name: str) -> None:
        """Trust the owner of a key no longer.

        Raises:
            UntrustedArtifactError: there is no such key.
        """
        place = self._place(name)
        try:
            (place if place.exists() else place.with_suffix(".pem")).unlink()
        except FileNotFoundError as exc:
            raise UntrustedArtifactError(
                f"{self.folder} holds no key {name!r}: see edgelstm trust list"
            ) from exc
        except OSError as exc:
            raise UntrustedArtifactError(f"cannot remove {name!r}: {exc.strerror}") from exc

    def verify(self, digest: str, signature: Path, origin: str) -> TrustedKey:
        """Who signed, if it is somebody trusted.

        Args:
            digest: of the container, in hexadecimal.
            signature: the file.
            origin: name of the artifact, for messages.

        Raises:
            UntrustedArtifactError: no signature, or none by a trusted key over this content.
        """
        data = _read_signature(signature, origin)
        invalid = library("exceptions").InvalidSignature
        tried = 0
        for name, key in self._load():
            tried += 1
            try:
                key.verify(data, bytes.fromhex(digest))
            except invalid:
                continue
            return TrustedKey(name, fingerprint(key))
        raise UntrustedArtifactError(
            f"{origin} is not to be trusted: its signature {signature} is by none of the {tried} "
            f"keys in {self.folder}, or of other content; sign it again (edgelstm sign), or trust "
            "its signer (edgelstm trust add)"
        )

    def _place(self, name: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise UntrustedArtifactError(
                f"{name!r} is no name of a key: letters, digits, . _ @ - only; give one by --name"
            )
        return self.folder / f"{name}{_SUFFIX}"

    def _load(self) -> Iterator[tuple[str, PublicKey]]:
        if not self.folder.exists():
            return
        try:
            found = sorted(p for p in self.folder.iterdir() if p.suffix in _SUFFIXES)
        except OSError as exc:
            raise UntrustedArtifactError(
                f"cannot read the trusted keys in {self.folder}: {exc.strerror}"
            ) from exc
        if len(found) > _MOST_KEYS:
            raise UntrustedArtifactError(f"{self.folder} holds more than {_MOST_KEYS} keys")
        for path in found:
            yield path.stem, read_public_key(path)


def default_folder() -> Path:
    """The folder that `EDGELSTM_TRUST` names, else the user's own."""
    named = os.environ.get(TRUST_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "edgelstm" / "trust"


def store_in_force() -> TrustStore | None:
    """The keys that everything has to be signed by, where `EDGELSTM_TRUST` asks for that."""
    named = os.environ.get(TRUST_VARIABLE)
    return TrustStore(Path(named)) if named else None


def signature_of(path: str | os.PathLike[str]) -> Path:
    """Where the signature of an artifact stands."""
    path = Path(path)
    return path.with_name(path.name + ".sig")


def read_public_key(path: Path) -> PublicKey:
    """A public key, PEM or of OpenSSH's form.

    Raises:
        UntrustedArtifactError: the file holds none.
    """
    data = read_key_file(path)
    if b"PRIVATE KEY" in data:
        raise UntrustedArtifactError(
            f"{path} is a private key, which nobody but its owner should hold: give the public one "
            "(openssl pkey -in KEY -pubout)"
        )
    serialization = _serialization()
    is_ssh = data.startswith((b"ssh-", b"ecdsa-"))
    load = serialization.load_ssh_public_key if is_ssh else serialization.load_pem_public_key
    try:
        key = load(data)
    except Exception as exc:  # the library's kinds of errors differ between its versions
        raise UntrustedArtifactError(f"{path} is no public key: {_one_line(exc)}") from exc
    kind = library("hazmat.primitives.asymmetric.ed25519").Ed25519PublicKey
    if not isinstance(key, kind):
        raise UntrustedArtifactError(
            f"{path} is a key of another kind than Ed25519: make one with edgelstm trust new-key"
        )
    return key


def read_key_file(path: Path) -> bytes:
    """The bytes of a key file.

    Raises:
        UntrustedArtifactError: it cannot be read, or is too long for a key.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_KEY_BYTES + 1)
    except OSError as exc:
        raise UntrustedArtifactError(f"cannot read the key {path}: {exc.strerror}") from exc
    if len(data) > _LARGEST_KEY_BYTES:
        raise UntrustedArtifactError(
            f"{path} is no key: it has more than {_LARGEST_KEY_BYTES} bytes"
        )
    return data


def public_pem(key: PublicKey) -> bytes:
    """A public key as openssl reads it."""
    serialization = _serialization()
    return bytes(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def fingerprint(key: PublicKey) -> str:
    """SHA-256 of a public key: `openssl pkey -pubin -in KEY -outform DER | sha256sum`."""
    serialization = _serialization()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return sha256(der).hexdigest()


def _read_signature(path: Path, origin: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(SIGNATURE_BYTES + 1)
    except FileNotFoundError as exc:
        raise UntrustedArtifactError(
            f"{origin} is not signed: there is no {path}; copy the signature beside it, or sign it "
            "with edgelstm sign"
        ) from exc
    except OSError as exc:
        raise UntrustedArtifactError(f"cannot read the signature {path}: {exc.strerror}") from exc
    if len(data) != SIGNATURE_BYTES:
        raise UntrustedArtifactError(
            f"{path} is no signature: it has {'more' if len(data) > SIGNATURE_BYTES else 'less'} "
            f"than {SIGNATURE_BYTES} bytes"
        )
    return data


def library(module: str) -> Any:
    """A module of the package that makes and checks signatures.

    Raises:
        TargetUnavailableError: it is not installed.
    """
    return load_extra(f"cryptography.{module}", "sign", "signatures")


def _serialization() -> Any:
    return library("hazmat.primitives.serialization")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
