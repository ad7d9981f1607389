"""Random networks in call mode: what ONNX Runtime computes, or refused by name.

    python -m tests.fuzz.calls --count 5000 --native 1000

The first `--native` of them are compiled for this machine, too. A network that is drawn and not
accepted by ONNX Runtime is drawn again.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from edgelstm.errors import EdgeLSTMError, InternalError, MismatchError, ModelError, TargetError
from edgelstm_compiler import compile_model
from tests.fuzz.call_graphs import draw
from tests.oracle import run_onnxruntime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a network.

    Args:
        kind: "compiled", "refused", "undefined" (ONNX Runtime does not take it, or its numbers are
            not finite), or what must not happen: "mismatch", "crash".
        detail: why.
    """

    kind: str
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether this must not happen."""
        return self.kind in ("mismatch", "crash")


def is_defined(model: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime takes it and gives finite numbers."""
    extents = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(extents).astype(np.float32)
    try:
        found = run_onnxruntime(model, {"x": x})
    except Exception:
        return False
    return all(np.isfinite(data).all() for data in found.values())


def judge(model: onnx.ModelProto, target: str) -> Verdict:
    """Compile a network; the self-check compares it with ONNX Runtime."""
    if not is_defined(model):
        return Verdict("undefined")
    try:
        artifact = compile_model(model, target=target, mode="call")
    except MismatchError as error:
        return Verdict("mismatch", str(error))
    except InternalError as error:
        return Verdict("crash", str(error))
    except (ModelError, TargetError) as error:
        return Verdict("refused", str(error))
    except EdgeLSTMError as error:
        return Verdict("crash", str(error))
    except Exception:
        return Verdict("crash", traceback.format_exc())
    check = artifact.manifest["check"]
    return Verdict("compiled" if check["done"] else "undefined", str(check.get("reason", "")))


def main() -> int:
    """Draw and judge; 1 where something was wrong, or less than nine in ten compiled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--native", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    wrong = 0
    for seed in range(args.first, args.first + args.count):
        targets = ["reference", *(["host"] if seed < args.first + args.native else [])]
        for target in targets:
            verdict = judge(draw(seed), target)
            counts[f"{target}: {verdict.kind}"] += 1
            if verdict.kind == "refused":
                reasons[verdict.detail.splitlines()[-1].split(": ", 1)[-1][:90]] += 1
            if verdict.is_wrong:
                wrong += 1
                print(f"seed {seed} on {target}: {verdict.kind}: {verdict.detail}", flush=True)
    for name, count in sorted(counts.items()):
        print(f"{count:6d}  {name}")
    for reason, count in reasons.most_common(10):
        print(f"{count:6d}  refused: {reason}")
    compiled, refused = counts["reference: compiled"], counts["reference: refused"]
    return int(wrong > 0 or compiled < 0.9 * (compiled + refused))


if __name__ == "__main__":
    sys.exit(main())
