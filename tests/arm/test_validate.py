"""`edgelstm validate`: agents on devices, over ssh and over serial lines."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from edgelstm.artifact import Artifact
from edgelstm.cli import cli
from edgelstm.errors import LinkError
from edgelstm.remote.frames import Kind, encode, encode_info, encode_result, read_frame
from edgelstm_compiler import compile_model
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests.arm.c_project import STRICT, USER_MODE, export, link_for_board, run, tool
from tests.arm.integer_models import in_integers, save
from tests.models import gru_model, lstm_model
from tests.quantized_models import recordings, step_graph

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

Start = Callable[[int], Sequence[threading.Thread]]
"""Given the device's end of a line: threads that answer there."""
AGENT = f"{sys.executable} -m edgelstm.agent"
# What sshd does with a command, after a greeting as some boards print one.
SSH = """#!/bin/sh
for last; do :; done
echo "Welcome to the board"
exec sh -c "$last"
"""


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("floats") / "floats.edgelstm"
    compile_model(lstm_model(hidden=12, features=5, steps=1), name="net", check=False).save(path)
    return path


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("integers") / "integers.edgelstm"
    model = gru_model(hidden=10, features=4, steps=None)
    compile_model(
        model,
        name="net",
        quantize="int8-full",
        calibration=recordings(step_graph(model), frames=40),
        quantize_options=QuantizeOptions(integer_io=True),
    ).save(path)
    return path


@pytest.fixture
def ssh(tmp_path: Path) -> str:
    """A program in place of the ssh client."""
    path = tmp_path / "ssh"
    path.write_text(SSH)
    path.chmod(0o755)
    return str(path)


def validate(artifact: Path, address: str, *options: str) -> Result:
    return CliRunner().invoke(cli, ["validate", str(artifact), "--on", address, *options])


def build_agent(artifact: Path, folder: Path, compiler: str = "", *flags: str, **options) -> Path:
    """The C agent with its model, for this machine or by another compiler."""
    export(Artifact.load(artifact), folder, agent=True, **options)
    sources = [folder / "net.c", folder / "net_weights.c", folder / "net_agent.c"]
    library = next(folder.glob("lib*_kernels.a"))
    program = folder / "agent"
    main = folder / "example" / "agent.c"
    chosen = (compiler or tool("cc"), *STRICT, "-O1", *flags)
    run(*chosen, f"-I{folder}", *sources, main, library, "-o", program)
    return program


@contextlib.contextmanager
def on_serial_line(start: Start) -> Iterator[str]:
    """The address of a serial line; `start` gives threads that use the device's end of it."""
    device, host = pty.openpty()
    tty.setraw(device)
    tty.setraw(host)
    threads = start(device)
    for thread in threads:
        thread.start()
    try:
        yield f"serial://{os.ttyname(host)}"
    finally:
        os.close(host)  # reading from the other end fails now
        for thread in threads:
            thread.join()
        os.close(device)


@contextlib.contextmanager
def behind_serial_line(command: Sequence[str | Path]) -> Iterator[str]:
    """The address of a serial line on which a program speaks by stdin and stdout.

    Pipes stand in between: QEMU would change the settings of a terminal.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    to_program, from_program = process.stdin, process.stdout
    assert to_program is not None
    assert from_program is not None

    def copy(read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := read():
                write(data)

    def start(device: int) -> list[threading.Thread]:
        ways = (
            (lambda: os.read(device, 4096), to_program.write),
            (lambda: from_program.read(4096), lambda data: os.write(device, data)),
        )
        return [threading.Thread(target=copy, args=ends, daemon=True) for ends in ways]

    with on_serial_line(start) as address:
        try:
            yield address
        finally:
            process.kill()
            process.wait()
    to_program.close()
    from_program.close()


def scripted_agent(answer: Callable[[Kind, int], bytes]) -> Start:
    """An agent that answers each frame as a test wants."""

    def serve(device: int) -> None:
        with contextlib.suppress(OSError, LinkError):
            while frame := read_frame(
                lambda size: b"".join(os.read(device, 1) for _ in range(size))
            ):
                os.write(device, answer(Kind(frame.kind), frame.serial))

    return lambda device: [threading.Thread(target=serve, args=(device,), daemon=True)]


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_over_ssh(kind: str, ssh: str, request: pytest.FixtureRequest) -> None:
    """The artifact is sent, run by the runtime there, timed, and compared; integers bit by bit."""
    path = request.getfixturevalue(kind)
    options = ("--ssh-command", ssh, "--agent-command", AGENT, "--steps", "20", "--json")
    done = validate(path, "ssh://pi@board:2222", *options)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["steps"] == 20
    assert report["bit_for_bit"] == (kind == "integers")
    assert 0 < report["step"]["median_us"] <= report["step"]["largest_us"]
    assert "native" in report["device"]


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_over_a_serial_line(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The agent in C, beside the exported model, on the other end of a pseudo-terminal."""
    path = request.getfixturevalue(kind)
    with behind_serial_line([build_agent(path, tmp_path)]) as address:
        done = validate(path, address, "--steps", "20")
        again = validate(path, address, "--steps", "3", "--timeout", "1")
    assert done.exit_code == 0, done.output
    assert "C agent" in done.output
    assert "median" in done.output
    assert done.output.endswith("PASS\n")
    assert again.exit_code == 4, "the agent ended with the first conversation"


