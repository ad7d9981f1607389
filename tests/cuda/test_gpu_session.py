"""The session for a machine with a GPU: nothing that fails in it takes other results along."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgelstm_compiler.driver import compile_model
from edgelstm_targets.numba_cuda.costs import MODEL, Costs, Work
from tests import models
from tests.cuda.emulated import EmulatedGpu, compile_for
from tests.gpu import session
from tests.gpu.calibration import fit_costs
from tests.gpu.report import table
from tests.gpu.sections import parity, time_choice

ROOT = Path(__file__).parents[2]
CHILD = """
import json, os, sys, time
for name in sys.argv[3:-2]:
    if name == "dies":
        os._exit(9)
    if name == "hangs":
        time.sleep(60)
    line = {"failed": "no"} if name == "spoils" else {"result": {"n": 1}}
    print("noise of a library")
    print(json.dumps({"name": name, **line}), flush=True)
    if name == "spoils":
        sys.exit(3)
"""


def test_a_workload_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that die, hang or lose the driver are started again for what is left."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    monkeypatch.setattr(session, "COMMAND", [sys.executable, str(script)])
    monkeypatch.setattr(session, "PATIENCE_S", 2.0)
    names = ["a", "dies", "b", "spoils", "c", "hangs", "d"]
    end = time.monotonic() + 60
    lines = {
        line.pop("name"): line
        for line in session._run_section("parity", tmp_path, names, end, "cuda")
    }
    assert {name for name, line in lines.items() if "result" in line} == {"a", "b", "c", "d"}
    assert lines["dies"]["failed"] == "the process ended with 9"
    assert lines["hangs"]["failed"] == "no result in time"
    assert lines["spoils"]["failed"] == "no"


def test_without_time_everything_is_said_to_be_missing(tmp_path: Path) -> None:
    """A section whose budget is used up starts nothing."""
    lines = list(session._run_section("parity", tmp_path, ["a", "b"], time.monotonic() - 1, ""))
    assert [line["failed"] for line in lines] == ["no time left"] * 2


def row(shape: str, cycles: float, work: Work, exchanges: int = 0) -> dict[str, Any]:
    """What the section `chunk` says of a model."""
    chunk = {"shape": shape, "cycles": cycles, "work": dataclasses.asdict(work)}
    return {"chunk": {**chunk, "exchanges": exchanges}}


def test_constants_are_found_again() -> None:
    """From cycles that follow the model, the constants behind them."""
    true = dataclasses.replace(
        MODEL,
        start=130.0,
        multiply=5.5,
        shared_bytes_a_cycle=90.0,
        l2_bytes_a_cycle=20.0,
        cluster=510.0,
        exchange=1234.0,
    )
    works = {
        "small": Work(1000, 1, 20, 8, 0, 0),
        "larger": Work(4000, 1, 60, 12, 0, 0),
        "shared": Work(8000, 1, 80, 12, 65536, 0),
        "streamed": Work(8000, 2, 80, 12, 65536, 400000),
    }
    rows = {name: row("block", work.cycles(true), work) for name, work in works.items()}
    team = Work(3000, 1, 40, 12, 1024, 0)
    rows["cluster"] = row("cluster", team.cycles(true) + true.cluster, team, 1)
    rows["exchange"] = row("exchange", team.cycles(true) + 2 * true.exchange, team, 2)
    rows["failed"] = {"chunk": {"failed": "no"}}
    found = fit_costs(rows)
    wanted = dataclasses.asdict(true)
    assert found == pytest.approx({name: wanted[name] for name in found}, rel=1e-3)
    assert set(found) == {"start", "multiply", "cluster", "exchange"} | {
        "shared_bytes_a_cycle",
        "l2_bytes_a_cycle",
    }
    Costs(**found)


GROUPED = models.stacked_model(ops=("RNN",), hidden=4, features=2, steps=None)
"""Gets one block a stream and, with math=fp16, groups of two sizes."""


def test_every_kernel_is_checked(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Parity takes each kernel of an artifact, whatever number of streams it is for."""
    compiled = compile_for(GROUPED, "cuda:sm_90", tmp_path, math="fp16")
    gpu.ptx = compiled.ptx
    reference = compile_model(GROUPED, target="reference", check=False)
    assert 2e-6 < parity(compiled.artifact, reference) < 2e-3  # forty frames add up
    started = {note.split()[1] for note in gpu.notes() if note.startswith("cuLaunchKernel ")}
    assert started == {"tiny_many", "tiny_many_16", "tiny_many_64"}


def test_every_kernel_is_timed_by_streams(
    gpu: EmulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that so many streams could take, and which of them they do take; in the table, too."""
    monkeypatch.setattr(gpu, "_run", lambda *_: 0)
    compiled = compile_for(GROUPED, "cuda:sm_90", tmp_path, math="fp16")
    point = time_choice(compiled.artifact, 17)
    assert point["taken"] == "many"
    assert set(point["us"]) == {"many", "many_16", "many_64"}
    report = {"rows": {"rnn": {"streams": {"sweep": [point]}}}, "goals": [], "costs": {}}
    assert "rnn, 17: many* 1000.0, many_16 1000.0, many_64 1000.0" in table(report)


@pytest.mark.slow
def test_the_session_on_the_mock_driver(mock_path: Path, tmp_path: Path) -> None:
    """From one command: compiled, run, timed, reported; results that are wrong are said to be."""
    path = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.session", "--only", "lstm_9_32", "--json", str(path)],
        cwd=ROOT,
        env={**os.environ, "EDGELSTM_CUDA_DRIVER": str(mock_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(path.read_text())
    (found,) = report["rows"].values()
    assert set(found) == {"build", *list(session.BUDGET_S), "peers"}
    # The mock starts no kernel, and its events are a millisecond apart.
    assert found["parity"]["agrees"] is False
    assert found["chunk"]["ns"] == pytest.approx(1e6 / 2048)
    assert found["chunk"]["shape"] == "block"
    assert not any(goal["reached"] for goal in report["goals"])
    assert done.returncode == 1, done.stderr
    assert "goals:" in done.stdout
