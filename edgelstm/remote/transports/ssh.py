"""`ssh://`: the agent on a Linux board, started by the ssh client of this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from urllib.parse import SplitResult

from edgelstm.errors import LinkError
from edgelstm.remote.link import DescriptorLink, LinkOptions

_UNREACHABLE, _NO_COMMAND = 255, 127
_PATIENCE_S = 2.0


def open_ssh(url: SplitResult, options: LinkOptions) -> SshLink:
    """Start the agent on a host.

    Args:
        url: `ssh://user@host:port`.
        options: `ssh_command`, `agent_command`, `timeout_s`.

    Raises:
        LinkError: the address is none, or there is no ssh client here.
    """
    try:
        port = url.port
    except ValueError as error:
        raise LinkError(f"{url.geturl()!r}: {error}") from error
    if not url.hostname or url.hostname.startswith("-") or (url.username or "").startswith("-"):
        raise LinkError(f"{url.geturl()!r} names no host: expected ssh://user@host")
    user = f"{url.username}@" if url.username else ""
    command = [
        *shlex.split(options.ssh_command),
        "-T",
        *(["-p", str(port)] if port is not None else []),
        f"{user}{url.hostname}",
        options.agent_command,
    ]
    return SshLink(command, f"{user}{url.hostname}", options)


class SshLink(DescriptorLink):
    """The agent's stdin and stdout.

    Args:
        command: what to start here.
        host: for messages.
        options: as for `open_ssh`.

    Raises:
        LinkError: the command is not there.
    """

    def __init__(self, command: list[str], host: str, options: LinkOptions) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the link
        self._agent = options.agent_command
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
            )
        except OSError as error:
            self._said.close()
            raise LinkError(
                f"cannot start {command[0]!r} ({error.strerror}): install an ssh client, or name "
                "one by --ssh-command"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        writer, reader = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        super().__init__(reader, writer, options.timeout_s, host)

    def ended(self, reason: str) -> str:
        """Why: the client's exit code and what it said on stderr."""
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return super().ended(reason)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        said = lines[-1].strip() if lines else f"exit code {code}"
        if code == _UNREACHABLE:
            return f"ssh cannot reach {self._name}: {said}"
        if code == _NO_COMMAND or "No module named" in said:
            return (
                f"there is no agent on {self._name} ({said}): copy a checkout of edgelstm there "
                "and type `pip install .` in it, or say how the agent is started by --agent-command"
            )
        return f"the agent on {self._name} ({self._agent}) ended with exit code {code}: {said}"

    def close(self) -> None:
        """End the agent and the client."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        self._said.close()