@pytest.mark.parametrize("scheme", ["fp32", "int8", "w8"])
def test_calls_and_other_schemes(scheme: str, ssh: str, tmp_path: Path) -> None:
    """Several inputs in call mode, and quantized layers beside NumPy's, by both agents."""
    options: dict[str, object] = {"mode": "call", "quantize": None}
    model = save(lstm_model(hidden=8, features=3, steps=4, sequence_lens="input"), tmp_path)
    if scheme != "fp32":
        model = save(lstm_model(hidden=32, features=6, steps=None), tmp_path)
        given = recordings(step_graph(onnx.load(model)), frames=40)
        options = {"quantize": scheme, "calibration": given if scheme == "int8" else None}
    path = tmp_path / "net.edgelstm"
    compile_model(model, name="net", **options).save(path)
    common = ("--model", str(model), "--ssh-command", ssh)
    done = validate(path, "ssh://board", *common, "--agent-command", AGENT)
    assert done.exit_code == 0, done.output
    program = build_agent(path, tmp_path / "c", model=model)
    done = validate(path, "ssh://board", *common, "--agent-command", str(program))
    assert done.exit_code == 0, done.output
    assert "within the limit" in done.output


def test_the_c_agent_over_ssh(floats: Path, ssh: str, tmp_path: Path) -> None:
    """For boards without Python: the program itself is the agent."""
    program = build_agent(floats, tmp_path / "c")
    done = validate(floats, "ssh://board", "--ssh-command", ssh, "--agent-command", str(program))
    assert done.exit_code == 0, done.output


def test_another_model_is_refused(floats: Path, integers: Path, tmp_path: Path) -> None:
    """Exit code 5, and what differs."""
    with behind_serial_line([build_agent(floats, tmp_path)]) as address:
        done = validate(integers, address)
    assert done.exit_code == 5
    assert "another model" in done.stderr
    assert "CRC-32" in done.stderr


def test_damaged_weights_are_seen(floats: Path, tmp_path: Path) -> None:
    """The device says the checksum of what stands in its memory now."""
    folder = tmp_path / "c"
    export(Artifact.load(floats), folder, agent=True)
    weights = folder / "net_weights.c"
    text = weights.read_text()
    place = text.index("0x", text.index("= {") + 200)
    digit = "0" if text[place + 9] != "0" else "1"
    weights.write_text(text[: place + 9] + digit + text[place + 10 :])
    sources = [folder / "net.c", weights, folder / "net_agent.c", folder / "example" / "agent.c"]
    library = next(folder.glob("lib*_kernels.a"))
    run(tool("cc"), f"-I{folder}", *sources, library, "-o", folder / "agent")
    with behind_serial_line([folder / "agent"]) as address:
        done = validate(floats, address)
    assert done.exit_code == 5
    assert "damaged weights (CRC-32" in done.stderr


