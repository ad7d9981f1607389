"""Shortcuts through Numba's front end while a kernel compiles: the same code in less time.

Here and in `inlining.py` stands what is known of Numba's inside; both are for the versions that
`toolkit` names. A kernel is one function of some thousand statements once all is inlined, more than
Numba reckons with: what it does here for each variable anew is done once for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from numba.cuda import types
from numba.cuda.core import analysis, ir, postproc, ssa, transforms
from numba.cuda.core.compiler_lock import global_compiler_lock
from numba.cuda.core.untyped_passes import InlineInlinables
from numba.cuda.lowering import Lower
from numba.cuda.typing.templates import _TemplateTargetHelperMixin

from edgelstm_targets.numba_cuda.inlining import make_inlining


@contextmanager
def shortcuts() -> Iterator[None]:
    """Replace what is slow, for the time of one kernel; nobody else compiles meanwhile."""
    with global_compiler_lock, ExitStack() as stack:
        for owner, name, make in REPLACED:
            original = vars(owner)[name]
            stack.callback(setattr, owner, name, original)
            setattr(owner, name, make(original))
        yield


def _rewrite_block(original: Callable[..., Any]) -> Callable[..., Any]:
    """One variable's rewriting of SSA: only in blocks that mention it."""
    mentioned: dict[Any, set[str]] = {}

    def rewrite(blocks: Any, states: Any, handler: Any) -> dict[int, Any]:
        made = {}
        for label, block in blocks.items():
            if block not in mentioned:
                mentioned[block] = {
                    variable.name for each in block.body for variable in each.list_vars()
                }
            made[label] = block
            if states["varname"] in mentioned[block]:
                made |= original({label: block}, states, handler)
                # New names are versions: none of them is rewritten in its turn.
                mentioned[made[label]] = mentioned[block]
        return made

    return rewrite


def _find_singly_assigned(original: Callable[..., Any]) -> Callable[..., Any]:
    """Variables of one assignment that live in one block: counted once for all of them."""
    del original

    def find(self: Any) -> None:
        found: set[str] = set()
        if not self.func_ir.func_id.is_generator:
            blocks = self.func_ir.blocks
            use_defs = analysis.compute_use_defs(blocks)
            elsewhere = analysis.must_use_alloca(blocks).union(*use_defs.usemap.values())
            homes = Counter(name for names in use_defs.defmap.values() for name in names)
            for label, names in use_defs.defmap.items():
                assigned = Counter(
                    each.target.name for each in blocks[label].find_insts(ir.assign_types)
                )
                found |= {name for name in names if homes[name] == assigned[name] == 1} - elsewhere
        self._singly_assigned_vars = found
        self._blk_local_varmap = {}

    return find


def _compute_live_map(original: Callable[..., Any]) -> Callable[..., Any]:
    """Variables alive where blocks begin; not followed is what no block reads before it sets it."""

    def compute(cfg: Any, blocks: Any, uses: Any, definitions: Any) -> Any:
        used = set().union(*uses.values())
        return original(cfg, blocks, uses, {at: names & used for at, names in definitions.items()})

    return compute


def _post_process(original: Callable[..., Any]) -> Callable[..., Any]:
    """Without the lives of variables, which only generators and deletions need."""

    def run(self: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
        func_ir = self.func_ir
        if emit_dels or func_ir.is_generator:
            original(self, emit_dels, extend_lifetimes)
            return
        func_ir.blocks = transforms.canonicalize_cfg(func_ir.blocks)
        func_ir.variable_lifetime = postproc.VariableLifetime(func_ir.blocks)
        func_ir.generator_info = None

    return run


def _list_variables(original: Callable[..., Any]) -> Callable[..., Any]:
    """The variables of a statement, in one list instead of one for each level."""
    del original

    def collect(values: Any, found: list[Any]) -> None:
        for value in values:
            kind = type(value)
            if kind in ir.var_types:
                found.append(value)
            elif kind is list or kind is tuple:
                collect(value, found)
            elif kind is dict:
                collect(value.values(), found)
            elif isinstance(value, ir.inst_types):
                found += value.list_vars()

    def list_variables(self: Any, value: Any) -> list[Any]:
        del self
        found: list[Any] = []
        collect((value,), found)
        return found

    return list_variables


def _get_call_type(original: Callable[..., Any]) -> Callable[..., Any]:
    """The signature of a call: found once for the same function and types."""
    known: dict[Any, Any] = {}

    def get(self: Any, context: Any, args: Any, kws: Any) -> Any:
        if kws or not all(isinstance(each, types.Type) for each in args):
            return original(self, context, args, kws)
        key = id(self), context, tuple(args)
        if key not in known:
            known[key] = self, original(self, context, args, kws)
        return known[key][1]

    return get


def _get_registry(original: Callable[..., Any]) -> Callable[..., Any]:
    """Where intrinsics are registered: all registries are read once, not for every call."""
    known: list[Any] = []

    def get(self: Any, reason: str) -> Any:
        if not known:
            known.append(original(self, reason))
        return known[0]

    return get


REPLACED: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (InlineInlinables, "run_pass", lambda _: make_inlining()),
    (ssa, "_run_block_rewrite", _rewrite_block),
    (Lower, "_find_singly_assigned_variable", _find_singly_assigned),
    (analysis, "compute_live_map", _compute_live_map),
    (postproc.PostProcessor, "run", _post_process),
    (ir.Inst, "_rec_list_vars", _list_variables),
    (types.BaseFunction, "get_call_type", _get_call_type),
    (_TemplateTargetHelperMixin, "_get_target_registry", _get_registry),
)
"""Owner, name, and what makes the replacement of the original."""
