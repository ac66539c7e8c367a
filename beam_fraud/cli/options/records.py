"""Options of the commands over what runs have left: alerts, and personal data to erase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from beam_fraud.cli.options.declaration import Option
from beam_fraud.cli.options.groups import DryRunOptions


@dataclass(frozen=True, kw_only=True)
class OutboxOptions:
    """Where alerts are kept."""

    sink: Annotated[
        str | None, Option("--sink", metavar="URL", help="The database with the alerts.")
    ] = None
    out: Annotated[
        str | None, Option("--out", metavar="DIR", help="Or --out of a run without a database.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class SubjectOptions:
    """Whose alerts are meant."""

    account_id: Annotated[
        str | None, Option("--account", metavar="ID", help="Alerts of this account.")
    ] = None
    merchant_id: Annotated[
        str | None, Option("--merchant", metavar="ID", help="Alerts of this merchant.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ListAlertsOptions(OutboxOptions, SubjectOptions):
    """Show alerts, what became of them, channels and snoozes."""

    state: Annotated[
        Literal["waiting", "sent", "failed", "snoozed"] | None,
        Option("--state", help="What has become of them."),
    ] = None
    channel: Annotated[
        str | None,
        Option(
            "--channel",
            metavar="URL",
            help="A channel as --alert takes it, or its scheme alone, as in smtp.",
        ),
    ] = None
    limit: Annotated[int, Option("--limit", min=0, metavar="N", help="Show the newest N.")] = 50


@dataclass(frozen=True, kw_only=True)
class ResendAlertsOptions(OutboxOptions):
    """Send alerts that wait or were given up now, or named ones again."""

    alerts: Annotated[
        tuple[str, ...],
        Option("--alert", metavar="URL", help="The channel, as for the run; repeatable."),
    ]
    ids: Annotated[
        tuple[str, ...],
        Option("--id", metavar="ALERT_ID", help="This one, even if sent; repeatable."),
    ] = ()
    failed: Annotated[bool, Option("--failed", help="Those alone that were given up.")] = False
    waiting: Annotated[bool, Option("--waiting", help="Those alone that wait.")] = False
    #: Default seconds of retries for a failing channel.
    patience: float = 10.0


@dataclass(frozen=True, kw_only=True)
class SnoozeAlertsOptions(OutboxOptions, SubjectOptions):
    """Hold back the alerts of an account or a merchant for a while.

    None is lost: they come together when it ends.
    """

    span: Annotated[str | None, Option("--for", metavar="TIME", help="For so long, as in 8h.")] = (
        None
    )
    lift: Annotated[bool, Option("--lift", help="End it now.")] = False


@dataclass(frozen=True, kw_only=True)
class AlertTestOptions:
    """Send one made-up alert, to see that it arrives."""

    urls: Annotated[tuple[str, ...], Option("URL", help="As --alert takes it; repeatable.")]
    pseudonymise: Annotated[
        bool,
        Option("--pseudonymise", help="Keyed hashes for ids, by BEAM_FRAUD_PSEUDONYM_KEY."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class EraseOptions(DryRunOptions):
    """Delete what is known of accounts, or is too old."""

    accounts: Annotated[
        tuple[str, ...],
        Option("--account", metavar="ID", help="All that is known of it; repeatable."),
    ] = ()
    older_than: Annotated[
        str | None,
        Option("--older-than", metavar="SPAN", help="Instead: all from before, as in 400d."),
    ] = None
    sinks: Annotated[
        tuple[str, ...],
        Option("--sink", metavar="URL", help="A database, or parquet:DIR; repeatable."),
    ] = ()
    outs: Annotated[
        tuple[str, ...],
        Option("--out", metavar="DIR", help="--out of a score or stream; repeatable."),
    ] = ()
    files: Annotated[
        tuple[str, ...],
        Option("--file", metavar="FILE", help="Alerts as JSON lines; repeatable."),
    ] = ()
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False
