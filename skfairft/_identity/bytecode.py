"""What running a function may change, read from its bytecode without running it.

A module that counts its calls is the same extractor before and after a call; a module whose
``scale`` was set to another value is not. Which is which is told by who writes the value: what
the forward pass itself writes is bookkeeping, everything else is configuration.

`code_facts` walks one code object with a symbolic stack whose values are sets of *paths*, such
as ``(("arg", 0), "stats", "rows")`` for ``self.stats.rows``; anything computed has no path.
`skfairft._identity.state` resolves the paths on the objects at hand.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["ITEM", "CodeFacts", "Path", "code_facts"]

Path = tuple[Any, ...]
"""A root, ("arg", i), ("global", name) or ("free", name), then attribute names and `ITEM`."""
Value = frozenset[Path]

ITEM = "[]"
_UNKNOWN: Value = frozenset()
_NO_EFFECT = {"NOP", "RESUME", "CACHE", "EXTENDED_ARG", "PRECALL", "KW_NAMES", "MAKE_CELL"} | {
    "COPY_FREE_VARS", "NOT_TAKEN", "TO_BOOL", "GEN_START", "SETUP_ANNOTATIONS",
}  # fmt: skip
_ENDS = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD"} | {
    "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT",
}  # fmt: skip
_IN_PLACE = ("+=", "-=", "*=", "/=", "//=", "%=", "**=", "@=", "&=", "|=", "^=", "<<=", ">>=")


@dataclass(frozen=True)
class CodeFacts:
    """What one code object, with the functions defined inside it, names and changes.

    Attributes
    ----------
    globals, attributes : tuple of str
        Names it loads from its globals and as attributes.
    stores : tuple of Path
        What it rebinds or deletes: ``self.n = 1`` gives ``(("arg", 0), "n")``.
    mutations : tuple of Path
        What it changes in place through a subscript or an operator such as ``+=``.
    uses : tuple of Path
        Every path it loads; methods and functions among them may be run.
    calls : tuple of (Path, tuple of Value)
        What it calls, with the paths of the positional arguments.
    """

    globals: tuple[str, ...]
    attributes: tuple[str, ...]
    stores: tuple[Path, ...]
    mutations: tuple[Path, ...]
    uses: tuple[Path, ...]
    calls: tuple[tuple[Path, tuple[Value, ...]], ...]


# Held by code object, not by function or class: a patched method has another code object.
_facts: WeakKeyDictionary[CodeType, CodeFacts] = WeakKeyDictionary()


def code_facts(code: CodeType) -> CodeFacts:
    """Return what a code object names and changes.

    Parameters
    ----------
    code : CodeType
        Bytecode of a function; its source is not needed.

    Returns
    -------
    CodeFacts
        Remembered for as long as the code object lives.

    Examples
    --------
    >>> class Counter:
    ...     def forward(self, x):
    ...         self.rows += len(x)
    ...         self.shapes[0] = x.shape
    ...         return x * self.scale
    >>> facts = code_facts(Counter.forward.__code__)
    >>> facts.stores
    ((('arg', 0), 'rows'),)
    >>> facts.mutations
    ((('arg', 0), 'rows'), (('arg', 0), 'shapes'))
    """
    known = _facts.get(code)
    if known is None:
        known = _facts[code] = _Walk(code).facts()
    return known


class _State:
    """Symbolic stack and local variables at one instruction."""

    def __init__(self, stack: list[Value], local: dict[str, Value]) -> None:
        self.stack = stack
        self.local = local

    def pop(self, n: int = 1) -> list[Value]:
        """Take n values off; unknown ones where the stack has lost count."""
        taken = [self.stack.pop() if self.stack else _UNKNOWN for _ in range(n)]
        return taken[::-1]

    def push(self, *values: Value) -> None:
        self.stack.extend(values)

    def copy(self) -> _State:
        return _State(list(self.stack), dict(self.local))

    def merge(self, other: _State) -> None:
        """Let two ways into one instruction meet: a value has the paths of both."""
        self.stack = [a | b for a, b in zip(self.stack, other.stack, strict=False)]
        for name, value in other.local.items():
            self.local[name] = self.local.get(name, _UNKNOWN) | value


class _Walk:
    """One linear pass over the instructions of a code object."""

    def __init__(self, code: CodeType) -> None:
        self.code = code
        count = code.co_argcount
        self.local = {name: _one(("arg", i)) for i, name in enumerate(code.co_varnames[:count])}
        # Dictionaries, because their order is that of the code and not of a hash.
        self.globals: dict[str, None] = {}
        self.attributes: dict[str, None] = {}
        self.stores: dict[Path, None] = {}
        self.mutations: dict[Path, None] = {}
        self.uses: dict[Path, None] = {}
        self.calls: dict[tuple[Path, tuple[Value, ...]], None] = {}
        self.keywords = False

    def facts(self) -> CodeFacts:
        self._run()
        for inner in self.code.co_consts:
            if isinstance(inner, CodeType):
                self._adopt(inner)
        found = (self.globals, self.attributes, self.stores, self.mutations, self.uses, self.calls)
        return CodeFacts(*(tuple(names) for names in found))  # type: ignore[arg-type]

    def _run(self) -> None:
        state: _State | None = _State([], dict(self.local))
        waiting: dict[int, _State] = {}
        bytecode = dis.Bytecode(self.code)
        handlers = {
            entry.target: entry.depth + entry.lasti + 1
            for entry in bytecode.exception_entries  # type: ignore[attr-defined]
        }
        for step in bytecode:
            if step.offset in waiting:
                arrived = waiting.pop(step.offset)
                if state is not None:
                    arrived.merge(state)
                state = arrived
            elif step.offset in handlers and state is None:
                state = _State([_UNKNOWN] * handlers[step.offset], dict(self.local))
            self._note_names(step)
            if state is None:
                continue
            self.local = state.local
            state = self._step(step, state, waiting)

    def _note_names(self, step: dis.Instruction) -> None:
        """Names count in dead code too: they are part of what the function says."""
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            self.globals[step.argval] = None
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            self.attributes[step.argval] = None

    def _step(
        self, step: dis.Instruction, state: _State, waiting: dict[int, _State]
    ) -> _State | None:
        name, argval = step.opname, step.argval
        if name in _NO_EFFECT:
            self.keywords |= name == "KW_NAMES"
        elif step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            return self._jump(step, state, waiting)
        elif name in _ENDS:
            return None
        elif not (self._load(step, state) or self._store(step, state) or self._call(step, state)):
            effect = _effect(step)
            if name.startswith(("LOAD_", "PUSH_")):
                state.push(*[_UNKNOWN] * effect)
            elif name in ("GET_ITER", "GET_YIELD_FROM_ITER"):
                state.push(_extend(state.pop()[0], ITEM))
            elif name == "UNPACK_SEQUENCE":
                state.push(*[_extend(state.pop()[0], ITEM)] * argval)
            elif name == "COPY":
                state.push(state.stack[-argval] if len(state.stack) >= argval else _UNKNOWN)
            elif name == "SWAP" and len(state.stack) >= argval:
                stack = state.stack
                stack[-1], stack[-argval] = stack[-argval], stack[-1]
            elif name.startswith(("POP_", "END_", "STORE_", "DELETE_")):
                state.pop(-effect)
            else:  # computes something: what is on top afterwards is new
                state.pop(max(1 - effect, 1))
                state.push(*[_UNKNOWN] * (effect + max(1 - effect, 1)))
        return state

    def _load(self, step: dis.Instruction, state: _State) -> bool:
        name, argval = step.opname, step.argval
        if name.startswith("LOAD_FAST"):
            for local in argval if isinstance(argval, tuple) else (argval,):
                state.push(state.local.get(local, _UNKNOWN))
        elif name in ("LOAD_GLOBAL", "LOAD_NAME"):
            state.push(*[_UNKNOWN] * (_effect(step) - 1), self._used(_one(("global", argval))))
        elif name in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            free = argval in self.code.co_freevars
            known = _one(("free", argval)) if free else state.local.get(argval, _UNKNOWN)
            state.push(self._used(known))
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            extra = [_UNKNOWN] * _effect(step)
            state.push(self._used(_extend(state.pop()[0], argval)), *extra)
        elif name == "BINARY_SUBSCR" or (name == "BINARY_OP" and step.argrepr == "[]"):
            state.push(_extend(state.pop(2)[0], ITEM))
        elif name == "BINARY_SLICE":
            state.push(_extend(state.pop(3)[0], ITEM))
        elif name == "BINARY_OP" and step.argrepr in _IN_PLACE:
            target = state.pop(2)[0]
            self.mutations.update(dict.fromkeys(target))
            state.push(target)
        else:
            return False
        return True

    def _store(self, step: dis.Instruction, state: _State) -> bool:
        name, argval = step.opname, step.argval
        if name == "STORE_FAST_LOAD_FAST":
            state.local[argval[0]] = state.pop()[0]
            state.push(state.local.get(argval[1], _UNKNOWN))
        elif name.startswith("STORE_FAST"):
            for local in argval if isinstance(argval, tuple) else (argval,):
                state.local[local] = state.pop()[0]
        elif name in ("STORE_DEREF", "DELETE_DEREF"):
            value = state.pop()[0] if name == "STORE_DEREF" else _UNKNOWN
            if argval in self.code.co_freevars:
                self.stores[(("free", argval),)] = None
            else:
                state.local[argval] = value
        elif name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            state.pop(-_effect(step))
            self.stores[(("global", argval),)] = None
        elif name in ("STORE_ATTR", "DELETE_ATTR"):
            owner = state.pop(-_effect(step))[-1]
            self.stores.update(dict.fromkeys(_extend(owner, argval)))
        elif name in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"):
            first = 0 if name == "DELETE_SUBSCR" else 1
            self.mutations.update(dict.fromkeys(state.pop(-_effect(step))[first]))
        else:
            return False
        return True

    def _call(self, step: dis.Instruction, state: _State) -> bool:
        if step.opname in ("CALL", "CALL_KW"):
            if step.opname == "CALL_KW":
                state.pop()  # the names of the keywords
            arguments = tuple(state.pop(step.argval))
            called = frozenset().union(*state.pop(2))
            if self.keywords or step.opname == "CALL_KW":
                arguments = ()  # which of them are positional is not worth tracking
            self.keywords = False
        elif step.opname == "CALL_FUNCTION_EX":
            called = frozenset().union(*state.pop(1 - _effect(step)))
            arguments = ()
        else:
            return False
        self.calls.update(dict.fromkeys((path, arguments) for path in called))
        of_class = called == _one(("global", "type")) and len(arguments) == 1
        state.push(_extend(arguments[0], "__class__") if of_class else _UNKNOWN)
        return True

    def _jump(
        self, step: dis.Instruction, state: _State, waiting: dict[int, _State]
    ) -> _State | None:
        name = step.opname
        there = state.copy()
        tested = state.stack[-1] if state.stack else _UNKNOWN
        for end, jumps in ((there, True), (state, False)):
            effect = dis.stack_effect(step.opcode, step.arg, jump=jumps)
            end.pop(-effect)
            end.push(*[tested if name == "FOR_ITER" else _UNKNOWN] * effect)
        # Extractors run in evaluation mode, so "if self.training:" is dead code: a buffer that is
        # written there only, as running statistics are, is configuration.
        evaluating = bool(tested) and all(path[-1] == "training" for path in tested)
        if not (evaluating and "IF_TRUE" in name):
            target = waiting.setdefault(step.argval, there)
            if target is not there:
                target.merge(there)
        return None if name in _ENDS or (evaluating and "IF_FALSE" in name) else state

    def _used(self, value: Value) -> Value:
        self.uses.update(dict.fromkeys(value))
        return value

    def _adopt(self, inner: CodeType) -> None:
        """Take over what a function defined inside says of variables that it shares."""
        facts = code_facts(inner)
        self.globals.update(dict.fromkeys(facts.globals))
        self.attributes.update(dict.fromkeys(facts.attributes))
        for own, theirs in (
            (self.stores, facts.stores),
            (self.mutations, facts.mutations),
            (self.uses, facts.uses),
        ):
            own.update(dict.fromkeys(path for each in theirs for path in self._outer(each)))
        for path, arguments in facts.calls:
            outer = tuple(
                frozenset(p for each in value for p in self._outer(each)) for value in arguments
            )
            self.calls.update(dict.fromkeys((p, outer) for p in self._outer(path)))

    def _outer(self, path: Path) -> Iterator[Path]:
        (kind, name), *rest = path
        if kind == "global" or name in self.code.co_freevars:
            yield path
        elif kind == "free" and (rest or name in self.local):
            for root in self.local.get(name, _UNKNOWN):
                if rest or len(root) > 1:
                    yield (*root, *rest)


def _effect(step: dis.Instruction) -> int:
    return dis.stack_effect(step.opcode, step.arg, jump=False)


def _one(root: tuple[str, Any]) -> Value:
    return frozenset([(root,)])


def _extend(value: Value, name: str) -> Value:
    # Longer chains, as a loop over its own result would build, lead nowhere.
    return frozenset((*path, name) for path in value if len(path) < 8)
