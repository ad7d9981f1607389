"""Step graph -> Program: every value gets a place, every node a kernel call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm.sessions import mode_of
from edgelstm.signature import Signature
from edgelstm_compiler.ir.graph import State, StepGraph, constant_data
from edgelstm_compiler.ir.kernels import CopyKernel, OpKernel, RecurrentKernel
from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_compiler.ir.ops import Reshape, Scan
from edgelstm_compiler.ir.program import NOTES_BYTES, Buffer, Call, Program, ScanKernel, Space
from edgelstm_compiler.ir.types import Constant, TensorType, Value
from edgelstm_compiler.ir.workspace import workspace_bytes
from edgelstm_compiler.lowering.bounds.check import StepBounds, find_bounds
from edgelstm_compiler.lowering.channels_last import keep_channels_last
from edgelstm_compiler.lowering.fuse_convolutions import fuse_convolutions
from edgelstm_compiler.lowering.fuse_windows import fuse_windows
from edgelstm_compiler.lowering.limit import expect_few
from edgelstm_compiler.lowering.memory import Life, align, plan_arena
from edgelstm_compiler.lowering.scan import select_scan
from edgelstm_compiler.lowering.select import Selected, select_kernels
from edgelstm_compiler.lowering.signature import make_signature

_FOREVER = 1 << 30
# Inputs and outputs of a recurrent kernel that are one state: initial_h and y_h, initial_c and y_c.
_IN_PLACE = ((3, 1), (4, 2))


@dataclass(slots=True, eq=False)
class _Storage:
    """A piece of memory that one or several values (reshapes of each other) stand in."""

    space: Space
    nbytes: int
    offset_bytes: int = 0
    first: int = 0
    last: int = 0
    buffers: dict[object, Buffer] = field(default_factory=dict)


def lower(
    graph: StepGraph,
    unit_block: int | None,
    rate_hz: float | None = None,
    weight_offset: int = 0,
    packing: BytePacking | None = None,
    columns: int = 1,
) -> Program:
    """Choose kernels, pack weights, plan memory.

    Args:
        graph: the step graph.
        unit_block: units per block of packed weights. None: operators stay as they are and every
            value has its own memory (the reference target).
        rate_hz: sampling rate for the signature.
        weight_offset: what is added to int8 weights for dot products (0, or 128: unsigned).
        packing: of int8-full; None: in blocks of unit_block with that offset.
        columns: most elements of a batch, or rows, that a layer takes together.

    Raises:
        CapabilityError: compiled code would use integers as indices that nothing bounds.
        ModelError: more than `MAX_NODES` operations.
    """
    expect_few(len(graph.nodes), mode_of(graph.mode).unit)
    bounds = find_bounds(graph)
    if unit_block is not None:
        _expect_bounded(bounds)
    signature = make_signature(graph, rate_hz, bounds)
    graph = _fused(graph, unit_block, columns)
    return _Lowering(graph, unit_block, signature, weight_offset, packing, columns).program()


def _fused(graph: StepGraph, unit_block: int | None, columns: int) -> StepGraph:
    """What compiled programs compute as one operator."""
    if unit_block is None:
        return graph
    graph = fuse_windows(graph)
    if columns > 1:
        graph = keep_channels_last(fuse_convolutions(graph, unit_block))
    return graph


def _expect_bounded(bounds: StepBounds) -> None:
    """Compiled code checks inputs; what is computed inside it does not."""
    if not bounds.unbounded:
        return
    uses = "; ".join(
        f"{use.node.origin or use.node.name} uses {use.value.name!r} as {use.what}, which must lie "
        f"within {use.low} and {use.high}"
        for use in bounds.unbounded
    )
    raise CapabilityError(
        f"{uses}: it is computed in the model, and nothing says that it does. Put a Clip with "
        "these bounds in front of it, or use --target reference, which looks at it in every step"
    )


class _Lowering:
    """The places found so far."""

    def __init__(
        self,
        graph: StepGraph,
        unit_block: int | None,
        signature: Signature,
        weight_offset: int,
        packing: BytePacking | None,
        columns: int,
    ) -> None:
        self.graph = graph
        self.signature = signature
        self.shares_memory = unit_block is not None
        selected = select_kernels(graph, unit_block, weight_offset, packing, columns)
        if self.shares_memory:
            selected = self._with_scans(selected, unit_block, weight_offset, packing, columns)
        self.roots = self._find_roots(selected)
        self.selected = [item for item in selected if not self._is_alias(item)]
        self.constants = {c.value: c for c in graph.constants}
        for item in selected:
            self.constants.update((c.value, c) for c in item.constants)
        self.uses = self._find_uses()
        self.storages: dict[Value, _Storage] = {}
        self.weights: list[bytes] = []
        self.weight_bytes = 0
        self.known_weights: dict[bytes, int] = {}

    def _with_scans(
        self,
        selected: Sequence[Selected],
        unit_block: int | None,
        weight_offset: int,
        packing: BytePacking | None,
        columns: int,
    ) -> tuple[Selected, ...]:
        """The kernels, with programs for the bodies of Scans."""

        def lower_body(graph: StepGraph) -> Program:
            signature = make_signature(graph)
            graph = _fused(graph, unit_block, columns)
            options = (weight_offset, packing, columns)
            return _Lowering(graph, unit_block, signature, *options).program()

        constants = constant_data(self.graph)
        return tuple(
            select_scan(item.node, constants, lower_body)
            if isinstance(item.node.op, Scan)
            else item
            for item in selected
        )

    def program(self) -> Program:
        """The finished program."""
        for source, spec in zip(self.graph.inputs, self.signature.inputs, strict=True):
            self.storages[source.value] = _Storage(Space.INPUT, spec.nbytes, spec.offset_bytes)
        for state, held in zip(self.graph.states, self.signature.states, strict=True):
            self.storages[state.read] = _Storage(Space.STATE, held.nbytes, held.offset_bytes)
        for index, item in enumerate(self.selected):
            self._place_outputs(index, item)
        lives = self._scratch()
        workspaces = self._workspaces()
        copies = self._copies()
        plan = [Life(s.nbytes, s.first, s.last) for s in lives]
        plan += [Life(s.nbytes, s.first, s.last) for s in workspaces.values()]
        plan += [Life(s.nbytes, s.first, s.last) for s in copies.staged]
        offsets, scratch_bytes = plan_arena(plan)
        for storage, offset in zip(
            (*lives, *workspaces.values(), *copies.staged), offsets, strict=True
        ):
            storage.offset_bytes = NOTES_BYTES + offset
        scratch_bytes += NOTES_BYTES
        state_init = self._state_init()
        shadow = scratch_bytes if self.shares_memory and self.signature.checks_states else None
        if shadow is not None:
            scratch_bytes += align(len(state_init))
        calls = [self._call(i, item, workspaces.get(i)) for i, item in enumerate(self.selected)]
        calls += [
            Call(
                CopyKernel(),
                (self._buffer(source, name, value),),
                (self._buffer(target, f"{name}.to", value),),
                None,
                f"copy_{number}",
                f"copy of {name!r}",
            )
            for number, (source, target, name, value) in enumerate(copies.pairs)
        ]
        return Program(
            self.signature,
            tuple(calls),
            b"".join(self.weights),
            state_init,
            scratch_bytes,
            sum(item.macs for item in self.selected),
            shadow,
        )

    def _is_alias(self, item: Selected) -> bool:
        return (
            self.shares_memory
            and isinstance(item.kernel, OpKernel)
            and isinstance(item.kernel.op, Reshape)
        )

    def _find_roots(self, selected: Sequence[Selected]) -> dict[Value, Value]:
        roots: dict[Value, Value] = {}
        for item in selected:
            if self._is_alias(item):
                (source,) = item.inputs
                assert source is not None
                roots[item.outputs[0]] = roots.get(source, source)
        return roots

    def _root(self, value: Value) -> Value:
        return self.roots.get(value, value)

    def _find_uses(self) -> dict[Value, list[int]]:
        uses: dict[Value, list[int]] = {}
        for index, item in enumerate(self.selected):
            for value in item.inputs:
                if value is not None:
                    uses.setdefault(self._root(value), []).append(index)
        for output in self.graph.outputs:
            uses.setdefault(self._root(output.value), []).append(_FOREVER)
        for state in self.graph.states:
            uses.setdefault(self._root(state.write), []).append(_FOREVER)
        return uses

    def _place_outputs(self, index: int, item: Selected) -> None:
        for position, value in enumerate(item.outputs):
            uses = self.uses.get(value, [])
            if not uses and position == 0 and isinstance(item.kernel, RecurrentKernel):
                continue  # nobody reads the sequence output
            storage = self._state_in_place(index, item, position) or self._output_place(value)
            if storage is None:
                last = min(max(uses, default=index), len(self.selected))
                storage = _Storage(Space.SCRATCH, value.type.nbytes, first=index, last=last)
            self.storages[value] = storage

    def _state_in_place(self, index: int, item: Selected, position: int) -> _Storage | None:
        """The state's own memory, where nothing reads the old state any more."""
        if not isinstance(item.kernel, RecurrentKernel):
            return None
        for source, target in _IN_PLACE:
            if target != position:
                continue
            for state in self.graph.states:
                read_here = item.inputs[source] is state.read
                if read_here and self._root(state.write) is item.outputs[position]:
                    uses = self.uses.get(state.read, [])
                    return self.storages[state.read] if uses == [index] else None
        return None

    def _output_place(self, value: Value) -> _Storage | None:
        """The caller's memory, where the value is an output as it stands."""
        if not self.shares_memory:
            return None
        for output, spec in zip(self.graph.outputs, self.signature.outputs, strict=True):
            if self._root(output.value) is value:
                return _Storage(Space.OUTPUT, spec.nbytes, spec.offset_bytes)
        return None

    def _scratch(self) -> list[_Storage]:
        seen: dict[int, _Storage] = {}
        for storage in self.storages.values():
            if storage.space is Space.SCRATCH:
                seen[id(storage)] = storage
        return list(seen.values())

    def _workspaces(self) -> dict[int, _Storage]:
        return {
            index: _Storage(Space.SCRATCH, nbytes, first=index, last=index)
            for index, item in enumerate(self.selected)
            if (nbytes := workspace_bytes(item.kernel))
        }

    def _copies(self) -> _Copies:
        """Outputs and states that are not computed where they belong."""
        copies = _Copies()
        for output, spec in zip(self.graph.outputs, self.signature.outputs, strict=True):
            source = self._storage(output.value)
            if source.space is Space.OUTPUT and source.offset_bytes == spec.offset_bytes:
                continue
            target = _Storage(Space.OUTPUT, spec.nbytes, spec.offset_bytes)
            copies.pairs.append((source, target, output.name, output.value))
        late: list[tuple[_Storage, _Storage, str, Value]] = []
        for state in self.graph.states:
            source, target = self._storage(state.write), self.storages[state.read]
            if source is target:
                continue
            if source.space is Space.STATE:
                # Another state's memory, which may itself be overwritten: by way of scratch.
                staged = _Storage(
                    Space.SCRATCH, source.nbytes, first=len(self.selected), last=len(self.selected)
                )
                copies.staged.append(staged)
                copies.pairs.append((source, staged, f"{state.name}.staged", state.write))
                source = staged
            late.append((source, target, state.name, state.write))
        copies.pairs += late
        return copies

    def _storage(self, value: Value) -> _Storage:
        root = self._root(value)
        if root not in self.storages:
            self.storages[root] = self._weight(self.constants[root])
        return self.storages[root]

    def _weight(self, constant: Constant) -> _Storage:
        raw = constant.data.tobytes()
        if raw not in self.known_weights:
            self.known_weights[raw] = self.weight_bytes
            padded = raw + bytes(align(len(raw)) - len(raw))
            self.weights.append(padded)
            self.weight_bytes += len(padded)
        return _Storage(Space.WEIGHTS, len(raw), self.known_weights[raw])

    def _call(self, index: int, item: Selected, workspace: _Storage | None) -> Call:
        del index
        inputs = tuple(
            None if value is None else self._buffer(self._storage(value), value.name, value)
            for value in item.inputs
        )
        outputs = tuple(
            self._buffer(self.storages[value], value.name, value)
            if value in self.storages
            else None
            for value in item.outputs
        )
        scratch = None
        if workspace is not None:
            x = item.inputs[0]
            assert x is not None
            kind = TensorType(DType.U8, ()) if isinstance(item.kernel, ScanKernel) else x.type
            shape = (workspace.nbytes // kind.dtype.itemsize,)
            scratch = Buffer(
                f"{item.node.name}.workspace",
                kind.with_shape(shape),
                Space.SCRATCH,
                workspace.offset_bytes,
            )
        origin = item.node.origin or item.node.name
        return Call(item.kernel, inputs, outputs, scratch, item.node.name, origin)

    def _buffer(self, storage: _Storage, name: str, value: Value) -> Buffer:
        if value.type not in storage.buffers:
            storage.buffers[value.type] = Buffer(
                name, value.type, storage.space, storage.offset_bytes
            )
        return storage.buffers[value.type]

    def _state_init(self) -> bytes:
        size = max((s.offset_bytes + align(s.nbytes) for s in self.signature.states), default=0)
        block = np.zeros(size, np.uint8)
        for state, held in zip(self.graph.states, self.signature.states, strict=True):
            raw = np.frombuffer(_raw(state), np.uint8)
            block[held.offset_bytes : held.offset_bytes + held.nbytes] = raw
        return block.tobytes()


@dataclass(slots=True)
class _Copies:
    """Copies at the end of a step: (from, to, name, value), and scratch that they go through."""

    pairs: list[tuple[_Storage, _Storage, str, Value]] = field(default_factory=list)
    staged: list[_Storage] = field(default_factory=list)


def _raw(state: State) -> bytes:
    return state.init.tobytes()
