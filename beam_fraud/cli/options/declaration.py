"""How an option is declared: one annotated field of a frozen dataclass.

    limit: Annotated[int | None, Option("--limit", metavar="N", min=1, help="Rows.")] = None

The field gives the type and the default, its `Option` the rest. The parameters of the command, its
help, the Dataflow template and docs/options.md are made of it. A field without an `Option` is for
callers from Python alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, MISSING, Field, dataclass, fields
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer


@dataclass(frozen=True)
class Pattern:
    """What a value looks like in the Dataflow template."""

    #: All of it matches this, if it is one that can be meant.
    regex: str
    #: The same for people, as in `gs://BUCKET/DIR`; "" if help says it.
    form: str = ""


@dataclass(frozen=True)
class Option:
    """What a field says of its option, beside its type and its default."""

    #: As a caller writes it: `--limit`; or `FILE`, what help calls a positional argument.
    name: str
    _: KW_ONLY
    #: A sentence or two, which end in a period.
    help: str
    #: What help calls the value.
    metavar: str | None = None
    #: The least and the largest number.
    min: float | None = None
    max: float | None = None
    #: Whether the Dataflow template has the option; with a pattern where the type does not tell
    #: what values look like there.
    template: Pattern | bool = True

    @property
    def positional(self) -> bool:
        """Whether the value stands alone."""
        return not self.name.startswith("--")


@dataclass(frozen=True)
class Declared:
    """One option of a command."""

    #: The dataclass's field.
    field: str
    #: Of the value: `str`, `int | None`, `Literal["file", "run"]`, `tuple[str, ...]`.
    type: Any
    #: What the field has if the option is absent; `MISSING` if it has to be there.
    default: Any
    option: Option

    @property
    def required(self) -> bool:
        """Whether a call has to give it."""
        return self.default is MISSING

    @property
    def repeatable(self) -> bool:
        """Whether a call may give several values."""
        return get_origin(self.type) is tuple

    def parameter(self) -> inspect.Parameter:
        """Return the parameter that Typer reads it off; a tuple is a list to Typer."""
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
        """Return what the field takes, of what Typer has parsed."""
        if not self.repeatable:
            return parsed
        return tuple(parsed) if parsed else self.default


@cache
def declared(options: type) -> tuple[Declared, ...]:
    """Return the options of a command: those that a call has to give, its own, those of its groups.

    Args:
      options: the dataclass that declares them, with the groups that it inherits.
    """
    hints = get_type_hints(options, include_extras=True)
    own: dict[str, Field[Any]] = {field.name: field for field in fields(options)}
    # A group's fields come first in `fields`, in help the command's own.
    names = dict.fromkeys(
        name for base in options.__mro__ for name in vars(base).get("__annotations__", ())
    )
    found = []
    for name in names:
        for option in getattr(hints.get(name), "__metadata__", ()):
            if name in own and isinstance(option, Option):
                found.append(Declared(name, get_args(hints[name])[0], own[name].default, option))
    return tuple(sorted(found, key=lambda one: (not one.option.positional, not one.required)))


def collected(options: type, parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the dataclass `options`, of what Typer has parsed."""
    return {one.field: one.value(parsed[one.field]) for one in declared(options)}
