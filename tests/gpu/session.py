"""Parity and speed on a GPU, beside cuDNN, in one command: `python -m tests.gpu.session`.

Installs nothing: torch is there for the peers, and either numba-cuda and its wheels, or artifacts
that `python -m tests.gpu.session --build sm_90` made elsewhere (in tests/gpu/artifacts). Ends
within 8 minutes with a table, the goals, constants for routing, and all of it in a JSON file. Each
section is a process with a budget of its own; what fails is said, and the rest goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "compiler"), str(ROOT / "targets")]

from edgelstm.engines.cuda_driver import open_device  # noqa: E402 - behind the paths
from tests.gpu.artifacts import CARRIED, artifact_path  # noqa: E402
from tests.gpu.calibration import fit_costs  # noqa: E402
from tests.gpu.report import goals, table  # noqa: E402
from tests.gpu.sections import SPOILED  # noqa: E402
from tests.gpu.workloads import WORKLOADS, Workload  # noqa: E402

BUDGET_S = {
    "build": 150.0,
    "parity": 60.0,
    "chunk": 50.0,
    "streams": 40.0,
    "graph": 25.0,
    "doorbell": 35.0,
}
LAST_S = 450.0
"""The peers get what is left until then."""

PATIENCE_S = 45.0
"""A workload that takes longer for one section is given up."""

COMMAND = [sys.executable, "-m", "tests.gpu.sections"]

Report = dict[str, Any]


def main() -> int:
    """Run everything; 0 if all that was checked agrees with the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", metavar="CHIPS", help="only compile, e.g. sm_90 or all")
    parser.add_argument("--json", type=Path, default=Path(os.environ.get("OUT", "."), "gpu.json"))
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--peers", choices=("cuda", "cpu"), default="cuda", help="where torch runs")
    arguments = parser.parse_args()
    names = [each.name for each in WORKLOADS if arguments.only in each.name]
    if arguments.build:
        built: Report = {name: {} for name in names}
        _build(names, arguments.build, CARRIED, built, time.monotonic() + 3600)
        return int(any("failed" in row["build"] for row in built.values()))
    report = run_session(names, arguments.json, arguments.peers)
    print(f"\n{report['device']}, {report['seconds']} s; {arguments.json}\n")
    print(table(report))
    rows = report["rows"].values()
    checks = [row.get(section) for row in rows for section in ("parity", "doorbell")]
    return int(not all(check.get("agrees") for check in checks if check))


def run_session(names: list[str], path: Path, peers: str) -> Report:
    """All sections; the report is written after every result."""
    start = time.monotonic()
    device = open_device()
    chip = f"sm_{device.capability[0]}{device.capability[1]}"
    rows: Report = {name: {} for name in names}
    report: Report = {
        "command": "python -m tests.gpu.session",
        "device": device.name,
        "chip": chip,
        "driver_cuda": device.driver_version,
        "host": platform.processor() or platform.machine(),
        "rows": rows,
    }

    def write() -> None:
        report["seconds"] = round(time.monotonic() - start, 1)
        report["goals"] = goals(rows)
        report["costs"] = {chip: fit_costs(rows)}
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")

    with tempfile.TemporaryDirectory() as made:
        folder = CARRIED
        if not all(artifact_path(CARRIED, each, "cuda").exists() for each in _chosen(names)):
            folder = Path(made)
            _build(names, chip, folder, rows, start + BUDGET_S["build"])
            write()
        there = [
            each.name for each in _chosen(names) if artifact_path(folder, each, "cuda").exists()
        ]
        for section in (*list(BUDGET_S)[1:], "peers"):
            end = time.monotonic() + BUDGET_S.get(section, float("inf"))
            todo = names if section == "peers" else there
            for line in _run_section(section, folder, todo, min(end, start + LAST_S), peers):
                rows[line["name"]][section] = _outcome(line)
                write()
                print(f"{section} {json.dumps(_brief(line))}", flush=True)
    write()
    return report


def _build(names: list[str], chips: str, folder: Path, rows: Report, end: float) -> None:
    """Compile all of them, as many at once as there are processors."""

    def build_one(name: str) -> None:
        for line in _run_section("build", folder, [name], end, chips):
            rows[name]["build"] = _outcome(line)
            print(f"build {json.dumps(_brief(line))}", flush=True)

    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        list(pool.map(build_one, names))


def _run_section(
    section: str, folder: Path, names: list[str], end: float, option: str
) -> Iterator[Report]:
    """A line for every workload, from processes that are started until all of them are done."""
    remaining = list(names)
    while remaining and time.monotonic() < end:
        with subprocess.Popen(
            [*COMMAND, section, str(folder), *remaining, "--option", option],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            patience = end if section == "build" else time.monotonic() + PATIENCE_S
            timer = _kill_at(process, min(end, patience))
            for text in process.stdout:
                if not text.startswith('{"name"'):
                    continue
                line = json.loads(text)
                remaining.remove(line["name"])
                yield line
                timer.cancel()
                timer = _kill_at(process, min(end, time.monotonic() + PATIENCE_S))
            timer.cancel()
        status = process.returncode
        if remaining and status != SPOILED:
            what = "no result in time" if status < 0 else f"the process ended with {status}"
            yield {"name": remaining.pop(0), "failed": what}
    for name in remaining:
        yield {"name": name, "failed": "no time left"}


def _kill_at(process: subprocess.Popen[str], end: float) -> threading.Timer:
    timer = threading.Timer(max(0.0, end - time.monotonic()), process.kill)
    timer.daemon = True
    timer.start()
    return timer


def _chosen(names: list[str]) -> list[Workload]:
    return [each for each in WORKLOADS if each.name in names]


def _outcome(line: Report) -> Report:
    """What of a line goes into the report."""
    if "failed" in line:
        return {name: line[name] for name in ("failed", "trace") if name in line}
    result: Report = line["result"]
    return result


def _brief(line: Report) -> Report:
    return {name: value for name, value in line.items() if name != "trace"}


if __name__ == "__main__":
    sys.exit(main())
