"""Options of the registry of models and rule sets, and of the lists that rules name."""

from __future__ import annotations

from typing import Annotated

from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import BundleSchemaOptions, SpanOptions


@options
class RegistryPlaceOptions:
    """The registry that a command reads or changes."""

    registry: Annotated[str, Option("--registry", metavar="DIR", help="Directory of the registry.")]


@options
class WhoOptions:
    """Who changes what others rely on."""

    who: Annotated[
        str | None,
        Option("--who", metavar="NAME", help="Who changes it; default: this user and host."),
    ] = None


@options
class AuthorOptions(RegistryPlaceOptions, WhoOptions):
    """Who changes a registry."""


@options
class RegistryAddOptions(AuthorOptions):
    """Add a bundle or a rules file as a challenger.

    It is copied into the registry, which is made if it is missing.
    """

    what: Annotated[str, Option("BUNDLE", help="Directory of a model, or a TOML file of rules.")]
    name: Annotated[
        str | None,
        Option("--name", metavar="NAME", help="Name of a rule set; default: that of its file."),
    ] = None
    why: Annotated[str | None, Option("--why", metavar="TEXT", help="What it is for.")] = None


@options
class RegistryListOptions(RegistryPlaceOptions):
    """List the models and rule sets of a registry with their states."""


@options
class RegistryShowOptions(RegistryPlaceOptions):
    """Show what decides, or what is known of one model or rule set."""

    what: Annotated[
        str | None, Option("NAME_OR_ID", help="A model or rule set; default: what decides.")
    ] = None


@options
class RegistryPromoteOptions(AuthorOptions, BundleSchemaOptions, SpanOptions):
    """Make a model the champion, or put a rule set in force.

    `registry rollback` undoes it.
    """

    what: Annotated[str, Option("NAME_OR_ID", help="A model or rule set of the registry.")]
    why: Annotated[str, Option("--why", metavar="TEXT", help="Reason, for the log.")]
    on: Annotated[
        tuple[str, ...],
        Option(
            "--on",
            metavar="FILE",
            help="Labelled transactions: measure the model and the champion on them first, and "
            "record the figures; repeatable.",
        ),
    ] = ()
    require: Annotated[
        tuple[str, ...],
        Option(
            "--require",
            metavar="COND",
            help="Promote only if this holds on the rows of --on, as in 'ap >= champion.ap'; "
            "figures: ap, auc, precision, recall, f1, microseconds; repeatable.",
        ),
    ] = ()
    report: Annotated[
        str | None,
        Option("--report", metavar="FILE", help="Keep this comparison report with the promotion."),
    ] = None


@options
class RegistryRollbackOptions(AuthorOptions):
    """Undo the last promotion: what decided before it decides again."""

    why: Annotated[str, Option("--why", metavar="TEXT", help="Reason, for the log.")]


@options
class RegistryRetireOptions(AuthorOptions):
    """Retire a model or rule set that does not decide.

    Its files stay, so that its decisions can be checked.
    """

    what: Annotated[str, Option("NAME_OR_ID", help="A model or rule set of the registry.")]
    why: Annotated[str, Option("--why", metavar="TEXT", help="Reason, for the log.")]


@options
class RegistryLogOptions(RegistryPlaceOptions):
    """Print every change of a registry: when, who, what and why."""

    limit: Annotated[
        int | None, Option("--limit", metavar="N", min=1, help="Show the newest N.")
    ] = None


@options
class RegistryVerifyOptions(RegistryPlaceOptions):
    """Check the chain of the log, and every file by its digest."""


#: The list that a command changes.
LIST = Option("LIST", help="Name of the list, as in blocked for @blocked.")


@options
class ListPlaceOptions:
    """The directory of the lists."""

    lists: Annotated[
        str,
        Option("--lists", metavar="DIR", help="Directory of the lists; DIR/lists of a registry."),
    ]


@options
class ChangeListOptions(ListPlaceOptions, WhoOptions):
    """A list, and why it is changed."""

    #: Each command declares it, as its first argument.
    name: str
    reason: Annotated[
        str | None, Option("--reason", metavar="TEXT", help="Reason, kept with the entries.")
    ] = None


@options
class ExpiryOptions:
    """When entries end."""

    until: Annotated[
        str | None,
        Option("--until", metavar="T", help="Event time from which they have no effect, ISO 8601."),
    ] = None
    span: Annotated[
        str | None,
        Option("--for", metavar="SPAN", help="The same, counted from now, such as 30d."),
    ] = None


@options
class ListAddOptions(ChangeListOptions, ExpiryOptions):
    """Add values to a list, which is made if it is missing.

    Running streams and servers take them up within seconds.
    """

    name: Annotated[str, LIST]
    values: Annotated[tuple[str, ...], Option("VALUE", help="Values, such as account ids.")]


@options
class ListRemoveOptions(ChangeListOptions):
    """Remove values from a list."""

    name: Annotated[str, LIST]
    values: Annotated[tuple[str, ...], Option("VALUE", help="Values that are in the list.")]


@options
class ListShowOptions(ListPlaceOptions):
    """Count the lists, or show the entries of one."""

    name: Annotated[str | None, Option("LIST", help="Name of a list; default: count all.")] = None
    value: Annotated[
        str | None, Option("--value", metavar="VALUE", help="Show every change of this value.")
    ] = None
    limit: Annotated[
        int, Option("--limit", metavar="N", min=0, help="Show the newest N entries.")
    ] = 50


@options
class ListImportOptions(ChangeListOptions, ExpiryOptions):
    """Add the values of a file to a list.

    A CSV file has a header. It may have the columns until and reason. Any other file has one value
    a line, and # starts a comment.
    """

    name: Annotated[str, LIST]
    file: Annotated[str, Option("FILE", help="A CSV file (.csv), or a text file.")]
    column: Annotated[
        str | None,
        Option("--column", metavar="NAME", help="CSV column of the values; default: the first."),
    ] = None
    replace: Annotated[
        bool, Option("--replace", help="Remove the entries that the file does not have.")
    ] = False
