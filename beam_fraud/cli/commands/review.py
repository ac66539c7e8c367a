"""`beam-fraud review`: show flagged transactions to analysts, in a browser."""

from __future__ import annotations

import logging
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channels
from beam_fraud.alerts.dispatch import Dispatcher
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.cli.commands import review_workers
from beam_fraud.cli.commands.database import database_of
from beam_fraud.cli.commands.listening import access_log_of, listen_of
from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.commands.times import parse_seconds
from beam_fraud.cli.options import ReviewOptions
from beam_fraud.cli.options.review import ReviewPageOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals
from beam_fraud.errors import Code, UsageError, need_extras
from beam_fraud.review.people.roles import Role
from beam_fraud.review.settings import ReviewSettings, read_settings
from beam_fraud.review.surroundings import absent_links
from beam_fraud.review.sweep import sweep
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.urls import Place
from beam_fraud.wording import own_call

if TYPE_CHECKING:
    from beam_fraud.review.http.site import Site
    from beam_fraud.review.people.openid import Provider
    from beam_fraud.serve.http.sharing import Shared

_LOG = logging.getLogger(__name__)
#: Modules of the extra.
_MODULES = ("argon2", "starlette", "uvicorn", "uvloop", "httptools")


def announce(url: str) -> None:
    """Say where the pages are."""
    _LOG.info("the pages are at %s", url)


def run(
    options: ReviewOptions,
    answering: Callable[[str], None] = announce,
    shared: Shared | None = None,
) -> dict[str, object]:
    """Show the pages until SIGINT or SIGTERM.

    Args:
      options: the options.
      answering: called with the server's URL when it answers.
      shared: the socket, where this is one of several processes.

    Returns:
      The address, and how long it was served.

    Raises:
      UsageError: an option is invalid.
      FraudError: the database, the port or a file cannot be used.
    """
    need_extras(_MODULES, "review")
    settings, url = settings_of(options), _database_of(options)
    if shared is None and options.prefix == "--":
        # Beside a server, `check` has looked.
        _warn_of_links(url, settings)
    if options.workers > 1 and shared is None:
        return review_workers.run(options, run, answering)
    # What it imports is an extra.
    from beam_fraud.review.http.server import ReviewServer
    from beam_fraud.review.http.site import Site

    started = time.monotonic()
    events, labels = (
        parse_channels(urls, sys.stderr, pseudonymise=False)
        for urls in (settings.events, settings.label_events)
    )
    settings = replace(
        settings,
        channels=tuple(channel.name for channel in events),
        label_channels=tuple(channel.name for channel in labels),
    )
    hides = bool(settings.pseudonymised)
    site = Site(
        url,
        settings,
        lists=lists_directory(options.lists),
        pseudonyms=Pseudonyms.from_environment() if hides else None,
        provider=_provider_of(settings),
        live=_live_of(options),
    )
    if site.provider is not None:
        site.provider.check()
    server = ReviewServer(site, listen_of(options, shared), access_log_of(options))
    _warn_without_users(url, options.database)
    with ExitStack() as stack:
        stack.enter_context(working(site, (*events, *labels)))
        stack.enter_context(drained_by_signals(server.stop))
        server.run(lambda: answering(server.url))
    return {"url": server.url, "seconds": round(time.monotonic() - started, 1)}


def render(result: dict[str, object]) -> str:
    """Return the result as one line."""
    return f"The pages were served for {result['seconds']} s."


def check(options: ReviewOptions, *, created: bool) -> None:
    """Check what can be checked before the pages are shown.

    Args:
      options: the options.
      created: whether a missing file of SQLite is created.

    Raises:
      UsageError: an option is invalid.
      FraudError: the database or the file of settings cannot be used, or an extra is missing.
    """
    need_extras(_MODULES, "review")
    settings = settings_of(options)
    listen_of(options)
    url = _database_of(options, created=created)
    if not created:
        _warn_of_links(url, settings)


def settings_of(options: ReviewPageOptions) -> ReviewSettings:
    """Return how the pages work: the settings of the file, and in their place those of options.

    Raises:
      UsageError: an option is invalid.
      FraudError: the file cannot be read.
    """
    settings = (
        ReviewSettings() if options.settings is None else read_settings(Path(options.settings))
    )
    if options.sla is not None:
        settings = replace(settings, sla_seconds=parse_seconds("--sla", options.sla))
    hidden = frozenset(Role.parse(role, "--pseudonymise") for role in options.pseudonymise)
    if any(role > Role.ANALYST for role in hidden):
        raise UsageError(
            "--pseudonymise: leads and administrators approve what is done to accounts, so they "
            "see them; give read-only or analyst",
            Code.OPTION_VALUE,
        )
    if settings.openid is not None:
        need_extras(("joserfc",), "[openid]")
    return replace(
        settings,
        capacity=options.capacity or settings.capacity,
        pseudonymised=hidden or settings.pseudonymised,
        links=tuple(dict.fromkeys(options.links)) or settings.links,
        events=options.events or settings.events,
        label_events=options.label_events or settings.label_events,
    )


def _provider_of(settings: ReviewSettings) -> Provider | None:
    if settings.openid is None:
        return None
    # What it imports is an extra.
    from beam_fraud.review.people.openid import Provider

    return Provider(settings.openid)


def _database_of(options: ReviewOptions, *, created: bool = False) -> str:
    option = "--database" if options.prefix == "--" else "--review"
    return database_of(options.database, created=created, option=option)


def _warn_of_links(url: str, settings: ReviewSettings) -> None:
    """Warn of declared columns of which the database has no values: they may be misspelt."""
    if settings.links:
        with transaction(url) as connection:
            warning = absent_links(connection, settings.links)
        if warning is not None:
            _LOG.warning("%s", warning)


def _live_of(options: ReviewOptions) -> Path | None:
    if options.monitor is None:
        return None
    directory = Place.parse(options.monitor).local
    if directory is None:
        raise UsageError(
            f"--monitor {options.monitor}: give a directory of this machine", Code.OPTION_VALUE
        )
    return directory


@contextmanager
def working(site: Site, channels: tuple[Channel, ...]) -> Iterator[None]:
    """Open cases, change lists and send events while the body runs."""
    stop = threading.Event()
    sweeper = threading.Thread(
        target=sweep, args=(site.url, site.settings, stop, site.lists), name="cases", daemon=True
    )
    with ExitStack() as stack:
        if channels:
            stack.enter_context(Dispatcher(Outbox(site.url), channels).running())
        sweeper.start()
        try:
            yield
        finally:
            stop.set()
            sweeper.join(timeout=10)


def _warn_without_users(url: str, database: str) -> None:
    from beam_fraud.review.people.users import count_users

    with transaction(url) as connection:
        if count_users(connection):
            return
    call = f"{own_call()} users add NAME --role admin --database {shlex.quote(database)}"
    _LOG.warning("nobody can log in yet; add the first person: %s", call)
