"""The former name of `edgelstm.io`: its modules under the names that they had here."""

from __future__ import annotations

import sys
from importlib import import_module

_MOVED = {
    **{
        name: name
        for name in (
            "base",
            "call_run",
            "columns",
            "continuation",
            "files",
            "frame_arrays",
            "limits",
            "named_outputs",
            "ndjson",
            "numbers",
            "numpy_arrays",
            "recording",
            "replay",
            "state_file",
            "stream_run",
            "units",
            "watch",
            "windows",
        )
    },
    **{
        name: f"sources.{name}"
        for name in (
            "csv_cells",
            "csv_layout",
            "csv_rows",
            "csv_source",
            "text_lines",
            "wrapped",
        )
    },
    **{name: f"sinks.{name}" for name in ("csv_table", "lines", "output_sink")},
}

for _old, _new in _MOVED.items():
    _module = import_module(f"edgelstm.io.{_new}")
    sys.modules[f"{__name__}.{_old}"] = _module
    globals()[_old] = _module
