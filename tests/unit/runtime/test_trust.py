"""Signatures: who signed what, who is trusted, and that what was checked is what runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgelstm
from edgelstm.container import Container
from edgelstm.errors import ArtifactError, TargetUnavailableError, UntrustedArtifactError
from edgelstm.signing import make_key, sign_artifact
from edgelstm.trust import TRUST_VARIABLE, TrustStore, signature_of
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_reference

pytest.importorskip("cryptography")
FRAMES = np.ones((3, 2), np.float32)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """An artifact signed by `key`, which the folder `trusted` trusts."""
    path = tmp_path / "leaky.edgelstm"
    leaky_reference().save(path)
    make_key(tmp_path / "key")
    sign_artifact(path, tmp_path / "key")
    TrustStore(tmp_path / "trusted").add(tmp_path / "key.pub", "me")
    return path


def change_weights(path: Path) -> None:
    """Other weights, every checksum right."""
    container = Container.read(path)
    sections = {name: bytes(data) for name, data in container.sections.items()}
    sections["weights"] = sections["weights"][:-4] + np.float32(0.25).tobytes()
    Container(container.manifest, sections).write(path)


def test_a_signed_artifact_runs(signed: Path, tmp_path: Path) -> None:
    """The key that signed it is named."""
    artifact = edgelstm.load(signed, trust=tmp_path / "trusted")
    assert artifact.signed_by is not None
    assert artifact.signed_by.name == "me"
    artifact.session().run(FRAMES)


def test_other_content_under_the_same_signature_is_refused(signed: Path, tmp_path: Path) -> None:
    """Checksums can be made right by anybody, a signature cannot."""
    change_weights(signed)
    edgelstm.load(signed).session().run(FRAMES)
    with pytest.raises(UntrustedArtifactError, match="is by none of the 1 keys"):
        edgelstm.load(signed, trust=tmp_path / "trusted")


def test_a_missing_or_broken_signature_is_refused(signed: Path, tmp_path: Path) -> None:
    """No file, an empty one, and one that is too long."""
    for content in (b"", bytes(63), bytes(65), bytes(64)):
        signature_of(signed).write_bytes(content)
        with pytest.raises(UntrustedArtifactError):
            edgelstm.load(signed, trust=tmp_path / "trusted")
    signature_of(signed).unlink()
    with pytest.raises(UntrustedArtifactError, match="is not signed"):
        edgelstm.load(signed, trust=tmp_path / "trusted")


def test_another_signer_is_not_trusted(signed: Path, tmp_path: Path) -> None:
    """Nor anybody, where the folder does not exist."""
    make_key(tmp_path / "other")
    sign_artifact(signed, tmp_path / "other")
    for folder in ("trusted", "nowhere"):
        with pytest.raises(UntrustedArtifactError, match="not to be trusted"):
            edgelstm.load(signed, trust=tmp_path / folder)


def test_the_variable_lets_unsigned_files_be_seen_and_not_run(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`EDGELSTM_TRUST`: sessions are refused, inspecting is not."""
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "trusted"))
    edgelstm.load(signed).session().run(FRAMES)
    signature_of(signed).unlink()
    artifact = edgelstm.load(signed)
    with pytest.raises(UntrustedArtifactError, match="is not signed"):
        artifact.session()
    result = invoke("inspect", signed)
    assert result.exit_code == 0
    assert "is not signed" in result.stdout


def test_what_was_checked_is_what_runs(signed: Path, tmp_path: Path) -> None:
    """The file is replaced after the check, in place: the session computes what was signed."""
    artifact = edgelstm.load(signed, trust=tmp_path / "trusted")
    expected = leaky_reference().session().run(FRAMES)
    change_weights(signed)
    with open(signed, "r+b") as file:
        file.write(bytes(signed.stat().st_size))
    np.testing.assert_array_equal(artifact.session().run(FRAMES), expected)


