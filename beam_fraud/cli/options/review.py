"""Options of the analysts' pages and of their people."""

from __future__ import annotations

from typing import Annotated, Literal

from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import PORT, ServedOptions

_NAME = Option("NAME", help="The name to log in with.")
#: Type: a role of `review/people/roles.py`, which is not imported for help.
RoleWord = Literal["read-only", "analyst", "lead", "admin"]


@options
class ReviewDatabaseOptions:
    """The database of flagged transactions, cases and people."""

    database: Annotated[
        str,
        Option("--database", metavar="URL", help="The database that --sink of the runs names."),
    ]


@options
class ReviewPageOptions:
    """How the analysts' pages work."""

    settings: Annotated[
        str | None,
        Option(
            "--settings",
            metavar="FILE",
            help="TOML file of reason codes, lists, a provider of log-ins and all else; options "
            "come first.",
        ),
    ] = None
    sla: Annotated[
        str | None,
        Option(
            "--sla", metavar="SPAN", help="Time in which a case is due; default: of FILE, or 4h."
        ),
    ] = None
    lists: Annotated[
        str | None,
        Option(
            "--lists",
            metavar="DIR",
            help="Directory of the lists that rules name; needed to block accounts and merchants.",
        ),
    ] = None
    events: Annotated[
        tuple[str, ...],
        Option(
            "--events",
            metavar="URL",
            help="Where decisions and actions go as events, a webhook or a topic; repeatable.",
        ),
    ] = ()
    label_events: Annotated[
        tuple[str, ...],
        Option(
            "--label-events",
            metavar="URL",
            help="Topic of labels that streams and servers read, kafka://HOST:PORT/TOPIC.",
        ),
    ] = ()
    pseudonymise: Annotated[
        tuple[str, ...],
        Option(
            "--pseudonymise",
            metavar="ROLE",
            help="Show keyed hashes for ids to read-only or analyst, by BEAM_FRAUD_PSEUDONYM_KEY; "
            "repeatable.",
        ),
    ] = ()
    links: Annotated[
        tuple[str, ...],
        Option(
            "--link",
            metavar="COLUMN",
            help="Also link cases by a column that score, stream or serve wrote with --link, such "
            "as device_id; repeatable.",
        ),
    ] = ()
    monitor: Annotated[
        str | None,
        Option(
            "--monitor",
            metavar="DIR",
            help="Directory monitor of a stream or server, whose figures the page Live shows.",
        ),
    ] = None
    capacity: Annotated[
        int | None,
        Option(
            "--capacity",
            metavar="N",
            min=1,
            help="Cases that the team decides in a day; default: of FILE, or 200.",
        ),
    ] = None


@options
class ReviewOptions(ReviewDatabaseOptions, ReviewPageOptions, ServedOptions):
    """Show flagged transactions to analysts, in a browser.

    Each account's flagged transactions are a case. Verdicts become labels. Ctrl-C or SIGTERM stops
    the server.
    """

    host: Annotated[
        str,
        Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen at; beyond this machine it needs --tls-cert.",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, PORT] = 8080
    workers: Annotated[
        int,
        Option(
            "--workers",
            metavar="N",
            min=1,
            max=64,
            help="Processes at that port, for many people at once.",
        ),
    ] = 1
    #: What the options of a call begin with: those of `serve` with `--review-`.
    prefix: str = "--"


@options
class PasswordOptions:
    """Where a password comes from; default: a prompt."""

    password_file: Annotated[
        str | None,
        Option(
            "--password-file",
            metavar="FILE",
            help="File of the password; default: BEAM_FRAUD_USER_PASSWORD, or a prompt.",
        ),
    ] = None


@options
class UsersAddOptions(ReviewDatabaseOptions, PasswordOptions):
    """Add a person who may log in to the analysts' pages."""

    name: Annotated[str, _NAME]
    role: Annotated[RoleWord, Option("--role", help="What the person may do.")]


@options
class UsersListOptions(ReviewDatabaseOptions):
    """List the people of the analysts' pages, their roles and log-ins."""


@options
class UsersDisableOptions(ReviewDatabaseOptions):
    """Refuse a person's log-ins from now on, and end the sessions."""

    name: Annotated[str, _NAME]


@options
class UsersResetOptions(ReviewDatabaseOptions, PasswordOptions):
    """Give a person a new password or another role.

    The sessions end; a person who was disabled may log in again.
    """

    name: Annotated[str, _NAME]
    role: Annotated[
        RoleWord | None, Option("--role", help="The new role; without a new password.")
    ] = None
