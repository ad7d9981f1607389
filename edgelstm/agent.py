"""`python -m edgelstm.agent`: steps models for `edgelstm validate`, on stdin and stdout."""

from __future__ import annotations

import os
import sys

from edgelstm.remote.agent import serve


def main() -> None:
    """Serve until the other end is done; whatever else is printed goes to stderr."""
    source, target = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with os.fdopen(source, "rb") as reader, os.fdopen(target, "wb") as writer:

        def send(data: bytes) -> None:
            writer.write(data)
            writer.flush()

        try:
            serve(reader.read, send)
        except BrokenPipeError:
            os._exit(0)  # nobody listens; closing the writer would complain


if __name__ == "__main__":
    main()
