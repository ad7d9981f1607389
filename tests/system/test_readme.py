"""README keeps its word: its commands work as written, in order, from a fresh clone."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click import Command
from click.testing import CliRunner

from edgelstm.cli import cli
from tests.system.readme_blocks import Block, code_blocks

ROOT = Path(__file__).parents[2]
BLOCKS = code_blocks(ROOT / "README.md")
SHELL = [block for block in BLOCKS if block.language == "sh"]
RUNNABLE = [block for block in BLOCKS if block.language in ("sh", "python") and not block.reason]
ELSEWHERE = ("make demo", "make test")
"""Commands of README that are not run here: `.ci/run` runs the second, and it this test."""


def shell_commands() -> list[str]:
    return [command for block in SHELL for command in block.commands]


def options_of(command: Command) -> set[str]:
    """All spellings of a command's options."""
    names = {"-h", "--help", "--debug"}
    for parameter in command.params:
        names.update((*parameter.opts, *parameter.secondary_opts))
    return names


def test_every_block_has_a_language() -> None:
    """Pictures are text, examples sh, python or c; nothing goes by unseen."""
    assert {block.language for block in BLOCKS} <= {"sh", "python", "c", "text", "toml"}
    assert len(RUNNABLE) >= 5


def test_blocks_that_are_not_run_say_why() -> None:
    """They need hardware that a test machine does not have."""
    reasons = [block.reason for block in BLOCKS if block.reason]
    assert all("needs" in str(reason) for reason in reasons), reasons


def calls_of_edgelstm() -> list[list[str]]:
    """Arguments of every `edgelstm`, those that another machine is sent as well."""
    call = re.compile(r"(?:^|[\s/])edgelstm ([a-z].*?)(?=\"$|[|<>]|&&|$)")
    return [
        shlex.split(arguments)
        for command in shell_commands()
        if not command.startswith(("scp", "pip"))
        for arguments in call.findall(command)
    ]


@pytest.mark.parametrize("words", calls_of_edgelstm(), ids=" ".join)
def test_every_option_exists(words: list[str]) -> None:
    """Of the commands that need a board or a GPU, too."""
    context = cli.make_context("edgelstm", ["--help"], resilient_parsing=True)
    command = cli.get_command(context, words[0])
    assert command is not None, words
    given = {word.partition("=")[0] for word in words[1:] if word.startswith("-") and word != "-"}
    assert given <= options_of(command), words


def test_targets_named_exist() -> None:
    """`edgelstm targets` knows every target that README compiles for."""
    listed = CliRunner().invoke(cli, ["targets"]).output.split()
    for command in shell_commands():
        words = shlex.split(command)
        for i, word in enumerate(words[:-1]):
            if word == "--target":
                assert words[i + 1].partition(":")[0] in listed, command


@pytest.mark.slow
@pytest.mark.tvm
def test_all_commands_in_order(tmp_path: Path) -> None:
    """In a fresh clone, with nothing installed: every block that needs no hardware."""
    clone = tmp_path / "edgelstm"
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("this is no checkout of git")
    for name in filter(None, listing.stdout.split("\0")):
        source = ROOT / name
        if source.exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, clone / name)
    script = tmp_path / "readme.sh"
    script.write_text("set -euo pipefail\n" + "".join(map(as_shell, RUNNABLE)), encoding="utf-8")
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    # Modules are compiled as they are imported, which few are. pip wants the opposite of its name.
    environment["PIP_NO_COMPILE"] = "no"
    environment["PATH"] = os.pathsep.join(
        folder
        for folder in environment["PATH"].split(os.pathsep)
        if not Path(folder, "edgelstm").exists()
    )
    done = subprocess.run(
        ["bash", str(script)],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def as_shell(block: Block) -> str:
    """A block as part of one shell script that says where it is."""
    head = f"echo README.md:{block.line} >&2\n"
    if block.language == "python":
        return f"{head}python - <<'PYTHON'\n{block.code}PYTHON\n"
    return head + "".join(f"{command}\n" for command in block.commands if command not in ELSEWHERE)