def _wrong_step(artifact: Path, change: Callable[[bytes], bytes]) -> Start:
    """An agent with the right model that answers every step with a changed frame of zeros."""
    from zlib import crc32

    from edgelstm.remote.frames import VERSION, Info

    compiled = Artifact.load(artifact)
    memory, signature = compiled.manifest["memory"], compiled.signature
    info = Info(
        VERSION,
        takes_artifacts=False,
        input_bytes=signature.input_bytes,
        output_bytes=signature.output_bytes,
        state_bytes=memory["state_bytes"],
        weights_bytes=memory["weights_bytes"],
        weights_crc32=crc32(compiled.container.section("weights")),
        name=compiled.name,
    )

    def answer(kind: Kind, serial: int) -> bytes:
        if kind == Kind.HELLO:
            return encode(Kind.INFO, serial, encode_info(info))
        if kind == Kind.STEP:
            block = bytes(signature.output_bytes)
            return change(encode(Kind.RESULT, serial, encode_result(0, 0, block)))
        return encode(Kind.DONE, serial)

    return scripted_agent(answer)


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_wrong_numbers_fail(kind: str, request: pytest.FixtureRequest) -> None:
    """Exit code 3 and the first step that is beyond the limit."""
    path = request.getfixturevalue(kind)
    with on_serial_line(_wrong_step(path, lambda frame: frame)) as address:
        done = validate(path, address)
    assert done.exit_code == 3
    assert "FAIL from step 0" in done.output
    assert "does not compute" in done.stderr


def test_a_garbled_line_is_told(floats: Path) -> None:
    """A bit that flips is a checksum that does not match: exit code 4."""

    def flip(frame: bytes) -> bytes:
        return frame[:-6] + bytes([frame[-6] ^ 4]) + frame[-5:]

    with on_serial_line(_wrong_step(floats, flip)) as address:
        done = validate(floats, address)
    assert done.exit_code == 4
    assert "arrived damaged" in done.stderr


def test_silence_ends(floats: Path) -> None:
    """Nobody answers: exit code 4 after the time that was given."""
    with on_serial_line(lambda device: []) as address:
        done = validate(floats, address, "--timeout", "0.3")
    assert done.exit_code == 4
    assert "no agent answers" in done.stderr


def test_an_agent_that_falls_silent(floats: Path) -> None:
    """The same in the middle of the steps."""
    with on_serial_line(_wrong_step(floats, lambda frame: frame[:7])) as address:
        done = validate(floats, address, "--timeout", "0.3")
    assert done.exit_code == 4
    assert "no answer for 0.3 s" in done.stderr


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("usb://1", "expected ssh://... or serial://..."),
        ("serial:///dev/no_such_port", "cannot open the port /dev/no_such_port"),
        ("serial://", "needs a port"),
        ("serial:///dev/null", "is no serial port"),
        ("serial:///dev/null?baud=123", "no speed of 123 baud"),
        ("ssh://", "names no host"),
        ("ssh://-oProxyCommand=x", "names no host"),
        ("ssh://board:port", "port"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, says: str, floats: Path) -> None:
    """Exit code 4, and what was expected."""
    done = validate(floats, address)
    assert done.exit_code == 4
    assert says in done.stderr


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'ssh: connect to host board: No route to host' >&2; exit 255", "No route to host"),
        ("echo 'sh: python3: not found' >&2; exit 127", "there is no agent on board"),
        ("echo 'No module named edgelstm' >&2; exit 1", "pip install ."),
        ("echo 'Killed' >&2; exit 9", "ended with exit code 9: Killed"),
    ],
)
def test_ssh_failures(script: str, says: str, floats: Path, tmp_path: Path) -> None:
    """What ssh or the board said, and what to do; exit code 4."""
    path = tmp_path / "ssh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    done = validate(floats, "ssh://board", "--ssh-command", str(path))
    assert done.exit_code == 4
    assert says in done.stderr


def test_without_an_ssh_client(floats: Path) -> None:
    """Its name and the option."""
    done = validate(floats, "ssh://board", "--ssh-command", "/no/such/ssh")
    assert done.exit_code == 4
    assert "--ssh-command" in done.stderr


