"""Inlining of device functions in Numba's untyped IR: each is prepared once and copied once a call.

Numba inlines inside out: for every call it reads the function's bytecode again, with all that it
calls in turn, and copies what was inlined there before. Here calls are followed from the kernel
inwards, and what is copied is a function's own code. Blocks end in the same order, for Numba
numbers them by the flow of control afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.cuda.core import inline_closurecall, ir, ir_utils, postproc
from numba.cuda.core.analysis import compute_cfg_from_blocks
from numba.cuda.core.untyped_passes import InlineInlinables


def make_inlining() -> Callable[[Any, Any], bool]:
    """Stands for `InlineInlinables.run_pass` while one kernel compiles."""
    templates: dict[Any, _Template] = {}

    def run_pass(chooser: Any, state: Any) -> bool:
        _Inlining(chooser, state, templates).run()
        return True

    return run_pass


class _Template:
    """A function's code with nothing inlined into it; its blocks are numbered, the first is 0."""

    def __init__(self, function: Any, func_ir: Any) -> None:
        blocks = ir_utils.simplify_CFG(func_ir.blocks)
        order = ir_utils.find_topo_order(blocks)
        numbers = {label: number for number, label in enumerate(order)}
        self.function = function
        self.name = func_ir.func_id.func_qualname
        self.locs = [blocks[label].loc for label in order]
        self.bodies = [blocks[label].body for label in order]
        for body in self.bodies:
            body[-1] = _retarget(body[-1], lambda label: numbers[label])
        self.returns = [
            number
            for number, body in enumerate(self.bodies)
            if isinstance(body[-1], ir.return_types)
        ]
        for number in self.returns:
            _uncast(self.bodies[number])
        self.starts_a_loop = any(0 in body[-1].get_targets() for body in self.bodies)


def _retarget(last: Any, place: Callable[[int], int]) -> Any:
    """The end of a block, with other labels."""
    if isinstance(last, ir.jump_types):
        return ir.Jump(place(last.target), last.loc)
    if isinstance(last, ir.branch_types):
        return ir.Branch(last.cond, place(last.truebr), place(last.falsebr), last.loc)
    return last


def _uncast(body: Sequence[Any]) -> None:
    """What is returned needs no cast: it becomes a variable of the caller."""
    for statement in body:
        if _is_expression(statement, "cast") and statement.target.name == body[-1].value.name:
            statement.value = statement.value.value


def _is_expression(statement: Any, op: str) -> bool:
    return (
        isinstance(statement, ir.assign_types)
        and isinstance(statement.value, ir.expr_types)
        and statement.value.op == op
    )


