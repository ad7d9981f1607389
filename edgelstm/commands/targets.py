"""`edgelstm targets`: what can be compiled for, and what this machine runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import click

from edgelstm.commands.report import json_option, print_facts, print_json, print_table, say
from edgelstm.engines import ENGINES, find_engine
from edgelstm.engines.cpu_features import cpu_flags, machine
from edgelstm.errors import EdgeLSTMError
from edgelstm.install_hint import install_hint

TARGET_GROUP = "edgelstm.targets"
"""A target each."""

FAMILY_GROUP = "edgelstm.target_families"
"""Targets that differ by their processor alone: `processors()` and `make(name)`."""


@click.command("targets")
@json_option
def targets_command(as_json: bool) -> None:
    """List the targets: whether this machine can build for them and run them, and why not.

    \b
    edgelstm targets
    edgelstm targets --json
    """
    report: dict[str, Any] = {
        "machine": machine(),
        "cpu_flags": sorted(cpu_flags()),
        "targets": sorted(_targets(), key=lambda found: str(found["name"])),
        "engines": [_try_engine(name) for name in ENGINES],
    }
    if as_json:
        print_json(report)
        return
    rows = [
        [t["name"], _yes(t["can_build"]), _yes(t["can_run"]), t["reason"]]
        for t in report["targets"]
    ]
    if rows:
        print_table(["target", "builds", "runs", ""], rows, indent=0)
    else:
        say(f"no targets: compiling needs {install_hint('compiler')}")
    engines = [f"{e['name']} ({e['reason'] or 'ok'})" for e in report["engines"]]
    print_facts([("machine", machine()), ("engines", ", ".join(engines))], indent=0)


def _targets() -> list[dict[str, Any]]:
    found = [_probe(entry.name, entry.load) for entry in entry_points(group=TARGET_GROUP)]
    for entry in entry_points(group=FAMILY_GROUP):
        try:
            family = entry.load()()
            names = list(family.processors())
        except Exception as exc:  # a plug-in may fail in any way
            found.append(_broken(entry.name, exc))
            continue
        found += [_probe(name, partial(_maker, family, name)) for name in names]
    return found


def _maker(family: Any, name: str) -> Callable[[], Any]:
    return partial(family.make, name)


def _probe(name: str, load: Callable[[], Callable[[], Any]]) -> dict[str, Any]:
    """What a target says about this machine; a target that breaks says so."""
    try:
        probe = load()().probe()
        found = {"can_build": bool(probe.can_build), "can_run": bool(probe.can_run)}
        return {"name": name, **found, "reason": str(probe.reason)}
    except Exception as exc:  # a plug-in may fail in any way
        return _broken(name, exc)


def _broken(name: str, exc: Exception) -> dict[str, Any]:
    reason = (
        f"{exc}: {install_hint('compiler')}"
        if isinstance(exc, ImportError)
        else f"{type(exc).__name__}: {exc}"
    )
    return {"name": name, "can_build": False, "can_run": False, "reason": reason}


def _try_engine(name: str) -> dict[str, Any]:
    try:
        find_engine(name).expect_machine()
    except Exception as exc:  # an engine may miss a library or a device
        reason = str(exc) if isinstance(exc, EdgeLSTMError) else f"{type(exc).__name__}: {exc}"
        return {"name": name, "ok": False, "reason": reason}
    return {"name": name, "ok": True, "reason": ""}


def _yes(value: bool) -> str:
    return "yes" if value else "no"
