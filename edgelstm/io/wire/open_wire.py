"""Which wire format an address asks for: `format=csv|ndjson|struct:<6h` and what belongs to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from edgelstm.errors import RecordingError
from edgelstm.io.address import Options
from edgelstm.io.wire.base import Wire
from edgelstm.io.wire.csv_lines import CsvLines
from edgelstm.io.wire.json_lines import JsonLines
from edgelstm.io.wire.structs import IDLE_S, Structs

FORMATS = "csv, ndjson (or json), struct:LAYOUT such as struct:<6h"


def wire_maker(options: Options, wanted: Sequence[str], default: str) -> Callable[[], Wire]:
    """Makes readers of the format that an address asks for, one for each connection or topic.

    Args:
        options: takes `format`, `columns`, `delimiter`, `decimal`, `sync`, `skip`, `idle`.
        wanted: names of the model's columns, as far as they are known.
        default: the format where none is asked for.

    Raises:
        RecordingError: there is no such format.
    """
    text = options.text("format", default)
    name, _, layout = text.partition(":")
    columns = options.names("columns")
    delimiter = options.text("delimiter", "").replace("\\t", "\t").replace("tab", "\t")
    decimal = options.text("decimal", "")
    mark = options.text("sync", "")
    skip = options.integer("skip", 0, high=1 << 16)
    idle_s = options.seconds("idle", IDLE_S)
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", mark):
        raise RecordingError(f"sync={mark}: expected bytes as hexadecimal digits, such as AA55")
    if name == "csv":
        return lambda: CsvLines(columns, wanted, delimiter, decimal)
    if name in ("ndjson", "json"):
        return lambda: JsonLines(columns)
    if name in ("struct", "packed"):
        make = partial(Structs, layout, columns, bytes.fromhex(mark), skip, idle_s)
        make()
        return make
    raise RecordingError(f"format={text}: no such format; there are: {FORMATS}")
