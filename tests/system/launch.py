"""The command line in a process of its own, in which signals mean what a test says.

They would be inherited else: nohup and a shell's `&` make what they start ignore some.
"""

from __future__ import annotations

import sys

_PROGRAM = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.{hangup})
runpy.run_module("edgelstm.cli", run_name="__main__")
"""


def command_heeding_signals(hangup: str = "SIG_DFL") -> list[str]:
    """What to put in front of the arguments; `hangup`: name of SIGHUP's disposition."""
    return [sys.executable, "-c", _PROGRAM.format(hangup=hangup)]
