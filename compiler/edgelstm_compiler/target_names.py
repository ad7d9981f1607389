"""Which target a name means that is none: a board's name, or a misspelt one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_NONE = "there is no target for {0}; --target reference runs on anything with Python and NumPy"


def suggest(name: str, installed: Sequence[str], boards: Sequence[tuple[str, str]]) -> str:
    """A sentence on which target is meant by a name that is none, or "".

    Args:
        name: what was asked for.
        installed: names of targets.
        boards: patterns of names without case, spaces, dashes and underscores, and the targets for
            them; after = what there is no target for.
    """
    base = name.partition(":")[0]
    plain = re.sub(r"[\s_.-]+", "", base.lower())
    by_plain = {re.sub(r"[\s_.-]+", "", target): target for target in installed}
    if plain in by_plain:
        return f"did you mean --target {by_plain[plain]}?"
    for pattern, targets in boards:
        match = re.fullmatch(pattern, plain) or (
            re.match(pattern, plain) if pattern.startswith(("stm32", "nrf")) else None
        )
        if match is None:
            continue
        if targets.startswith("="):
            return _NONE.format(targets[1:].format(base))
        names = [t.format(*_groups(match)) for t in targets.split()]
        found = [target for target in names if target in installed]
        if found:
            return f"for {base}: --target {' or '.join(found)}"
    close = difflib.get_close_matches(plain, list(by_plain), n=3, cutoff=0.6)
    if close:
        return f"did you mean --target {' or '.join(by_plain[match] for match in close)}?"
    return ""


def _groups(match: re.Match[str]) -> list[str]:
    return [match.group(0), *(group or "" for group in match.groups())]