def test_what_the_device_cannot_run(ssh: str, tmp_path: Path) -> None:
    """The device's own reason comes back."""
    path = tmp_path / "m4.edgelstm"
    compile_model(lstm_model(hidden=4, steps=1), target="cortex-m4", check=False).save(path)
    done = validate(path, "ssh://board", "--ssh-command", ssh, "--agent-command", AGENT)
    assert done.exit_code == 4
    assert "cortex-m4 is for a microcontroller" in done.stderr


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_the_agent_compiles_everywhere(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As C99 and, the headers, as C++11, without a warning."""
    folder = export(Artifact.load(request.getfixturevalue(kind)), tmp_path, agent=True)
    run(tool("cc"), *STRICT, "-c", f"-I{folder}", folder / "net_agent.c", "-o", tmp_path / "a.o")
    source = tmp_path / "main.cpp"
    source.write_text('#include "net_agent.h"\nint main() { return sizeof(net_port) == 0; }\n')
    flags = ("-std=c++11", *STRICT[1:])
    run(tool("c++"), *flags, f"-I{folder}", source, "-c", "-o", tmp_path / "b.o")


# The agent as firmware: Arm's CMSDK UART, as on the boards of the MPS2 family.
FIRMWARE = """
#include "net_agent.h"
#define UART ((volatile uint32_t *)0x40004000u)
static net_state state;
static net_scratch scratch;
static int get(void *context)
{
    (void)context;
    while ((UART[1] & 2u) == 0) {
    }
    return (int)(UART[0] & 0xffu);
}
static void put(void *context, uint8_t byte)
{
    (void)context;
    while ((UART[1] & 1u) != 0) {
    }
    UART[0] = byte;
}
int main(void)
{
    const net_port port = {get, put, 0, 0, 0};
    UART[4] = 16; /* the divider of the clock */
    UART[2] = 3;  /* both directions */
    net_agent(&state, &scratch, &port);
    return 0;
}
"""


@pytest.mark.parametrize("scheme", ["fp32", "int8-full"])
def test_a_microcontroller_over_its_uart(scheme: str, tmp_path: Path) -> None:
    """Firmware on an emulated Cortex-M4 board, from reset, its UART on a pseudo-terminal."""
    model = save(lstm_model(hidden=12, features=5, steps=None), tmp_path)
    if scheme == "fp32":
        artifact = compile_model(model, target="cortex-m4", name="net", check=False)
    else:
        artifact = in_integers(model, "cortex-m4", name="net")
    path = tmp_path / "net.edgelstm"
    artifact.save(path)
    folder = export(artifact, tmp_path / "c", model=model, agent=True)
    main = tmp_path / "firmware.c"
    main.write_text(FIRMWARE)
    emulator = tool("qemu-system-arm")
    program = link_for_board(folder, "cortex-m4", "mps2-an386", main)
    quiet = ("-display", "none", "-monitor", "none", "-serial", "stdio")
    semihosting = ("-semihosting-config", "enable=on,target=native")
    command = [emulator, "-M", "mps2-an386", *quiet, *semihosting, "-kernel", program]
    with behind_serial_line(command) as address:
        done = validate(path, address, "--model", str(model), "--steps", "12", "--timeout", "30")
    assert done.exit_code == 0, done.output
    assert "as NumPy computes them" in done.output
    assert ("bit for bit" in done.output) == (scheme == "int8-full")
    assert "median" not in done.output, "this agent has no clock"


@pytest.mark.parametrize("target", ["rpi5", "armv7"])
def test_a_linux_board_without_python(target: str, ssh: str, tmp_path: Path) -> None:
    """The C agent as an ARM program, run by QEMU in place of the board, over ssh."""
    model = save(lstm_model(hidden=12, features=5, steps=None), tmp_path)
    artifact = compile_model(model, target=target, name="net", check=False)
    path = tmp_path / "net.edgelstm"
    artifact.save(path)
    machine = "aarch64" if target == "rpi5" else "arm"
    compiler, emulator = map(tool, USER_MODE[machine])
    program = build_agent(path, tmp_path / "c", compiler, "-static", model=model)
    agent = ("--agent-command", f"{emulator} {program}")
    done = validate(path, "ssh://board", "--ssh-command", ssh, *agent, "--model", str(model))
    assert done.exit_code == 0, done.output


def test_over_a_real_sshd(floats: Path, tmp_path: Path) -> None:
    """OpenSSH's server on this machine, its client, and a key of their own."""
    server = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    if server is None:
        pytest.skip("sshd is not here: apt-get install openssh-server")
    for name in ("host", "user"):
        run(tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
    os.chmod(tmp_path, 0o700)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "sshd_config"
    settings.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path / 'host'}\n"
        f"AuthorizedKeysFile {tmp_path / 'user.pub'}\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
    )
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    log = tmp_path / "log"
    with log.open("wb") as said:
        daemon = subprocess.Popen([server, "-D", "-e", "-f", settings], stderr=said)
    client = (
        f"ssh -F none -i {tmp_path / 'user'} -o StrictHostKeyChecking=no -o ConnectionAttempts=20 "
        f"-o UserKnownHostsFile={tmp_path / 'known'} -o BatchMode=yes -o LogLevel=ERROR"
    )
    try:
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
        options = ("--ssh-command", client, "--agent-command", AGENT, "--timeout", "30")
        done = validate(floats, address, *options)
    finally:
        daemon.terminate()
        daemon.wait()
    assert done.exit_code == 0, f"{done.output}\n{log.read_text()}"
