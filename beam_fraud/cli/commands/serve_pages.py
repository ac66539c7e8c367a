"""`serve --review`: the analysts' pages beside a server, in a process of their own.

A page may take the processor for a tenth of a second: in the server's process, payments would wait
for it. Nor has the process of the pages the tokens of the server.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from beam_fraud.cli.commands import review
from beam_fraud.cli.commands.server_process import ServerProcess, preload
from beam_fraud.cli.options import ReviewOptions, ServeOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.registry.registry import open_registry
from beam_fraud.serve.http.tokens import FILE_VARIABLE, TOKENS_VARIABLE
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.stream_outputs import ServerOutputs
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
_PRELOADED = ("beam_fraud.cli.commands.review", "beam_fraud.review.http.server")
#: Seconds between two looks at the process.
_TICK = 0.1
#: By how much less urgent than payments pages are to the system.
_NICENESS = 5
_FIELDS = ("review", "review_host", "review_port", "review_settings")


def pages_of(options: ServeOptions) -> ReviewOptions | None:
    """Return the options of the pages beside a server; None for none.

    Raises:
      UsageError: an option is invalid, or one of the pages is given without `--review`.
      FraudError: the database or the file of settings cannot be used.
    """
    if options.review is None:
        for name in _FIELDS:
            if getattr(options, name) != getattr(ServeOptions, name):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option}: needs --review DATABASE", Code.OPTION_CONFLICT)
        return None
    lists = options.lists
    if lists is None and options.registry is not None:
        own = open_registry(Place.parse(options.registry)).lists
        lists = None if own is None else str(own)
    pages = ReviewOptions(
        database=options.review,
        host=options.review_host,
        port=options.review_port,
        settings=options.review_settings,
        lists=lists,
        links=options.links,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        tls_client_ca=options.tls_client_ca,
        access_log=options.access_log,
        monitor=str(ServerOutputs(Path(options.state).absolute()).monitor),
        prefix="--review-",
    )
    sink = None if options.sink is None else parse_sink(options.sink)
    review_sink = parse_sink(options.review, "--review", databases=True)
    same = sink is not None and sink.database == review_sink.database
    review.check(pages, created=same)
    if not same:
        _LOG.warning(
            "--review: what this server flags does not go to that database; give the same to --sink"
        )
    return pages


def without_pages(options: ServeOptions) -> ServeOptions:
    """Return the options of a server without pages beside it."""
    return replace(options, **{name: getattr(ServeOptions, name) for name in _FIELDS})


@contextmanager
def pages_beside(options: ReviewOptions | None) -> Iterator[dict[str, object]]:
    """Show the pages while the body runs, and again if their process ends.

    Args:
      options: of `pages_of`; None for no pages.

    Yields:
      What the result of the server says about them.

    Raises:
      FraudError: they do not answer; their process has said why.
    """
    if options is None:
        yield {}
        return
    preload(_PRELOADED)
    stop, process = threading.Event(), ServerProcess("the process of the pages", _show, options)

    def attend() -> None:
        while not stop.wait(_TICK):
            process.attend()

    thread = threading.Thread(target=attend, name="pages", daemon=True)
    try:
        process.start()
        while not process.answers:
            process.attend()
            stop.wait(_TICK)
        thread.start()
        yield {"review": process.url}
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()
        process.terminate()
        process.result()
        process.kill()


def _show(options: ReviewOptions, answering: Callable[[str], None]) -> dict[str, object]:
    """Show the pages; in their process."""
    os.nice(_NICENESS)
    # Who works there has no tokens of machines.
    for name in (FILE_VARIABLE, TOKENS_VARIABLE):
        os.environ.pop(name, None)

    def answer(url: str) -> None:
        review.announce(url)
        answering(url)

    return review.run(options, answer)