def test_without_the_package_that_checks_nothing_runs(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing check is no passed check."""
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "trusted"))
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(TargetUnavailableError, match=r"\[sign\]"):
        edgelstm.load(signed).session()


def test_keys_put_there_by_hand_are_found(signed: Path, tmp_path: Path) -> None:
    """As `NAME.pem`, too; `remove` removes them."""
    store = TrustStore(tmp_path / "by hand")
    store.folder.mkdir()
    shutil.copy(tmp_path / "key.pub", store.folder / "ci.pem")
    found = edgelstm.load(signed, trust=store.folder).signed_by
    assert found is not None
    assert found.name == "ci"
    store.remove("ci")
    assert store.trusted() == []


def test_a_mapped_file_cannot_be_trusted(signed: Path, tmp_path: Path) -> None:
    """It may be changed between the check and the run."""
    with pytest.raises(ArtifactError, match="without mmap"):
        edgelstm.load(signed, mmap=True, trust=tmp_path / "trusted")


def test_the_command_line_asks_for_signatures(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run --require-signature` takes the user's own folder where no variable names one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "x.csv").write_text("a,b\n1,1\n")
    command = ("run", signed, "--input", tmp_path / "x.csv", "--require-signature")
    assert invoke(*command).exit_code == 5
    assert invoke("trust", "add", tmp_path / "key.pub").exit_code == 0
    assert invoke(*command).exit_code == 0
    listed = invoke("trust", "list")
    assert "key" in listed.stdout
    assert invoke("trust", "remove", "key").exit_code == 0
    assert invoke("trust", "remove", "key").exit_code == 5
    assert invoke(*command).exit_code == 5


def test_sign_and_verify_from_the_command_line(signed: Path, tmp_path: Path) -> None:
    """What `sign` writes `trust verify` accepts, until the artifact changes."""
    signature_of(signed).unlink()
    assert invoke("sign", signed, "--key", tmp_path / "key").exit_code == 0
    command = ("trust", "verify", signed, "--directory", tmp_path / "trusted")
    assert invoke(*command).exit_code == 0
    change_weights(signed)
    assert invoke(*command).exit_code == 5


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    """Neither half of a pair, nor a key that is trusted already."""
    make_key(tmp_path / "key")
    private, public = (tmp_path / "key").read_bytes(), (tmp_path / "key.pub").read_bytes()
    with pytest.raises(UntrustedArtifactError, match="exists already"):
        make_key(tmp_path / "key")
    (tmp_path / "key").unlink()
    with pytest.raises(UntrustedArtifactError, match="exists already"):
        make_key(tmp_path / "key")
    assert not (tmp_path / "key").exists()
    assert (tmp_path / "key.pub").read_bytes() == public
    store = TrustStore(tmp_path / "trusted")
    store.add(tmp_path / "key.pub", "me")
    make_key(tmp_path / "other")
    with pytest.raises(UntrustedArtifactError, match="exists already"):
        store.add(tmp_path / "other.pub", "me")
    assert [key.name for key in store.trusted()] == ["me"]
    assert private.startswith(b"-----BEGIN PRIVATE KEY")


def test_a_private_key_is_for_its_owner(tmp_path: Path) -> None:
    """Nobody else may read it, and nobody is asked to trust it."""
    make_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    with pytest.raises(UntrustedArtifactError, match="is a private key"):
        TrustStore(tmp_path / "trusted").add(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"ssh-rsa AAAA", b"x" * 20_000])
def test_what_is_no_key_is_refused(content: bytes, signed: Path, tmp_path: Path) -> None:
    """As a key to sign with, to trust, and in the folder of those that are trusted."""
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(UntrustedArtifactError):
        sign_artifact(signed, tmp_path / "bad")
    with pytest.raises(UntrustedArtifactError):
        TrustStore(tmp_path / "trusted").add(tmp_path / "bad")
    (tmp_path / "trusted" / "a.pub").write_bytes(content)
    with pytest.raises(UntrustedArtifactError):
        edgelstm.load(signed, trust=tmp_path / "trusted")


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x" * 200, "\x1b[2J"])
def test_names_of_keys_stay_in_their_folder(name: str, signed: Path, tmp_path: Path) -> None:
    """No name leads out of it."""
    with pytest.raises(UntrustedArtifactError, match="is no name of a key"):
        TrustStore(tmp_path / "trusted").add(tmp_path / "key.pub", name)


def test_a_signature_replaces_signatures_only(signed: Path, tmp_path: Path) -> None:
    """What else stands in its place is the user's."""
    sign_artifact(signed, tmp_path / "key")
    signature_of(signed).write_text("notes")
    with pytest.raises(UntrustedArtifactError, match="is no signature"):
        sign_artifact(signed, tmp_path / "key")
    assert signature_of(signed).read_text() == "notes"


def test_openssl_agrees(signed: Path, tmp_path: Path) -> None:
    """Bytes 32 to 63 of the file, the raw signature and the PEM key are all that it takes."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not here")
    (tmp_path / "digest").write_bytes(signed.read_bytes()[32:64])
    command = [
        openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(tmp_path / "key.pub"), "-rawin",
        "-in", str(tmp_path / "digest"), "-sigfile", str(signature_of(signed)),
    ]  # fmt: skip
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    (tmp_path / "digest").write_bytes(bytes(32))
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_keys_of_openssl_and_openssh_are_taken(signed: Path, tmp_path: Path) -> None:
    """Whoever has one already needs no other."""
    tools = {name: shutil.which(name) for name in ("openssl", "ssh-keygen")}
    if None in tools.values():
        pytest.skip("openssl or ssh-keygen is not here")
    made = {
        "pem": [tools["openssl"], "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "pem"],
        "ssh": [tools["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ssh"],
    }
    for name, command in made.items():
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        sign_artifact(signed, tmp_path / name)
    TrustStore(tmp_path / "trusted").add(tmp_path / "ssh.pub", "ssh")
    found = edgelstm.load(signed, trust=tmp_path / "trusted").signed_by
    assert found is not None
    assert found.name == "ssh"
