"""Which way of multiplying packed bytes an instruction set has; **a new way is one file here**.

| file | activations | instructions for one register of words |
|---|---|---|
| `x86_bytes.py` | int8 | vpdpbusd: 1 |
| `x86_signs.py` | int8 | exclusive or, pmaddubsw, pmaddwd by ones, addition: 4 |
| `x86_pairs.py` | int8, int16 | even and odd bytes as 16 bits, twice pmaddwd: 6 |
| `neon_words.py` | int8 | sdot by lane: 1 |
| `neon_digits.py` | int16 | sdot of two digits: 2 |
| `neon_bytes.py` | int8 | smull or smlal twice, sadalp for every second register twice: 3 |
| `neon_halves.py` | int16 | twice sxtl, four times smlal: 6 |
| `singles.py` | int8, int16 | any processor: byte by byte, 12 |

One unit at a time, for processors without vectors:

| file | activations | instructions for a word of weights |
|---|---|---|
| `dsp.py` | int8 but -128 | uxtb16, smlad, smlad: 3 |
| `dsp.py` | int8, int16 | uxtb16, sxtb16, smlad, smlad: 4 |
| `multiply.py` | int8, int16 | 4 multiply-adds of bytes read one by one: 8, or 12 |
| `helium.py` | int8, int16 | 16 bytes: vmladava, or 2 |
"""

from __future__ import annotations

from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu.dot.dsp import LONGEST, DspBytes, DspPairs
from edgelstm_targets.tvm_cpu.dot.helium import Helium
from edgelstm_targets.tvm_cpu.dot.multiply import Multiply
from edgelstm_targets.tvm_cpu.dot.neon_bytes import NeonBytes
from edgelstm_targets.tvm_cpu.dot.neon_digits import NeonDigits
from edgelstm_targets.tvm_cpu.dot.neon_halves import NeonHalves
from edgelstm_targets.tvm_cpu.dot.neon_words import NeonWords
from edgelstm_targets.tvm_cpu.dot.product import DotProduct
from edgelstm_targets.tvm_cpu.dot.scalar import ScalarProduct
from edgelstm_targets.tvm_cpu.dot.singles import Singles
from edgelstm_targets.tvm_cpu.dot.x86_bytes import X86Bytes
from edgelstm_targets.tvm_cpu.dot.x86_pairs import X86Pairs
from edgelstm_targets.tvm_cpu.dot.x86_signs import X86Signs

_BYTES: dict[str, type[DotProduct]] = {"vnni": X86Bytes, "madd": X86Signs}
"""For int8 vectors and unsigned weights, by `InstructionSet.dot`."""
_ANY: dict[str, type[DotProduct]] = {"vnni": X86Pairs, "madd": X86Pairs}
"""For all others."""
_SIGNED: dict[tuple[str, str], type[DotProduct]] = {
    ("sdot", "int8"): NeonWords,
    ("sdot", "int16"): NeonDigits,
    ("neon", "int8"): NeonBytes,
    ("neon", "int16"): NeonHalves,
}
"""For weights without an offset, by `InstructionSet.dot` and the vector's type."""


def dot_product(isa: InstructionSet, dtype: str, weight_offset: int) -> DotProduct:
    """How vectors of a type ("int8", "int16") are multiplied with weights plus an offset."""
    way = _ANY.get(isa.dot, Singles)
    if dtype == "int8" and weight_offset == 128:
        way = _BYTES.get(isa.dot, way)
    if weight_offset == 0:
        way = _SIGNED.get((isa.dot, dtype), way)
    return way(isa, dtype, weight_offset)


_SCALAR: dict[str, type[ScalarProduct]] = {
    "dsp": DspPairs,
    "multiply": Multiply,
    "helium": Helium,
}
"""One unit at a time, by `InstructionSet.dot`."""


def scalar_product(
    isa: InstructionSet, dtype: str, packing: BytePacking, extent: int, is_bounded: bool
) -> ScalarProduct:
    """How a vector is multiplied one unit at a time.

    Args:
        isa: the instruction set.
        dtype: of the vector, "int8" or "int16".
        packing: of the weights.
        extent: elements of the vector.
        is_bounded: they are within [-127, 127].
    """
    way = _SCALAR[isa.dot]
    if way is DspPairs and dtype == "int8" and is_bounded and extent <= LONGEST:
        way = DspBytes
    return way(dtype, packing)
