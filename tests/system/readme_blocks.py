"""The code blocks of a README, in order, and whether a test can run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Args:
        language: what stands behind the fence.
        code: its lines.
        line: where it begins in the file.
        reason: why no test can run it, from the comment in front of it; None where one can.
    """

    language: str
    code: str
    line: int
    reason: str | None

    @property
    def commands(self) -> tuple[str, ...]:
        """Shell commands without their comments, continued lines joined."""
        joined = self.code.replace("\\\n", " ")
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
        return tuple(line for line in lines if line)


def code_blocks(path: Path) -> tuple[Block, ...]:
    """All blocks of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    return tuple(
        Block(
            language=found["language"],
            code=found["code"],
            line=text[: found.start("code")].count("\n") + 1,
            reason=found["reason"],
        )
        for found in _BLOCK.finditer(text)
    )
