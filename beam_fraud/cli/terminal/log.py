"""Where messages go: standard error and, if asked, a file; text or one JSON object a line."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import warnings
from typing import Literal, TextIO

from beam_fraud.cli.terminal import interruption
from beam_fraud.errors import Code, UsageError
from beam_fraud.wording import printable

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

#: The logger above all of the package's own.
PACKAGE = "beam_fraud"
logger = logging.getLogger(__name__)
#: Beam's logger of what worker processes log; warns with each worker of a directory it needs not.
_WORKERS = "apache_beam.runners.portability.local_job_service"
#: Beam's loggers of the programs that it starts, and of what Prism says.
_SERVICES, _PRISM = "apache_beam.utils.subprocess_server", "PrismRunner"
#: The message in one of its workers' records, which hold a printed protocol buffer.
_WORKER_MESSAGE = re.compile(r'^Worker: severity: .*? message: "((?:[^"\\]|\\.)*)"', re.DOTALL)


def configure(level: Level = "info", form: Format = "text", file: str | None = None) -> None:
    """Send log records to standard error and, if given, to a file.

    The package's own records appear from `level` on. Those of libraries appear from `warning` on
    (`info` at level `debug`), without Beam's warnings about extras that are not installed, and
    Python's warnings and what ends a thread not at all unless at level `debug`. Tracebacks are for
    the file, and for standard error at level `debug` only.

    Args:
      level: the least severe of the package's own records to show.
      form: `text`, or `json` for one object a line with timestamp, level, logger and message.
      file: path of a file to append the same records to.

    Raises:
      UsageError: the file cannot be written.
    """
    debug = level == "debug"
    console: logging.Handler = _StandardError()
    console.setFormatter(_formatter(form, tracebacks=debug))
    handlers = [console]
    if not debug:
        console.addFilter(_not_reported_as_failure)
        console.addFilter(_not_of_what_was_stopped)
        console.addFilter(_not_of_a_service)
    if file is not None:
        handlers.append(_file_handler(file))
        handlers[-1].setFormatter(_formatter(form, tracebacks=True))
    threshold = getattr(logging, level.upper())
    for handler in handlers:
        handler.addFilter(_not_an_absent_extra)
    libraries = logging.INFO if debug else max(threshold, logging.WARNING)
    logging.basicConfig(level=libraries, handlers=handlers, force=True)
    logging.getLogger(PACKAGE).setLevel(threshold)
    logging.getLogger(_WORKERS).setLevel(logging.INFO if debug else logging.ERROR)
    logging.captureWarnings(debug)
    threading.excepthook = _log_end_of_thread
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")


def _not_of_a_service(record: logging.LogRecord) -> bool:
    """Drop what Beam says of a job server or Prism that it starts and ends as it should."""
    if record.name == _SERVICES:
        return not record.getMessage().startswith("Really ")
    return record.name != _PRISM or record.levelno >= logging.WARNING


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is now, so that lines go above a progress bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # a plain attribute in the base class
        return sys.stderr


def _file_handler(path: str) -> logging.Handler:
    try:
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--log-file {path}: cannot be written ({error.strerror or error})",
            Code.OUTPUT_UNWRITABLE,
        ) from None


def _formatter(form: Format, *, tracebacks: bool) -> logging.Formatter:
    return _JsonLines(tracebacks) if form == "json" else _TextLines(tracebacks)


class _TextLines(logging.Formatter):
    """`12:30:01 warning apache_beam.runners: text`; a failure is `beam-fraud: text [code]`."""

    def __init__(self, tracebacks: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        message, traceback = _parts(self, record, self._tracebacks)
        own = not self._tracebacks or record.name.startswith(PACKAGE)
        message = printable(message, escaped=True) if own else _indented(message)
        if getattr(record, "failure", False):
            code = getattr(record, "code", None)
            line = f"beam-fraud: {message}{f' [{code}]' if code else ''}"
        else:
            when = self.formatTime(record, self.datefmt)
            line = f"{when} {record.levelname.lower()} {record.name}: {message}"
        return f"{line}\n    {_indented(traceback)}" if traceback else line


class _JsonLines(logging.Formatter):
    """One JSON object a line; times are UTC. A command's failure has its code."""

    def __init__(self, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        message, traceback = _parts(self, record, self._tracebacks)
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "timestamp": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if code := getattr(record, "code", None):
            entry["code"] = code
        if traceback:
            entry["traceback"] = traceback
        return json.dumps(entry)


def _parts(
    formatter: logging.Formatter, record: logging.LogRecord, tracebacks: bool
) -> tuple[str, str]:
    """The message and the traceback of a record; a single line where tracebacks are left out.

    Beam writes tracebacks into its messages as well as beside them: of libraries' messages, the
    first line is shown. Ours are one line, though a name in them may hold a line end.
    """
    message = record.getMessage()
    if not tracebacks:
        from_worker = _WORKER_MESSAGE.match(message)
        if from_worker:
            message = from_worker[1].replace("\\n", "\n")
        if record.name.startswith(PACKAGE):
            return message.strip(), ""
        return message.strip().partition("\n")[0], ""
    return message, formatter.formatException(record.exc_info) if record.exc_info else ""


def _indented(text: str) -> str:
    """Lines of which no second one can be taken for a record of its own."""
    return "\n    ".join(printable(line, escaped=True) for line in text.split("\n"))


def _not_reported_as_failure(record: logging.LogRecord) -> bool:
    """False for a runner's record of an error that ends the command and is reported there."""
    return record.name.startswith(PACKAGE) or f"{PACKAGE}.errors." not in _with_exception(record)


def _not_of_what_was_stopped(record: logging.LogRecord) -> bool:
    """False for what libraries say when a signal takes their workers and connections away."""
    return record.name.startswith(PACKAGE) or interruption.stopped() is None


def _log_end_of_thread(end: threading.ExceptHookArgs) -> None:
    # Beam's threads end so when a worker dies; the command fails of that by itself.
    name = end.thread.name if end.thread else "a thread"
    raised = end.exc_value or end.exc_type()
    logger.debug("%s has ended: %r", name, raised, exc_info=raised)


def _with_exception(record: logging.LogRecord) -> str:
    kind = record.exc_info[0] if record.exc_info else None
    return f"{record.getMessage()}\n{kind.__module__}." if kind else record.getMessage()


def _not_an_absent_extra(record: logging.LogRecord) -> bool:
    """False for what Beam warns of, on the root logger, where its cloud extras are absent."""
    return record.name != "root" or record.levelno >= logging.ERROR
