"""What a function's bytecode does, and which names it looks up."""

from __future__ import annotations

import dis
from collections.abc import Callable
from functools import wraps
from types import CodeType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["globals_in", "imports_in", "names_in", "steps_of"]

T = TypeVar("T")

_SIGNATURE_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200  # *args, **kwargs, generator, coroutine
_OF_NO_EFFECT = ("CACHE", "EXTENDED_ARG", "NOP", "RESUME")


def remembered(function: Callable[[CodeType], T]) -> Callable[[CodeType], T]:
    """Decorate a function of code such that it looks at each code object once.

    By code object, not by function or class: a patched method has another one.
    """
    known: WeakKeyDictionary[CodeType, T] = WeakKeyDictionary()

    @wraps(function)
    def call(code: CodeType) -> T:
        found = known.get(code)
        if found is None:
            found = known[code] = function(code)
        return found

    return call


def steps_of(code: CodeType) -> tuple[list[Any], list[Any]]:
    """Return the signature of bytecode and what it does, not where it was written.

    Constants count where they are loaded: a docstring never is, and shifts their numbers.
    """
    parameters = code.co_argcount + code.co_kwonlyargcount
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    header = [counts, code.co_flags & _SIGNATURE_FLAGS, code.co_varnames[:parameters]]
    header += [code.co_freevars, code.co_exceptiontable]
    steps = [
        # Python 3.11 does not say what the names of keyword arguments are.
        (step.opname, code.co_consts[step.arg or 0] if step.opname == "KW_NAMES" else step.argval)
        for step in dis.get_instructions(code)
        if step.opname not in _OF_NO_EFFECT
    ]
    return header, steps


@remembered
def names_in(code: CodeType) -> frozenset[str]:
    """Return the names that bytecode may look up as globals or attributes, or import.

    Texts that could be names are among them, for ``getattr`` and ``vars``.
    """
    texts = (each for each in code.co_consts if isinstance(each, str) and each.isidentifier())
    return frozenset(code.co_names).union(texts, *map(names_in, _inside(code)))


@remembered
def imports_in(code: CodeType) -> frozenset[str]:
    """Return the names of modules that bytecode imports, without those of their packages.

    What is taken from a module may be a module itself.
    """
    found, module = set(), ""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            module = step.argval
            found.add(module)
        elif step.opname == "IMPORT_FROM":
            found.add(f"{module}.{step.argval}".lstrip("."))
    return frozenset(found - {""}).union(*map(imports_in, _inside(code)))


@remembered
def globals_in(code: CodeType) -> frozenset[str]:
    """Return the names that bytecode looks up as globals."""
    own = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname.startswith("LOAD_") and ("GLOBAL" in step.opname or "NAME" in step.opname)
    }
    return frozenset(own).union(*map(globals_in, _inside(code)))


def _inside(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]
