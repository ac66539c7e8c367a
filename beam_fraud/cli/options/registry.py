"""Options of the registry of models and rule sets."""

from __future__ import annotations

from typing import Annotated

from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import BundleSchemaOptions, SpanOptions


@options
class RegistryPlaceOptions:
    """The registry that a command reads or changes."""

    registry: Annotated[str, Option("--registry", metavar="DIR", help="Directory of the registry.")]


@options
class AuthorOptions(RegistryPlaceOptions):
    """Who changes a registry."""

    who: Annotated[
        str | None,
        Option("--who", metavar="NAME", help="Who changes it; default: this user and host."),
    ] = None


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
