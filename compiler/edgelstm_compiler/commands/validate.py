"""`edgelstm validate`: known inputs and outputs on a real device."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.artifact import Artifact
from edgelstm.commands.report import json_option, print_facts, print_json, say
from edgelstm.errors import ArtifactError, MismatchError
from edgelstm.remote.device import Device
from edgelstm.remote.link import LinkOptions
from edgelstm.remote.transports import open_link
from edgelstm_compiler.commands.export_c import golden_of
from edgelstm_compiler.device_validation import DeviceValidation, validate_on

STEPS = 64


@click.command("validate")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--on",
    "address",
    required=True,
    metavar="URL",
    help="ssh://user@host (Python there) or serial:///dev/ttyACM0 (export-c --agent there).",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="ONNX model that gives the known outputs.  [default: the compiled code itself]",
)
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="Recording to step through.  [default: seeded random input]",
)
@click.option(
    "--steps", type=click.IntRange(1, 1_000_000), default=STEPS, show_default=True, help="At most."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest difference, times the magnitude beyond 1; 0: bit for bit.  "
    "[default: fp32 1e-5, int8-full 0]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.option(
    "--baud", type=click.IntRange(1), default=115200, show_default=True, help="Of a serial line."
)
@click.option(
    "--ssh-command",
    default="ssh",
    show_default=True,
    envvar="EDGELSTM_SSH_COMMAND",
    help="The ssh client with its options.",
)
@click.option(
    "--agent-command",
    default="python3 -m edgelstm.agent",
    show_default=True,
    help="What starts the agent on an ssh host.",
)
@json_option
def validate_command(
    artifact: Path,
    address: str,
    model: Path | None,
    source: Path | None,
    steps: int,
    tolerance: float | None,
    timeout: float,
    baud: int,
    ssh_command: str,
    agent_command: str,
    as_json: bool,
) -> None:
    """Step ARTIFACT on a device and compare with known outputs; exit code 3 on FAIL.

    An agent steps it there: over ssh `python3 -m edgelstm.agent`, to which the artifact is sent;
    over a serial line the one that `export-c --agent` writes, beside the model in flash.

    \b
    Examples:
      edgelstm validate gait_rpi4.edgelstm --on ssh://pi@gait.local
      edgelstm validate gait_m4.edgelstm --on serial:///dev/ttyACM0 --model gait.onnx
      edgelstm validate gait_v7.edgelstm --on ssh://board --agent-command ./gait_agent
    """
    compiled = Artifact.load(artifact)
    golden = golden_of(compiled, source, steps, model)
    try:
        file = artifact.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {artifact}: {error.strerror}") from error
    options = LinkOptions(timeout, baud, ssh_command, agent_command)
    with Device(open_link(address, options), timeout, address) as device:
        result = validate_on(device, compiled, file, golden, tolerance)
    if as_json:
        print_json(result.to_json())
    else:
        _print(address, result)
    if not result.passed:
        raise MismatchError(f"{address} does not compute what {artifact} computes")


def _print(address: str, result: DeviceValidation) -> None:
    report = result.to_json()
    how = "bit for bit" if result.is_exact else "within the limit"
    say(f"{address}: {result.system}")
    say(f"{report['steps']} steps of {report['against']}, compared {how}:")
    for output in result.verification.outputs:
        verdict = "PASS" if output.passed else f"FAIL from step {output.first_beyond}"
        say(
            f"  {output.name}: max error {output.max_error:.3g}, limit {output.limit:.3g}, "
            f"{output.compared} values: {verdict}"
        )
    taken = report["step"]
    if taken is not None:
        print_facts(
            [
                ("step, median", f"{taken['median_us']:g} us"),
                ("step, longest", f"{taken['largest_us']:g} us"),
            ]
        )
    say("PASS" if result.passed else "FAIL")
