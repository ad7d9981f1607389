"""Run by the user's Python, which has PyTorch: a .pt2 file to ONNX, with what the program computes.

    python torch_worker.py MODEL.pt2 MODEL.onnx PROBES.npz

Knows nothing of edgelstm. Exit code 3: a package is missing; its name is the last line.
"""

import importlib
import sys
from typing import Any


def main() -> int:
    """Export, and compute the program at two lengths."""
    source, target, probes = sys.argv[1:4]
    try:
        # By name: other Pythons have them than the one that checks this file.
        np, torch, _ = map(importlib.import_module, ("numpy", "torch", "onnxscript"))
    except ImportError as error:
        print(error.name)
        return 3
    program = torch.export.load(source)
    torch.onnx.export(program, dynamo=True).save(target)
    module = program.module()
    places = {
        spec.arg.name: k
        for k, spec in enumerate(
            s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"
        )
    }
    shapes: list[Any] = [()] * len(places)
    kinds = [torch.float32] * len(places)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in places:
            value = node.meta["val"]
            shapes[places[node.name]] = tuple(value.shape)
            kinds[places[node.name]] = value.dtype
    arrays = {}
    for trial, more in enumerate((0, 3)):
        torch.manual_seed(trial)
        extents = [[_extent(dim, more) for dim in shape] for shape in shapes]
        given = [
            torch.randn(shape, dtype=kind)
            if kind.is_floating_point
            else torch.zeros(shape, dtype=kind)
            for shape, kind in zip(extents, kinds, strict=True)
        ]
        try:
            with torch.no_grad():
                found = module(*given)
        except Exception as error:
            if trial == 0:
                raise
            print(f"at another length: {error}", file=sys.stderr)
            continue
        flat = torch.utils._pytree.tree_leaves(found)
        arrays.update({f"in{trial}_{k}": x.numpy() for k, x in enumerate(given)})
        arrays.update({f"out{trial}_{k}": y.numpy() for k, y in enumerate(flat)})
    np.savez(probes, **arrays)
    return 0


def _extent(dim: Any, more: int) -> int:
    """An extent: free ones are five, then more."""
    if isinstance(dim, int):
        return dim
    return 5 + more


if __name__ == "__main__":
    sys.exit(main())
