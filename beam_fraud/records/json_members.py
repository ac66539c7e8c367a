"""Members of JSON objects by name, or by the path to a nested one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from beam_fraud.sources.nested import steps_of

_Tree: TypeAlias = dict[str | int, Any]
#: Types of members that accept any value.
_LENIENT = (msgspec.Raw, Any)


@dataclass(frozen=True)
class Members:
    """The type of an object with some members, all optional, and the way to nested ones."""

    #: A struct whose first fields are the members, in order.
    type: type[msgspec.Struct]
    #: Place of each member with a path, and its attributes and indices.
    nested: tuple[tuple[int, tuple[str | int, ...]], ...]


def members(names: tuple[str, ...], types: tuple[Any, ...]) -> Members:
    """Return the type of objects with these members.

    Args:
      names: a name each, or the path to a nested member, as in `card.number` or `items[0].id`;
        a member that has the path as its name comes first.
      types: types of their values.
    """
    paths = {name: steps for name in names if (steps := steps_of(name)) is not None}
    # A name that is read as a value has no members.
    paths = {name: steps for name, steps in paths.items() if steps[0] not in names}
    tree: _Tree = {}
    for name, type in zip(names, types, strict=True):
        if name in paths and type not in _LENIENT:
            *inner, last = paths[name]
            node = tree
            for step in inner:
                node = node.setdefault(step, {})
            node[last] = type
    for name, type in zip(names, types, strict=True):
        if name in paths and type in _LENIENT:
            _add_lenient(tree, paths[name], type)
    roots = list(tree)
    fields: list[tuple[str, Any, None]] = [(f"f{i}", type, None) for i, type in enumerate(types)]
    fields += [(f"n{i}", _type(tree[root]), None) for i, root in enumerate(roots)]
    rename = {f"f{i}": name for i, name in enumerate(names)}
    rename |= {f"n{i}": str(root) for i, root in enumerate(roots)}
    nested = tuple(
        (names.index(name), (f"n{roots.index(steps[0])}", *map(_step, steps[1:])))
        for name, steps in paths.items()
    )
    return Members(msgspec.defstruct("Record", fields, rename=rename, gc=False), nested)


def _add_lenient(tree: _Tree, steps: Sequence[str | int], type: Any) -> None:
    """Add the way to a member of which nothing is a fault: none but others need is a record."""
    node: Any = tree
    for step, after in zip(steps, (*steps[1:], None), strict=True):
        if not isinstance(node, dict):
            return
        if after is None or (step not in node and not isinstance(step, int)):
            node.setdefault(step, type)
            return
        node = node.setdefault(step, {})


def _type(tree: Any) -> Any:
    """Return the type of a nested value: a list if its members are indices."""
    if not isinstance(tree, dict):
        return tree
    if all(isinstance(step, int) for step in tree):
        together: _Tree = {}
        for inner in tree.values():
            if not isinstance(inner, dict):
                return _list_of(inner)
            together |= inner
        return _list_of(_type(together))
    names = [step for step in tree if isinstance(step, str)]
    fields = [(_attribute_of(name), _type(tree[name]), None) for name in names]
    rename = {_attribute_of(name): name for name in names}
    return msgspec.defstruct("Member", fields, rename=rename, gc=False) | None


def _list_of(item: Any) -> Any:
    return list.__class_getitem__(item) | None


def _attribute_of(name: str) -> str:
    """Return the attribute of a member, whose name may be no identifier."""
    return "m" + name.encode().hex()


def _step(step: str | int) -> str | int:
    return step if isinstance(step, int) else _attribute_of(step)


def value_at(value: Any, steps: Sequence[str | int]) -> Any:
    """Return the value at the end of a way through structs and lists; None if there is none."""
    for step in steps:
        if isinstance(value, msgspec.Raw):
            try:
                value = msgspec.json.decode(value)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                return None
        if value is None:
            return None
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        elif isinstance(value, dict):
            value = value.get(bytes.fromhex(step[1:]).decode())
        else:
            value = getattr(value, step, None)
    return value
