"""Configure the log: standard error and optionally a file; text or JSON lines."""

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

#: Parent logger of the package.
PACKAGE = "beam_fraud"
logger = logging.getLogger(__name__)
#: Beam's logger of worker processes; with each worker it warns of an unneeded directory.
_WORKERS = "apache_beam.runners.portability.local_job_service"
#: Beam's loggers of the programs it starts, and of Prism.
_SERVICES, _PRISM = "apache_beam.utils.subprocess_server", "PrismRunner"
#: Pattern of the message in a worker's record, a printed protocol buffer.
_WORKER_MESSAGE = re.compile(r'^Worker: severity: .*? message: "((?:[^"\\]|\\.)*)"', re.DOTALL)


#: The arguments of `configure`.
_settings: tuple[Level, Format, str | None] = ("info", "text", None)


def form() -> Format:
    """Return the form of messages that `configure` set."""
    return _settings[1]


def settings() -> tuple[Level, Format, str | None]:
    """Return the arguments of `configure`, for a process that logs like this one."""
    return _settings


def configure(level: Level = "info", form: Format = "text", file: str | None = None) -> None:
    """Send log records to standard error and, if given, to a file.

    The package's records appear from `level` on. Those of libraries appear from `warning` on
    (`info` at level `debug`), without Beam's warnings of missing extras; Python's warnings and
    exceptions of threads appear at level `debug` alone. Tracebacks go to the file, and to standard
    error at level `debug`.

    Args:
      level: minimum level of the package's records.
      form: `text`, or `json` for one object per line with timestamp, level, logger and message.
      file: path of a file to append the same records to.

    Raises:
      UsageError: the file cannot be written.
    """
    global _settings
    _settings = (level, form, file)
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
    """Drop Beam's records of normal starts and ends of a job server or Prism."""
    if record.name == _SERVICES:
        return not record.getMessage().startswith("Really ")
    return record.name != _PRISM or record.levelno >= logging.WARNING


class _StandardError(logging.StreamHandler[TextIO]):
    """Write to the current standard error, so that lines go above a progress bar."""

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
    """Format records as one JSON object per line; times in UTC. A failure has its code."""

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
    """Return the message and the traceback of a record; one line without tracebacks.

    Beam also writes tracebacks into messages: show the first line of libraries' messages. Ours are
    one line, though a name in them may contain a line end.
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
    """Indent all lines but the first, so that none looks like a record."""
    return "\n    ".join(printable(line, escaped=True) for line in text.split("\n"))


def _not_reported_as_failure(record: logging.LogRecord) -> bool:
    """Drop a runner's record of an error that ends the command and is reported there."""
    return record.name.startswith(PACKAGE) or f"{PACKAGE}.errors." not in _with_exception(record)


def _not_of_what_was_stopped(record: logging.LogRecord) -> bool:
    """Drop libraries' records about workers and connections that a signal ended."""
    return record.name.startswith(PACKAGE) or interruption.stopped() is None


def _log_end_of_thread(end: threading.ExceptHookArgs) -> None:
    # Beam's threads end so when a worker dies; the command then fails by itself.
    name = end.thread.name if end.thread else "a thread"
    raised = end.exc_value or end.exc_type()
    logger.debug("%s has ended: %r", name, raised, exc_info=raised)


def _with_exception(record: logging.LogRecord) -> str:
    kind = record.exc_info[0] if record.exc_info else None
    return f"{record.getMessage()}\n{kind.__module__}." if kind else record.getMessage()


def _not_an_absent_extra(record: logging.LogRecord) -> bool:
    """Drop Beam's warnings on the root logger of missing cloud extras."""
    return record.name != "root" or record.levelno >= logging.ERROR
