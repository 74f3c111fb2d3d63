"""What a module is called with: positions, names, or one mapping, as its ``forward`` takes them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["arguments_of", "call", "named_argument"]

# What torch.compile calls the module that it compiles, also in the names of its parameters.
_COMPILED = "_orig_mod"

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _signature(module: nn.Module) -> inspect.Signature | None:
    forward = _taking(module).forward
    try:
        return inspect.signature(forward)
    except (TypeError, ValueError):  # written in C++; a copied script has only its schema
        schema = getattr(forward, "schema", None)
        return None if schema is None else _of_script(schema)


def _taking(module: nn.Module) -> nn.Module:
    """Return the module that a wrapper of torch's, which takes anything, hands its inputs to."""
    if isinstance(module, nn.DataParallel):
        return _taking(module.module)
    compiled = getattr(module, _COMPILED, None)
    return _taking(compiled) if isinstance(compiled, nn.Module) else module


def _of_script(schema: Any) -> inspect.Signature:
    kind = inspect.Parameter
    return inspect.Signature(
        [
            kind(
                argument.name,
                kind.KEYWORD_ONLY if argument.kwarg_only else kind.POSITIONAL_OR_KEYWORD,
                default=argument.default_value if argument.has_default_value() else kind.empty,
            )
            for argument in schema.arguments[1:]  # after self
        ]
    )


def _binds(signature: inspect.Signature, *args: Any, **kwargs: Any) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def arguments_of(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments of a call in the way that a module's ``forward`` takes them.

    A mapping's entries are keyword arguments. Where ``forward`` does not take them, has
    no parameter with the name of one of them, and takes one positional argument, that
    is a copy of the mapping: such modules write into it. A ValueError says if it takes neither.

    Examples
    --------
    >>> class Dict(nn.Module):
    ...     def forward(self, batch): return batch["x"]
    >>> arguments_of(Dict(), (), {"x": 1}), arguments_of(nn.Identity(), (), {"input": 1})
    ((({'x': 1},), {}), ((), {'input': 1}))
    """
    if len(args) == 1 and not kwargs and isinstance(args[0], Mapping):
        return (dict(args[0]),), {}
    signature = _signature(module) if kwargs and not args else None
    if signature is None or _binds(signature, **kwargs):
        return args, kwargs
    if not kwargs.keys() & signature.parameters.keys() and _binds(signature, kwargs):
        return (dict(kwargs),), {}
    raise ValueError(
        f"{_described(module, kwargs, signature)}. Leave out the entries it does not take, name "
        "them as it does, or wrap the module in one whose forward takes these."
    )


def call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module, and say so where it cannot do with a mapping as its one argument."""
    if kwargs or len(args) != 1 or not isinstance(args[0], Mapping):
        return module(*args, **kwargs)
    entries = dict(args[0])
    try:
        return module(*args)
    # What comes of taking a mapping for a tensor, or of an entry that is not there.
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"{_described(module, entries, _signature(module))}, so it was given the mapping as "
            f"its one argument, and failed: {type(error).__name__}: {error}. Name the entries as "
            "its parameters, or wrap the module in one whose forward takes these."
        ) from error


def _described(
    module: nn.Module, entries: Mapping[str, Any], signature: inspect.Signature | None
) -> str:
    takes = ", ".join(map(str, signature.parameters.values())) if signature else "..."
    return (
        f"The module is given a mapping with {list(entries)}, but {type(module).__name__}.forward "
        f"takes ({takes})"
    )


def named_argument(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> Any:
    """Return the argument of that name, given by keyword, in a mapping or by place; else None.

    Examples
    --------
    >>> named_argument(nn.Bilinear(1, 1, 1), (3, 4), {}, "input2")
    4
    """
    if name in kwargs:
        return kwargs[name]
    if len(args) == 1 and isinstance(args[0], Mapping):
        return args[0].get(name)
    signature = _signature(module)
    if signature is None or not _binds(signature, *args, **kwargs):
        return None
    return signature.bind(*args, **kwargs).arguments.get(name)
