"""axe-core (MPL-2.0), which looks for what keeps people out of a page; from npm, by its lock.

`python -m tests.monitor.axe` installs it into `web/node_modules`, which git ignores; the set-up of
development calls that, so that tests need no network.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

_FOLDER = Path(__file__).with_name("web")
_PACKAGE = _FOLDER / "node_modules" / "axe-core"


def axe_source() -> str:
    """The script of the version that the lock says.

    Raises:
        LookupError: it is not installed, and cannot be.
    """
    lock = json.loads(_FOLDER.joinpath("package-lock.json").read_text(encoding="utf-8"))
    wanted = lock["packages"]["node_modules/axe-core"]["version"]
    if _version() != wanted:
        # Only here: it needs hatchling.
        from hatch_build import install_locked

        try:
            install_locked(_FOLDER)
        except (OSError, subprocess.SubprocessError) as exc:
            raise LookupError(str(exc)) from exc
    return _PACKAGE.joinpath("axe.min.js").read_text(encoding="utf-8")


def _version() -> str:
    try:
        return str(json.loads(_PACKAGE.joinpath("package.json").read_text())["version"])
    except OSError:
        return ""


if __name__ == "__main__":
    try:
        axe_source()
    except LookupError as exc:
        print(f"the page's test will not look for accessibility faults: {exc}")
