"""Generate the Dataflow template's metadata and the page of options from the commands' options.

`make options` does it, after an option has changed.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from beam_fraud.cli.app import COMMANDS
from beam_fraud.cli.options import LoggingOptions, RunnerOptions
from beam_fraud.cli.options.declaration import Declared, Pattern, declared
from deploy.dataflow.main import COMMANDS as OF_TEMPLATE

_ROOT = Path(__file__).resolve().parent.parent
METADATA = _ROOT / "deploy" / "dataflow" / "metadata.json"
PAGE = _ROOT / "docs" / "options.md"

_INTRODUCTION = """\
# Options

Every command with its options, made of their declarations in `beam_fraud/cli/options` by
`make options`. `beam-fraud COMMAND --help` prints the same. From Python, an option is a field of
the dataclass that is named below its command.
"""
#: Parameters that are no options of ours: the command, and what every job of an image needs.
_OWN_PARAMETERS: tuple[dict[str, Any], ...] = (
    {
        "name": "command",
        "label": "Command",
        "helpText": "score or features for files, stream for a topic of Kafka.",
        "regexes": [f"^({'|'.join(OF_TEMPLATE)})$"],
        "paramType": "TEXT",
    },
    {
        "name": "sdk_container_image",
        "label": "Image of the workers",
        "helpText": "The image of this template, so that workers have what the launcher has.",
        "regexes": [r"^[a-z0-9.:-]+/[^\s]+$"],
        "paramType": "TEXT",
    },
)


def metadata() -> str:
    """Return the text of `metadata.json`: the parameters of the flex template."""
    declared_by_name: dict[str, dict[str, Declared]] = {}
    for command in OF_TEMPLATE:
        for one in declared(COMMANDS[command][0]):
            if one.option.template:
                declared_by_name.setdefault(_parameter_name(one), {})[command] = one
    parameters = [*_OWN_PARAMETERS, *(_parameter(*item) for item in declared_by_name.items())]
    template = {
        "name": "beam-fraud",
        "description": "Scores card transactions for fraud: files of a bucket, or a topic of "
        "Kafka.",
        "streaming": True,
        "supportsAtLeastOnce": False,
        "supportsExactlyOnce": True,
        "parameters": sorted(parameters, key=lambda one: "isOptional" in one),
    }
    return json.dumps(template, indent=2) + "\n"


def page() -> str:
    """Return the text of `docs/options.md`: a table of options for every command."""
    lines = [_INTRODUCTION]
    lines += ["## Every command", "", *_table(LoggingOptions)]
    for words, (options, _) in COMMANDS.items():
        lines += [f"## {words}", "", f"`{options.__name__}`. {inspect.getdoc(options)}", ""]
        lines += _table(options)
        if issubclass(options, RunnerOptions):
            lines += [f"`{options.__name__}.beam_args` takes Beam's options from Python.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _parameter_name(one: Declared) -> str:
    return one.field if one.option.positional else one.option.name[2:].replace("-", "_")


def _parameter(name: str, of_commands: dict[str, Declared]) -> dict[str, Any]:
    first = next(iter(of_commands.values()))
    commands_of = dict[str, list[str]]()
    for command, one in of_commands.items():
        commands_of.setdefault(one.option.help.replace("; repeatable.", "."), []).append(command)
    texts = [
        words if len(commands) == len(OF_TEMPLATE) else f"Of {' and '.join(commands)}: {words}"
        for words, commands in commands_of.items()
    ]
    pattern = first.option.template
    if not isinstance(pattern, Pattern):
        pattern = Pattern(_regex(first))
    if pattern.form:
        texts.append(f"{pattern.form}.")
    if first.repeatable:
        texts.append("Give several with ; between.")
    needed = all(
        command in of_commands and of_commands[command].required for command in OF_TEMPLATE
    )
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": " ".join(texts),
        **({} if needed else {"isOptional": True}),
        "regexes": [pattern.regex],
        "paramType": "TEXT",
    }


def _regex(one: Declared) -> str:
    """Return the pattern of valid values, as far as the type determines it."""
    kind = one.type
    if isinstance(kind, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return f"^({'|'.join(get_args(kind))})$"
    whole = "^[1-9][0-9]*$" if (one.option.min or 0) >= 1 else "^[0-9]+$"
    return {int: whole, float: "^[0-9.]+$", bool: "^(true|false)$", str: r"^[^\s]+$"}[kind]


def _table(options: type) -> Iterator[str]:
    yield "| option | default | meaning |"
    yield "|---|---|---|"
    for one in declared(options):
        option = one.option
        call = option.name
        if not option.positional and one.type is not bool:
            call += f" {option.metavar or _choices(one.type)}"
        cells = f"`{call}`", _default(one), option.help
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _choices(kind: Any) -> str:
    return "|".join(get_args(kind if get_origin(kind) is Literal else get_args(kind)[0]))


def _default(one: Declared) -> str:
    if one.required:
        return "required"
    if one.default is None or one.default is False or one.default == ():
        return ""
    value = one.default[0] if one.repeatable else one.default
    return f"`{value}`"


def main() -> None:
    """Write both files."""
    METADATA.write_text(metadata(), "utf-8")
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
