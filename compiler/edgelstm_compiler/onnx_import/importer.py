"""ONNX to Graph: one walk over the nodes with static shapes, folding what is known.

Every ONNX name stands for a known array, a value of the graph, or (behind a refused node) for
nothing. Refusals that reach an output are collected into one error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import onnx

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Cast
from edgelstm_compiler.ir.types import Array, TensorType, Value
from edgelstm_compiler.onnx_import.bodies import BodyImporter, Item, RefusedBodyError, Unknown
from edgelstm_compiler.onnx_import.builder import GraphBuilder
from edgelstm_compiler.onnx_import.dependence import depend
from edgelstm_compiler.onnx_import.folding import is_foldable
from edgelstm_compiler.onnx_import.frames import (
    UNKNOWN_COUNT,
    Dependence,
    FrameCountError,
    FramesDecideError,
    RefusedError,
    explain,
)
from edgelstm_compiler.onnx_import.known_nodes import compute_known
from edgelstm_compiler.onnx_import.loops import unroll_loop, unroll_scan
from edgelstm_compiler.onnx_import.nodes import live_nodes, read_attributes
from edgelstm_compiler.onnx_import.ops import OPERATORS
from edgelstm_compiler.onnx_import.order import describe_node, node_reads, sub_graphs
from edgelstm_compiler.onnx_import.other_floats import output_types, widened
from edgelstm_compiler.onnx_import.read import OnnxModel, opset_of
from edgelstm_compiler.onnx_import.recognition import recognize
from edgelstm_compiler.onnx_import.refusals import (
    EXPORT_THE_LAYER,
    Refusal,
    in_order,
    is_standard,
    operator_name,
    refusal,
    refusals_inside,
    refuse,
    unsupported_reason,
)
from edgelstm_compiler.onnx_import.scan_8 import rows_of_batch, stacked_batch
from edgelstm_compiler.onnx_import.sequences import (
    Carried,
    TensorList,
    check_tensors,
    import_sequence,
    is_sequence_operator,
)
from edgelstm_compiler.onnx_import.shapes import resolve_shapes
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand
from edgelstm_compiler.onnx_import.tensors import is_other_float, to_array
from edgelstm_compiler.onnx_import.walking import walk_loop, walk_scan

LOOPS = ("Loop", "Scan")
MAX_TOTAL_FOLDED_BYTES = 1 << 31


Scope: TypeAlias = "dict[str, Item]"


def import_graph(
    model: OnnxModel,
    shapes: Mapping[str, Sequence[int]] | None = None,
    bound: Mapping[str, Array] | None = None,
    time: Sequence[tuple[str, int]] = (),
) -> Graph:
    """Import a model with static shapes.

    Args:
        model: what `read_model` returned.
        shapes: of inputs with dynamic extents, by input name.
        bound: inputs that become constants of the graph (a control input, weights), by name.
        time: `(input, axis)` that count frames. Where there are some, the graph has to be the same
            at every number of frames from 1 up, but for extents that grow with that number.

    Raises:
        FrameCountError: the number of frames decides what the model computes.
        ShapeError: shapes are missing or contradict each other.
        UnsupportedOpError: all operators and attributes that are refused, one a line.
        ModelError: anything else that makes the model unusable; it says where and what.
    """
    walk = _Walk(model, shapes or {}, time)
    outputs = walk.import_main(shapes or {}, bound or {})
    return walk.builder.finish(model.name, outputs)


class _Walk:
    """One import in progress."""

    def __init__(
        self,
        model: OnnxModel,
        shapes: Mapping[str, Sequence[int]],
        time: Sequence[tuple[str, int]],
    ) -> None:
        frames = next((shapes[name][axis] for name, axis in time), 1)
        self.builder = GraphBuilder(frames)
        self._model = model
        self._time = time
        self._folded_bytes = 0
        self._frame_counts: set[Refusal] = set()
        # By identity; what a key names is kept beside it, so that no other object takes its place.
        self._arrays: dict[int, tuple[onnx.TensorProto, Array]] = {}
        self._results: dict[tuple[int, ...], tuple[Any, Sequence[Item | None]]] = {}

    def import_main(
        self, shapes: Mapping[str, Sequence[int]], bound: Mapping[str, Array]
    ) -> list[tuple[str, Value]]:
        """Inputs, nodes and outputs of the main graph."""
        graph = self._model.body.graph
        scope: Scope = {name: Known(name, data) for name, data in self._bound(bound).items()}
        inputs = [item for item in self._model.inputs if item.name not in bound]
        resolved = resolve_shapes(inputs, shapes)
        for info in inputs:
            kind = TensorType(info.dtype, resolved[info.name])
            axes = [axis for name, axis in self._time if name == info.name]
            value = self.builder.add_input(info.name, kind, axes)
            if is_other_float(info.dtype.numpy):
                value = self._cast(value, DType.F32, f"input '{info.name}'")
            scope[info.name] = value
        found = self._import_graph(graph, scope, "")
        refusals = [item.refusals for item in found if isinstance(item, Unknown)]
        if refusals:
            all_of_them = frozenset[Refusal]().union(*refusals)
            if all_of_them <= self._frame_counts:
                raise FrameCountError([row[1:] for row in in_order(all_of_them)])
            raise refuse(all_of_them)
        outputs = []
        types = output_types(graph)
        for name, item in zip(self._model.outputs, found, strict=True):
            assert not isinstance(item, Unknown)
            if isinstance(item, TensorList):
                raise UnsupportedOpError(
                    f"the output '{name}' is a sequence of {len(item.items)} tensors; end the "
                    "model with ConcatFromSequence"
                )
            if isinstance(item, Known):
                if item.frames is not None:
                    reason = explain(item.name, item.frames)
                    raise FrameCountError([(f"output '{name}'", reason)])
                outputs.append((name, self.builder.constant(name, item.data, f"output '{name}'")))
            else:
                is_narrowed = name in types and item.type.dtype is DType.F32
                where = f"output '{name}'"
                outputs.append(
                    (name, self._cast(item, types[name], where) if is_narrowed else item)
                )
        return outputs

    def _cast(self, value: Value, dtype: DType, origin: str) -> Value:
        return self.builder.emit(Cast(dtype), (value,), f"{value.name}.{dtype.value}", origin)[0]

    def _bound(self, bound: Mapping[str, Array]) -> Mapping[str, Array]:
        infos = {item.name: item for item in self._model.inputs}
        for name, data in bound.items():
            if name not in infos:
                known = ", ".join(infos) or "none"
                raise ShapeError(f"'{name}' is bound; the inputs of the model are: {known}")
            info = infos[name]
            fits = info.dims is None or (
                len(info.dims) == data.ndim
                and all(
                    not isinstance(dim, int) or dim == extent
                    for dim, extent in zip(info.dims, data.shape, strict=True)
                )
            )
            if not fits or data.dtype != info.dtype.numpy:
                raise ShapeError(f"'{name}' is bound to {TensorType.of(data)}, expected {info}")
        return bound

    def _import_graph(
        self,
        graph: onnx.GraphProto,
        scope: Scope,
        path: str,
        wanted: Sequence[str] | None = None,
    ) -> list[Item]:
        """Import the nodes that some values need; returns what these are.

        Args:
            graph: the graph.
            scope: what its nodes may read.
            path: in front of the numbers of its nodes, for messages.
            wanted: the values; None: the graph's outputs.
        """
        scope = dict(scope)
        stored = {tensor.name: tensor for tensor in graph.initializer}
        wanted = [item.name for item in graph.output] if wanted is None else wanted
        live = live_nodes(graph, wanted)
        read: set[str] = set(wanted)
        for index in live:
            read |= node_reads(graph.node[index])
        for name in stored.keys() & read:
            scope[name] = Known(name, self._array(stored[name]))
        for index in live:
            node = graph.node[index]
            names = tuple(name if name in read else "" for name in node.output)
            results = self._import_node(node, names, scope, f"{path}{index}")
            for name, item in zip(names, results, strict=False):
                if name and item is not None:
                    scope[name] = self._named(name, item)
            for name in names:
                if name and name not in scope:
                    label = describe_node(node, f"{path}{index}")
                    raise ModelError(f"{label}: its output '{name}' is not one of the operator's")
        return [scope[name] for name in wanted]

    def _array(self, tensor: onnx.TensorProto) -> Array:
        """The elements; of a tensor that a loop's body reads again and again, the same array."""
        found = self._arrays.get(id(tensor))
        if found is None:
            found = self._arrays[id(tensor)] = (tensor, to_array(tensor))
        return found[1]

    def _named(self, name: str, item: Item) -> Item:
        if isinstance(item, Value):
            self.builder.wish(item, name)
        elif isinstance(item, Known) and not item.name:
            return replace(item, name=name)
        return item

    def _import_node(
        self, node: onnx.NodeProto, names: tuple[str, ...], scope: Scope, index: str
    ) -> Sequence[Item | None]:
        origin = describe_node(node, index)
        inputs = [scope[name] if name else None for name in node.input]
        behind = [item for item in inputs if isinstance(item, Unknown)]
        try:
            if node.op_type == "If" and is_standard(node):
                return self._import_if(node, inputs[0], scope, index, origin)
            if behind:
                return [self._behind(node, inputs, behind, index)] * len(names)
            carried = [item for item in inputs if not isinstance(item, Unknown)]
            if not all(item is None or isinstance(item, Known) for item in carried):
                carried = [
                    widened(item, self.builder) if isinstance(item, Known) else item
                    for item in carried
                ]
            if node.op_type in LOOPS and is_standard(node):
                return self._import_loop(node, carried, names, scope, index, origin)
            operands = [None if isinstance(item, TensorList) else item for item in carried]
            if is_standard(node) and is_sequence_operator(node.op_type):
                seen = self._seen(node, operands, names, index, origin)
                return [import_sequence(seen, carried)]
            if node.op_type == "Identity" and isinstance(carried[0], TensorList):
                return [carried[0]]
            check_tensors(carried)
            return self._import_operator(node, operands, names, index, origin)
        except RefusedError as refused:
            refusals = {refusal(node, origin, str(refused))}
            if isinstance(refused, FramesDecideError):
                self._frame_counts |= refusals
            for number, inner in enumerate(sub_graphs(node)):
                refusals |= refusals_inside(inner, f"{index}.{number}.")
            refusals = refusals.union(*(item.refusals for item in behind))
            return [Unknown(frozenset(refusals))] * len(names)

    def _import_operator(
        self,
        node: onnx.NodeProto,
        operands: Sequence[Operand | None],
        names: tuple[str, ...],
        index: str,
        origin: str,
    ) -> Sequence[Item | None]:
        """Fold a node on known inputs, or call its import function."""
        if not is_standard(node) and operator_name(node) not in OPERATORS:
            raise RefusedError(unsupported_reason(node))
        seen = self._seen(node, operands, names, index, origin)
        present = [item for item in operands if item is not None]
        is_constant = bool(present) and all(isinstance(item, Known) for item in present)
        if is_constant and node.op_type not in ("LSTM", "GRU", "RNN"):
            known = [item for item in present if isinstance(item, Known)]
            if any(item.frames is not None for item in known):
                return self._fold(node, seen)
            key = (id(node), *(id(item.data) for item in known))
            if key not in self._results:
                # A loop's body computes the same of its weights in every turn.
                self._results[key] = ((node, present), self._fold(node, seen))
            return self._results[key][1]
        if operator_name(node) not in OPERATORS:
            raise RefusedError(unsupported_reason(node))
        return OPERATORS[operator_name(node)](seen)

    def _seen(
        self,
        node: onnx.NodeProto,
        operands: Sequence[Operand | None],
        names: tuple[str, ...],
        index: str,
        origin: str,
    ) -> OnnxNode:
        return OnnxNode(
            op_type=operator_name(node),
            opset=opset_of(self._model.body),
            origin=origin,
            name=node.name or f"{node.op_type}_{index}",
            inputs=tuple(operands),
            outputs=names,
            attributes=read_attributes(node),
            builder=self.builder,
        )

    def _behind(
        self,
        node: onnx.NodeProto,
        inputs: Sequence[Item | None],
        behind: Sequence[Unknown],
        index: str,
    ) -> Unknown:
        """What stands behind refused nodes; the node may be refused itself, too."""
        is_loop = is_standard(node) and node.op_type in LOOPS
        is_listed = is_loop or operator_name(node) in OPERATORS
        is_computed = any(
            isinstance(item, Value) or (isinstance(item, Unknown) and not item.is_extent)
            for item in inputs
        )
        # Of known inputs and extents it would have been folded.
        is_folded = not is_computed and is_standard(node) and is_foldable(node.op_type)
        if not (is_listed or is_folded):
            raise RefusedError(unsupported_reason(node))
        is_extent = node.op_type in ("Shape", "Size") or not is_computed
        inside = [refusals_inside(inner, f"{index}.0.") for inner in sub_graphs(node) if is_loop]
        refusals = frozenset[Refusal]().union(*(item.refusals for item in behind), *inside)
        return Unknown(refusals, is_extent)

    def _fold(self, node: onnx.NodeProto, seen: OnnxNode) -> Sequence[Item | None]:
        """Compute a node on known inputs, and how it depends on the number of frames."""
        inputs = [item if isinstance(item, Known) else None for item in seen.inputs]
        if all(item is None or item.frames is None for item in inputs):
            return self._compute(node, seen)
        if node.op_type in ("Shape", "Size"):
            return OPERATORS[node.op_type](seen)

        def recompute(arrays: Sequence[Array | None]) -> list[Array]:
            operands = tuple(None if x is None else Known("", x) for x in arrays)
            found = self._compute(node, replace(seen, inputs=operands))
            return [item.trial for item in found if isinstance(item, Known)]

        plain = [None if item is None else replace(item, frames=None) for item in inputs]
        results = self._compute(node, replace(seen, inputs=tuple(plain)))
        known = [item for item in results if isinstance(item, Known)]
        frames = depend(
            node,
            inputs,
            [item.trial for item in known],
            recompute,
            self.builder.frames,
            seen.origin,
        )
        found = iter(frames)
        return [
            self._dependent(item, next(found), seen.outputs[place])
            if isinstance(item, Known)
            else item
            for place, item in enumerate(results)
        ]

    @staticmethod
    def _dependent(item: Known, frames: Dependence, name: str) -> Known:
        """The known tensor; where it depends on the frames under its own name, for messages."""
        return item if frames is None else Known(name or item.name, item.trial, frames)

    def _compute(self, node: onnx.NodeProto, seen: OnnxNode) -> Sequence[Operand | None]:
        """Compute a node on known inputs, as the graph would compute it where it can."""
        results = compute_known(node, seen, self.builder)
        self._folded_bytes += sum(item.data.nbytes for item in results if isinstance(item, Known))
        if self._folded_bytes > MAX_TOTAL_FOLDED_BYTES:
            raise ModelError(f"{seen.origin}: the constants of the model grow beyond all measure")
        return results

    def _import_loop(
        self,
        node: onnx.NodeProto,
        inputs: Sequence[Carried | None],
        names: tuple[str, ...],
        scope: Scope,
        index: str,
        origin: str,
    ) -> list[Item]:
        """The copies of a body; refused as a whole where one of its nodes is."""
        graph = next((a.g for a in node.attribute if a.name == "body"), None)
        if graph is None:
            raise ModelError(f"{origin}: its body is missing")
        refusals: set[Refusal] = set()

        def body(given: Sequence[Carried], turn: int) -> list[Carried]:
            inner: Scope = dict(scope)
            inner.update(zip((item.name for item in graph.input), given, strict=True))
            found = self._import_graph(graph, inner, f"{index}.{turn}.")
            for item in found:
                if isinstance(item, Unknown):
                    refusals.update(item.refusals)
            if refusals:
                raise RefusedBodyError
            return [item for item in found if not isinstance(item, Unknown)]

        operands = [None if isinstance(item, TensorList) else item for item in inputs]
        seen = self._seen(node, operands, names, index, origin)
        is_loop = node.op_type == "Loop"
        start = [item for item in inputs[2:] if item is not None]
        try:
            importer = BodyImporter(self, graph, scope, index)
            if not is_loop and seen.opset < 9:
                rows = [self._walk(each, graph, (), importer) for each in rows_of_batch(seen)]
                found = [row for row in rows if row is not None]
                if len(found) == len(rows):
                    return list(stacked_batch(seen, found))
            else:
                walked = self._walk(seen, graph, start, importer)
                if walked is not None:
                    return list(walked)
            return list(
                unroll_loop(seen, graph, start, body) if is_loop else unroll_scan(seen, graph, body)
            )
        except RefusedError as refused:
            raise type(refused)(f"{refused}; {EXPORT_THE_LAYER}") from refused
        except RefusedBodyError:
            return [Unknown(frozenset(refusals))] * len(names)

    def _walk(
        self,
        seen: OnnxNode,
        graph: onnx.GraphProto,
        start: Sequence[Carried],
        importer: BodyImporter,
    ) -> list[Carried] | None:
        """What a loop gives as one Scan or cell; None where its turns are no pattern."""
        try:
            if seen.op_type == "Loop":
                walk = walk_loop(seen, graph, start, importer)
            else:
                walk = walk_scan(seen, graph, importer)
        except RefusedBodyError:
            # What is refused of carried values may be folded where the turns are laid out.
            return None
        if walk is None:
            return None
        rolled = walk.rolled
        return walk.finish(*(recognize(seen, rolled) or (rolled.finals, rolled.rows)))

    def import_apart(
        self, graph: onnx.GraphProto, scope: Scope, path: str, wanted: Sequence[str] | None = None
    ) -> tuple[GraphBuilder, list[Item]]:
        """Import a graph into a builder of its own; its extents are those of now."""
        outer = self.builder
        self.builder = GraphBuilder(outer.frames)
        try:
            return self.builder, self._import_graph(graph, scope, path, wanted)
        finally:
            self.builder = outer

    def _import_if(
        self, node: onnx.NodeProto, condition: Item | None, scope: Scope, index: str, origin: str
    ) -> list[Item]:
        if isinstance(condition, Unknown) and condition.is_extent:
            refusals = condition.refusals.union(
                *(refusals_inside(inner, f"{index}.") for inner in sub_graphs(node))
            )
            return [Unknown(refusals)] * len(node.output)
        if not isinstance(condition, Known):
            raise RefusedError(
                "its condition is computed at run time; only an If on constants is resolved "
                "(fix a control input: --set NAME=VALUE)"
            )
        if condition.frames is not None:
            raise FramesDecideError(
                f"which branch it takes is decided by {condition.name!r}, {UNKNOWN_COUNT}"
            )
        if condition.data.size != 1:
            raise ShapeError(f"{origin}: its condition has shape {condition.shape}")
        wanted = "then_branch" if bool(condition.data.reshape(())) else "else_branch"
        branch = next((a.g for a in node.attribute if a.name == wanted), None)
        if branch is None:
            raise ModelError(f"{origin}: the {wanted} is missing")
        return self._import_graph(branch, scope, f"{index}.")
