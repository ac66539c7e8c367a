"""Declaration of options: each is one annotated field of a frozen dataclass.

    limit: Annotated[int | None, Option("--limit", metavar="N", min=1, help="Rows.")] = None

The field gives the type and the default, its `Option` the rest. The command's parameters, its help,
the Dataflow template and docs/options.md derive from it. A field without an `Option` is for callers
from Python alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, MISSING, Field, dataclass, fields
from functools import cache
from typing import (
    Annotated,
    Any,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import typer

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options(kind: type[_T]) -> type[_T]:
    """Return a frozen dataclass of keyword arguments, without comparison and representation.

    Making these two for some fifty classes takes a tenth of the time of `--help`.
    """
    return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(kind)


@dataclass(frozen=True)
class Pattern:
    """Form of a value in the Dataflow template."""

    #: Regular expression of valid values.
    regex: str
    #: The form for people, such as `gs://BUCKET/DIR`; "" if help describes it.
    form: str = ""


@dataclass(frozen=True)
class Option:
    """Attributes of an option beside its type and default."""

    #: Name on the command line: `--limit`; or `FILE` for a positional argument.
    name: str
    _: KW_ONLY
    #: Help, one or two sentences.
    help: str
    #: Name of the value in help.
    metavar: str | None = None
    #: Minimum and maximum of a number.
    min: float | None = None
    max: float | None = None
    #: Whether the Dataflow template has the option; with a pattern if the type does not define its
    #: values.
    template: Pattern | bool = True

    @property
    def positional(self) -> bool:
        """Return whether it is a positional argument."""
        return not self.name.startswith("--")


@dataclass(frozen=True)
class Declared:
    """One option of a command."""

    #: Name of the dataclass's field.
    field: str
    #: Type of the value: `str`, `int | None`, `Literal["file", "run"]`, `tuple[str, ...]`.
    type: Any
    #: Default; `MISSING` for a required option.
    default: Any
    option: Option

    @property
    def required(self) -> bool:
        """Return whether it is required."""
        return self.default is MISSING

    @property
    def repeatable(self) -> bool:
        """Return whether it may be repeated."""
        return get_origin(self.type) is tuple

    def parameter(self) -> inspect.Parameter:
        """Return the parameter for Typer, to which a tuple is a list."""
        kind, default = self.type, inspect.Parameter.empty if self.required else self.default
        if self.repeatable:
            kind = list[get_args(kind)[0]]  # type: ignore[misc]  # a type only when it runs
            kind, default = (kind, default) if self.required else (kind | None, None)
        how: dict[str, Any] = {"help": self.option.help}
        for name in ("min", "max"):
            if getattr(self.option, name) is not None:
                how[name] = getattr(self.option, name)
        if self.option.positional:
            info = typer.Argument(metavar=self.option.name, show_default=False, **how)
        else:
            info = typer.Option(self.option.name, metavar=self.option.metavar, **how)
        return inspect.Parameter(
            self.field,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, info],
        )

    def value(self, parsed: Any) -> Any:
        """Convert Typer's parsed value to the field's."""
        if not self.repeatable:
            return parsed
        return tuple(parsed) if parsed else self.default


@cache
def declared(options: type) -> tuple[Declared, ...]:
    """Return the options of a command: required ones, its own, those of its groups.

    Args:
      options: the dataclass with its inherited groups.
    """
    hints = get_type_hints(options, include_extras=True)
    own: dict[str, Field[Any]] = {field.name: field for field in fields(options)}
    # Groups come first in `fields`; help lists the command's own first.
    names = dict.fromkeys(
        name for base in options.__mro__ for name in vars(base).get("__annotations__", ())
    )
    declarations = []
    for name in names:
        for option in getattr(hints.get(name), "__metadata__", ()):
            if name in own and isinstance(option, Option):
                declarations.append(
                    Declared(name, get_args(hints[name])[0], own[name].default, option)
                )
    return tuple(
        sorted(declarations, key=lambda one: (not one.option.positional, not one.required))
    )


def collected(options: type, parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Convert Typer's parsed values to arguments of the dataclass `options`."""
    return {one.field: one.value(parsed[one.field]) for one in declared(options)}
