"""The commands over alerts."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from beam_fraud.cli.app import app
from beam_fraud.cli.terminal.command import Outcome, command

alerts = typer.Typer(
    help="List, resend and hold back alerts; try their channels.", rich_markup_mode=None
)
app.add_typer(alerts, name="alerts")
#: What people write as well.
app.add_typer(alerts, name="alert", hidden=True)

_Sink = Annotated[
    str | None, typer.Option("--sink", metavar="URL", help="The database with the alerts.")
]
_Out = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR", help="Or --out of a run without a database."),
]
_Account = Annotated[
    str | None, typer.Option("--account", metavar="ID", help="Alerts of this account.")
]
_Merchant = Annotated[
    str | None, typer.Option("--merchant", metavar="ID", help="Alerts of this merchant.")
]


@command(alerts, "list")
def list_(
    sink: _Sink = None,
    out: _Out = None,
    state: Annotated[
        Literal["waiting", "sent", "failed", "snoozed"] | None,
        typer.Option("--state", help="What has become of them."),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="URL",
            help="A channel as --alert takes it, or its scheme alone, as in smtp.",
        ),
    ] = None,
    account: _Account = None,
    merchant: _Merchant = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="N", help="Show the newest N.")
    ] = 50,
) -> Outcome:
    """Show alerts, what became of them, channels and snoozes."""
    from beam_fraud.alerts.listing import Wanted
    from beam_fraud.cli.commands.list_alerts import ListAlertsOptions, render, run

    wanted = Wanted(state, None, account, merchant)
    return Outcome(
        run(ListAlertsOptions(sink=sink, out=out, wanted=wanted, channel=channel, limit=limit)),
        render,
    )


@command(alerts, "resend")
def resend(
    urls: Annotated[
        list[str],
        typer.Option("--alert", metavar="URL", help="The channel, as for the run; repeatable."),
    ],
    sink: _Sink = None,
    out: _Out = None,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ALERT_ID", help="This one, even if sent; repeatable."),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Those alone that were given up.")
    ] = False,
    waiting: Annotated[bool, typer.Option("--waiting", help="Those alone that wait.")] = False,
) -> Outcome:
    """Send alerts that wait or were given up now, or named ones again."""
    from beam_fraud.cli.commands.resend_alerts import ResendAlertsOptions, render, run

    options = ResendAlertsOptions(
        alerts=tuple(urls),
        sink=sink,
        out=out,
        ids=tuple(ids or ()),
        failed=failed,
        waiting=waiting,
    )
    return Outcome(run(options), render)


@command(alerts, "snooze")
def snooze(
    sink: _Sink = None,
    out: _Out = None,
    account: _Account = None,
    merchant: _Merchant = None,
    span: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="For so long, as in 8h.")
    ] = None,
    lift: Annotated[bool, typer.Option("--lift", help="End it now.")] = False,
) -> Outcome:
    """Hold back the alerts of an account or a merchant for a while.

    None is lost: they come together when it ends.
    """
    from beam_fraud.cli.commands.snooze_alerts import SnoozeAlertsOptions, render, run

    options = SnoozeAlertsOptions(
        sink=sink, out=out, account_id=account, merchant_id=merchant, span=span, lift=lift
    )
    return Outcome(run(options), render)


@command(alerts, "test")
def send_test(
    urls: Annotated[
        list[str],
        typer.Argument(metavar="URL", help="As --alert takes it; repeatable.", show_default=False),
    ],
    pseudonymise: Annotated[
        bool,
        typer.Option("--pseudonymise", help="Keyed hashes for ids, by BEAM_FRAUD_PSEUDONYM_KEY."),
    ] = False,
) -> Outcome:
    """Send one made-up alert, to see that it arrives."""
    from beam_fraud.cli.commands.alert_test import AlertTestOptions, render, run

    return Outcome(run(AlertTestOptions(tuple(urls), pseudonymise)), render)