class _Inlining:
    """All calls of one function.

    Args:
        chooser: Numba's pass, which knows what is to be inlined.
        state: of the compilation.
        templates: those of functions met so far.
    """

    def __init__(self, chooser: Any, state: Any, templates: dict[Any, _Template]) -> None:
        self._chooser, self._state, self._templates = chooser, state, templates
        self._caller = state.func_ir
        self._chosen: Any = None
        self._copies = 0
        self._worker = inline_closurecall.InlineWorker(
            state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags
        )
        self._worker._compiler_pipeline = _make_preparation(self._worker._compiler_pipeline)

    def run(self) -> None:
        """Inline until no call is left that asks for it."""
        pending = list(self._caller.blocks.values())
        while pending:
            block = pending.pop()
            at = 0
            while at < len(block.body):
                function = self._choose(block, at)
                if function is None:
                    at += 1
                else:
                    # What comes in stands at the same place, and is looked at next.
                    pending += self._splice(block, at, self._template(function))
        if self._copies:
            blocks = self._caller.blocks
            for dead in compute_cfg_from_blocks(blocks).dead_nodes():
                del blocks[dead]
            postproc.PostProcessor(self._caller).run()
            self._caller.blocks = ir_utils.simplify_CFG(self._caller.blocks)

    def inline_function(self, caller: Any, block: Any, at: int, function: Any) -> Any:
        """What Numba's pass calls for a function that it wants inlined."""
        del caller, block, at
        self._chosen = function
        return None, None, None, ()

    def _choose(self, block: Any, at: int) -> Any:
        """The function that the statement calls, if it is to be inlined."""
        statement, self._chosen = block.body[at], None
        if _is_expression(statement, "call"):
            call = statement.value
            ir_utils.guard(self._chooser._do_work, self._state, None, block, at, call, self)
        return self._chosen

    def _template(self, function: Any) -> _Template:
        if function not in self._templates:
            func_ir = self._worker.run_untyped_passes(function)
            self._worker.validator(func_ir)
            self._templates[function] = _Template(function, func_ir)
        return self._templates[function]

    def _splice(self, block: Any, at: int, template: _Template) -> list[Any]:
        """Put a copy in the place of a call; returns the blocks that are new."""
        call, rest, scope = block.body[at], block.body[at + 1 :], block.scope
        blocks = self._caller.blocks
        first = max(ir_utils._the_max_label.next(), max(blocks)) + 1
        after = first + len(template.bodies)
        ir_utils._the_max_label.update(after)

        bodies = self._copy(scope, call, template, first)
        for number in template.returns:
            returned = bodies[number].pop()
            bodies[number].append(ir.Assign(returned.value, call.target, returned.loc))
        self._define(call, bodies)

        # One block goes on where it returns; several meet in a block of its own.
        meet = len(template.returns) > 1
        for number in template.returns:
            bodies[number] += [ir.Jump(after, call.loc)] if meet else rest
        kept = 0 if template.starts_a_loop else 1
        block.body[at:] = bodies[0] if kept else [ir.Jump(first, call.loc)]
        made = {
            first + number: (bodies[number], template.locs[number])
            for number in range(kept, len(bodies))
        }
        if meet:
            made[after] = (rest, block.loc)
        for label, (body, loc) in made.items():
            blocks[label] = ir.Block(scope, loc)
            blocks[label].body = body
        return [blocks[label] for label in made]

    def _copy(self, scope: Any, call: Any, template: _Template, first: int) -> list[list[Any]]:
        function = template.function
        self._copies += 1
        arguments = inline_closurecall._get_callee_args(
            call.value, function, call.loc, self._caller
        )
        name = f"{template.name}${self._copies}"
        prefix = inline_closurecall._created_inlined_var_name(name, "")
        copy = _Copy(scope, prefix, arguments)
        bodies = [[copy.statement(each) for each in body] for body in template.bodies]
        for body in bodies:
            body[-1] = _retarget(body[-1], lambda number: first + number)
        return bodies

    def _define(self, call: Any, bodies: Sequence[Sequence[Any]]) -> None:
        """Tell the caller of the assignments that came in for the call's."""
        definitions = self._caller._definitions
        if call.value in definitions.get(call.target.name, ()):
            definitions[call.target.name].remove(call.value)
        for body in bodies:
            for statement in body:
                if isinstance(statement, ir.assign_types):
                    definitions[statement.target.name].append(statement.value)


def _make_preparation(define: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Numba's passes for a function to be inlined, but for inlining; made once for all of them."""
    made: list[Any] = []

    def preparation(state: Any) -> Any:
        if not made:
            passes = define(state)
            passes.passes = [each for each in passes.passes if each[0] is not InlineInlinables]
            passes.finalize()
            passes.finalize = lambda: None
            made.append(passes)
        return made[0]

    return preparation


class _Copy:
    """Copies statements: variables under new names, parameters replaced.

    Args:
        scope: that of the caller.
        prefix: of the new names.
        arguments: what stands for the parameters.
    """

    def __init__(self, scope: Any, prefix: str, arguments: Sequence[Any]) -> None:
        self._scope, self._prefix, self._arguments = scope, prefix, arguments
        self._variables: dict[str, Any] = {}
        self._ways: dict[type, Callable[[Any], Any]] = {
            list: lambda items: [self._value(item) for item in items],
            tuple: lambda items: tuple(self._value(item) for item in items),
            dict: lambda items: {key: self._value(item) for key, item in items.items()},
        }
        self._ways |= dict.fromkeys(ir.var_types, self._variable)
        self._ways |= dict.fromkeys(ir.arg_types, lambda each: arguments[each.index])

    def statement(self, statement: Any) -> Any:
        """A copy, also of an expression."""
        made = object.__new__(type(statement))
        made.__dict__.update({key: self._value(each) for key, each in statement.__dict__.items()})
        return made

    def _value(self, value: Any) -> Any:
        kind = type(value)
        way = self._ways.get(kind)
        if way is None:
            # Constants, globals, places in the source: nobody changes them.
            way = self.statement if issubclass(kind, ir.inst_types) else lambda same: same
            self._ways[kind] = way
        return way(value)

    def _variable(self, variable: Any) -> Any:
        name = variable.name
        if name not in self._variables:
            new = inline_closurecall._created_inlined_var_name(self._prefix, name)
            self._variables[name] = self._scope.redefine(new, loc=variable.loc)
        return self._variables[name]
