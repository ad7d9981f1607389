"""How many multiply-adds a second one core does at most: the limit that no float kernel can beat.

Run by hand: `python -m tests.bench.peak`. Independent multiply-adds on registers alone, in
assembler, so that nothing else decides; the least processor time of several turns. Wants a C
compiler.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

from edgelstm.engines.cpu_features import cpu_flags

_TURNS, _ROUNDS = 20, 200_000
_SOURCE = """
void rounds(long n) {{
  __asm__ volatile("{zeros}" ::: {clobbered});
  for (long i = 0; i < n; i++) __asm__ volatile("{body}" ::: {clobbered});
}}
"""

LEAST_OF_BODY = {"LSTM": 61, "GRU": 36}
"""Instructions of the pipes for multiply-adds in the body of a cell, for a register of units: what
`near_tanh_parts` and `near_sigmoid_denominator` take (11 each), what joins them, and one for each
division, which keeps a pipe busy for longer."""


def registers_per_second() -> tuple[float, int]:
    """Multiply-adds of vectors a second, and the lanes of these vectors."""
    flags = cpu_flags()
    register, lanes = ("zmm", 16) if "avx512f" in flags else ("ymm", 8)
    if "fma" not in flags:
        raise SystemExit("this processor has no fused multiply-add")
    used = range(17 if lanes == 16 else 16)  # the first is a factor, the others are sums
    zeros = "".join(f"vpxor %%xmm{i}, %%xmm{i}, %%xmm{i}\\n" for i in used[:16])
    add = f"vfmadd231ps %%{register}0, %%{register}0, %%{register}"
    body = "".join(f"{add}{i}\\n" for i in used[1:])
    clobbered = ", ".join(f'"xmm{i}"' for i in used)
    with tempfile.TemporaryDirectory() as name:
        source, library = Path(name) / "peak.c", Path(name) / "peak.so"
        source.write_text(_SOURCE.format(zeros=zeros, body=body, clobbered=clobbered), "utf-8")
        options = ["-O2", "-march=native", "-shared", "-fPIC", "-o"]
        subprocess.run(["cc", *options, str(library), str(source)], check=True)
        rounds = ctypes.CDLL(str(library)).rounds
    best = float("inf")
    for _ in range(_TURNS):
        start = time.process_time()
        rounds(ctypes.c_long(_ROUNDS))
        best = min(best, time.process_time() - start)
    return _ROUNDS * (len(used) - 1) / best, lanes


def least_seconds(op: str, features: int, hidden: int, peak: tuple[float, int]) -> float:
    """Of one step of a layer of one stream: its multiply-adds and those of the cell's body."""
    rate, lanes = peak
    gates = {"LSTM": 4, "GRU": 3}[op]
    blocks = hidden / lanes
    return blocks * (gates * (features + hidden) + LEAST_OF_BODY[op]) / rate


def main() -> None:
    """Print the peak."""
    rate, lanes = registers_per_second()
    print(f"{rate / 1e9:.2f} G multiply-adds of {lanes} lanes a second: {rate * lanes / 1e9:.1f} G")


if __name__ == "__main__":
    main()
