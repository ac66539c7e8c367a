"""Errors that a user can cause: one line that names the thing, the place and the fix."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from copy import copy
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Self

from beam_fraud.wording import first_line


class Code(StrEnum):
    """The kind of an error; a code never changes its meaning.

    docs/errors.md describes each code and its fix.
    """

    # 0xx: the program and the machine
    INTERNAL_ERROR = "BF001"
    SYSTEM_REFUSAL = "BF002"

    # 1xx: the command line and the environment
    CALL_INVALID = "BF101"
    OPTION_VALUE = "BF102"
    OPTION_MISSING = "BF103"
    OPTION_CONFLICT = "BF104"
    OPTION_TWICE = "BF105"
    TIME_INVALID = "BF106"
    URL_UNUSABLE = "BF107"
    CONSENT_MISSING = "BF108"
    PORT_UNUSABLE = "BF109"
    EXTRA_MISSING = "BF110"
    VARIABLE_UNSET = "BF111"
    SECRET_UNREADABLE = "BF112"
    SECRET_EXPOSED = "BF113"
    TOKENS_INVALID = "BF114"
    TOKENS_MISSING = "BF115"
    WORKER_ENDED = "BF116"
    TLS_MISSING = "BF117"

    # 2xx: inputs and outputs
    INPUT_MISSING = "BF201"
    INPUT_UNREADABLE = "BF202"
    INPUT_FORMAT = "BF203"
    INPUT_DAMAGED = "BF204"
    INPUT_CHANGED = "BF205"
    INPUT_EMPTY = "BF206"
    HEADER_UNUSABLE = "BF207"
    ROWS_INVALID = "BF208"
    REPAIRED_INVALID = "BF209"
    CSV_COLUMNS_UNKNOWN = "BF210"
    TIMES_IMPLAUSIBLE = "BF211"
    TIMES_AMBIGUOUS = "BF212"
    OUTPUT_NAME = "BF220"
    OUTPUT_UNWRITABLE = "BF221"
    OUTPUT_OCCUPIED = "BF222"
    OUTPUT_IN_USE = "BF223"
    PLACE_SHARED = "BF224"
    PLACE_EMPTY = "BF225"
    PARTITIONS_FAILED = "BF226"
    TRANSACTION_UNKNOWN = "BF227"

    # 3xx: schemas and columns
    SCHEMA_UNREADABLE = "BF301"
    TOML_SYNTAX = "BF302"
    SCHEMA_VALUE = "BF303"
    SCHEMA_VELOCITY = "BF304"
    ROLE_MISSING = "BF305"
    COLUMN_MISSING = "BF306"
    COLUMN_TYPE = "BF307"
    COLUMN_TWICE = "BF308"
    VELOCITY_LIMIT = "BF309"

    # 4xx: models and bundles
    BUNDLE_MISSING = "BF401"
    BUNDLE_DAMAGED = "BF402"
    BUNDLE_VERSION = "BF403"
    BUNDLE_SCHEMA = "BF404"
    BUNDLES_APART = "BF405"
    MODEL_KIND = "BF410"
    MODEL_SETTING = "BF411"
    MODEL_UNSUITED = "BF412"
    ONNX_IMPOSSIBLE = "BF413"
    MLFLOW_FAILED = "BF414"
    CLASSES_MISSING = "BF420"
    DIVISION_IMPOSSIBLE = "BF421"
    THRESHOLD_UNREACHABLE = "BF422"
    RESAMPLING_IMPOSSIBLE = "BF423"
    LABELS_NEEDED = "BF424"
    TRAINING_FAILED = "BF425"
    REGISTRY_MISSING = "BF430"
    REGISTRY_DAMAGED = "BF431"
    REGISTRY_CHANGED = "BF432"
    REGISTRY_UNKNOWN = "BF433"
    CHANGE_IMPOSSIBLE = "BF434"
    REQUIREMENT_UNMET = "BF435"

    # 5xx: rules
    RULES_UNREADABLE = "BF501"
    RULES_INVALID = "BF502"
    RULE_CONDITION = "BF503"
    FIGURE_UNDEFINED = "BF504"
    LIST_INVALID = "BF505"
    LIST_MISSING = "BF506"

    # 6xx: sinks and databases
    SINK_URL = "BF601"
    SINK_UNSUITED = "BF602"
    ROWS_UNDELIVERED = "BF603"
    DATABASE_SILENT = "BF610"
    DATABASE_LOCKED = "BF611"
    DATABASE_FULL = "BF612"
    DATABASE_REFUSED = "BF613"
    DATABASE_RIGHTS = "BF614"
    DATABASE_TABLES = "BF615"
    DATABASE_FILE = "BF616"
    BIGQUERY_ACCESS = "BF620"
    BIGQUERY_TABLE = "BF621"
    BIGQUERY_LOAD = "BF622"
    ICEBERG_CATALOG = "BF630"
    ICEBERG_TABLE = "BF631"
    ICEBERG_COMMIT = "BF632"

    # 7xx: brokers and streams
    BROKER_SILENT = "BF701"
    BROKER_SECURITY = "BF702"
    KAFKA_PROPERTY = "BF703"
    TOPIC_MISSING = "BF704"
    TOPIC_FORBIDDEN = "BF705"
    TOPIC_FAILED = "BF706"
    MESSAGE_TOO_LARGE = "BF707"
    REGISTRY_SILENT = "BF708"
    REGISTRY_REFUSED = "BF709"
    STATE_UNREADABLE = "BF710"
    STREAM_CHANGED = "BF711"

    # 8xx: runners and workers
    RUNNER_UNUSABLE = "BF801"
    RUNNER_OPTION = "BF802"
    RUNNER_SILENT = "BF803"
    RUNNER_MISMATCH = "BF804"
    PROGRAM_MISSING = "BF805"
    ENVIRONMENT_INVALID = "BF806"
    SLOTS_MISSING = "BF807"
    SAVEPOINT_UNUSABLE = "BF808"
    PIPELINE_FAILED = "BF809"
    COLLECTION_UNSUITED = "BF810"

    # 9xx: alerts and channels
    CHANNEL_URL = "BF901"
    CHANNEL_INSECURE = "BF902"
    CHANNEL_FAILED = "BF903"
    CHANNEL_LOGIN = "BF904"
    MESSAGE_REFUSED = "BF905"
    TEMPLATE_INVALID = "BF906"
    ALERTS_UNSENT = "BF907"
    ALERT_UNKNOWN = "BF908"

    # Cases of the review
    CASE_CONFLICT = "BF941"
    CASE_UNKNOWN = "BF942"
    REVIEW_VALUE = "BF943"
    REVIEW_SETTINGS = "BF944"
    AUDIT_LOG_BROKEN = "BF945"

    # People of the review
    USER_INVALID = "BF951"
    USER_EXISTS = "BF952"
    USER_UNKNOWN = "BF953"
    PASSWORD_UNSUITED = "BF954"
    LOGIN_REFUSED = "BF955"
    LOGIN_LIMITED = "BF956"
    PROVIDER_SILENT = "BF957"
    PROVIDER_REFUSED = "BF958"


class FraudError(Exception):
    """A failure that the command reports as one line; exit code 1."""

    exit_code = 1

    def __init__(self, message: str, code: Code) -> None:
        """Note the code below the message, where tracebacks show it.

        Args:
          message: one line that names the thing, the place and the fix.
          code: the kind of mistake.
        """
        # Both are `args`: pickle, copy and Beam, which adds to the message, call the class on them.
        super().__init__(message, code)
        #: The kind of mistake, which stays the same when the message is improved.
        self.code = code
        self.add_note(f"[{code}]")

    def __str__(self) -> str:
        return str(self.args[0])

    def with_message(self, message: str) -> Self:
        """The same kind of error with another message."""
        error = copy(self)
        error.args = (message, *self.args[1:])
        return error


class UsageError(FraudError):
    """A wrong call: an option or argument that cannot work; exit code 2."""

    exit_code = 2


#: Top-level module, or one within a package of several, to the extra that brings it along.
EXTRAS = {
    "argon2": "review",
    "catboost": "catboost",
    "deltalake": "delta",
    "httptools": "serve",
    "imblearn": "resampling",
    "jax": "keras",
    "joserfc": "openid",
    "keras": "keras",
    "lightgbm": "boosting",
    "mlflow": "mlflow",
    "onnx": "onnx",
    "onnxmltools": "onnx",
    "onnxruntime": "onnx",
    # Others bring the rest of that package along.
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry",
    "optuna": "tuning",
    "pyiceberg": "iceberg",
    "skl2onnx": "onnx",
    "skops": "skops",
    "starlette": "review",
    "uvicorn": "serve",
    "uvloop": "serve",
    "xgboost": "boosting",
}


def install(extra: str) -> str:
    """Return the command that installs an extra into the running Python's environment."""
    return f"{shlex.quote(sys.executable or 'python')} -m pip install 'beam-fraud[{extra}]'"


def need_extras(modules: Iterable[str], what: str) -> None:
    """Check that modules are installed, without importing them.

    Args:
      modules: top-level ones, each one of `EXTRAS`.
      what: what needs them, for the message, as in `--model xgboost`.

    Raises:
      FraudError: one is not installed; the extra is named.
    """
    for module in modules:
        if not is_installed(module):
            raise FraudError(f"{what}: {_needs(module)}", Code.EXTRA_MISSING)


def is_installed(module: str) -> bool:
    """Return whether a module, by its dotted name, can be found."""
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def extra_module(module: str, what: str) -> ModuleType:
    """Import a module that is not installed with the package itself.

    Args:
      module: dotted name, its first part one of `EXTRAS`.
      what: what needs it, for the message, as in `--model xgboost`.

    Raises:
      FraudError: it is not installed; the extra is named.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise FraudError(f"{what}: {missing}", Code.EXTRA_MISSING) from None


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return the package to install for a missing module; None if no extra provides it."""
    name = (error.name or "").split(".")[0]
    if name not in EXTRAS:
        return None
    return _needs(name)


def _needs(module: str) -> str:
    return f"needs {module}; {install(EXTRAS[module])}"


_ELSEWHERE = "give another place"
_PERMITTED = "change its permissions, or run as another user"
_ROOM = "make room there and run again"
_OPEN = "allow more open files (ulimit -n), or give fewer workers"
_MEMORY = "free some memory, or give fewer workers or files at a time"
_PROCESSES = "allow more processes (ulimit -u), or give fewer workers"
_DISK = "look into the system's log: the disk or its connection fails"
_NETWORK = "correct the address or start what should answer there, and run again"

#: Fixes by errno.
_FIXES = {
    errno.EACCES: _PERMITTED,
    errno.EPERM: _PERMITTED,
    errno.EROFS: _ELSEWHERE,
    errno.ENOTDIR: f"a file stands where a directory should; {_ELSEWHERE}",
    errno.EISDIR: "give a file",
    errno.EEXIST: f"move it away, or {_ELSEWHERE}",
    errno.ENOTEMPTY: f"move it away, or {_ELSEWHERE}",
    errno.ENOENT: "put it back and run again, or correct its path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "remove the circle of symbolic links",
    errno.EXDEV: "give a place on the same disk",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "allow larger files (ulimit -f), or give another disk",
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EIO: _DISK,
    errno.ENODEV: _DISK,
    errno.ENXIO: _DISK,
    errno.ESTALE: _DISK,
    errno.EADDRINUSE: "another process listens there: stop it, or give another port",
    errno.EADDRNOTAVAIL: "give an address of this machine",
    errno.ECONNREFUSED: _NETWORK,
    errno.ECONNRESET: _NETWORK,
    errno.ECONNABORTED: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
    errno.EHOSTDOWN: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.ENETDOWN: _NETWORK,
    errno.ETIMEDOUT: _NETWORK,
    errno.EPIPE: _NETWORK,
}
_ANY_FIX = "correct that and run again"

#: Pattern of an OSError's text with its errno.
_NUMBERED = re.compile(r"Error: [^\n]*?\[Errno (\d+)\]")
#: Pattern of Arrow's errno at the end of its message.
_OF_ARROW = re.compile(r"\[errno (\d+)\]")
#: Pattern of paths in such a text, as Python prints them.
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
#: Pattern of Beam's name of the step.
_STEP = re.compile(r"\[while running '([^\n]*?)'\]")
#: Names of errors without errno, as in the text of a runner.
_NO_MEMORY = re.compile(r"\b(?:\w*MemoryError|bad_alloc)\b")
_NO_THREAD = "can't start new thread"
_KILLED = re.compile(r"\b(?:BrokenProcessPool|TerminatedWorkerError)\b")
_OF_SQLITE = {
    "database or disk is full": _ROOM,
    "disk I/O error": _DISK,
    "unable to open database file": f"{_PERMITTED}, or {_OPEN}",
    "attempt to write a readonly database": _PERMITTED,
}


def system_failure(error: BaseException, line: str) -> str | None:
    """Return the message for an error of the operating system; None for other errors.

    Args:
      error: an error raised here, or by a runner with the text of a remote error.
      line: the error in one line that begins with the name of its kind, as a traceback ends.
    """
    message = _of_error(error) or _of_text(line)
    if message is None:
        return None
    step = _STEP.search(str(error))
    return message if step is None else f"step {step[1]!r}: {message}"


def fix_of(error: OSError) -> str:
    """Return the fix for an error of the operating system."""
    return _FIXES.get(error.errno or 0, _ANY_FIX)


def _of_error(error: BaseException) -> str | None:
    # `--help` shows no network error, so it need not import what knows them.
    from socket import gaierror

    if isinstance(error, gaierror):
        return f"{error.strerror or error}; the name of a host is wrong, or no name server answers"
    if isinstance(error, OSError) and error.errno is not None:
        paths = (error.filename, error.filename2)
        names = [os.fsdecode(name) for name in paths if isinstance(name, str | bytes) and name]
        return _message(error.errno, names or _paths(str(error)))
    if isinstance(error, OSError) and not _NUMBERED.search(str(error)):
        # A library's own message about a connection or an invalid file.
        text = first_line(error)
        return f"{_STEP.sub('', text).strip()}; {_ANY_FIX}"
    return None


def _of_text(line: str) -> str | None:
    if _NO_MEMORY.search(line.partition(" [while")[0]):
        return f"there is not enough memory; {_MEMORY}"
    if _NO_THREAD in line:
        return f"no more threads can be started; {_PROCESSES}"
    if _KILLED.search(line):
        return f"the system has killed a worker process, mostly for want of memory; {_MEMORY}"
    for text, fix in _OF_SQLITE.items():
        if "OperationalError" in line and text in line:
            return f"a database: {text}; {fix}"
    numbered = _NUMBERED.search(line) or _OF_ARROW.search(line)
    return None if numbered is None else _message(int(numbered[1]), _paths(_STEP.sub("", line)))


def _message(number: int, paths: list[str]) -> str:
    reason = os.strerror(number)
    where = f"{' to '.join(paths)}: " if paths else ""
    return f"{where}{reason}; {_FIXES.get(number, _ANY_FIX)}"


def _paths(text: str) -> list[str]:
    return [one or other for one, other in _QUOTED.findall(text) if "/" in (one or other)]


#: Pattern of Beam's suffix of an exception that passes through a step.
_WHILE_RUNNING = re.compile(r"(?: \[while running '[^\n]*'\])+\s*$")
#: Pattern of the last line of a traceback of this package's errors.
_IN_TRACEBACK = re.compile(rf"\b{re.escape(__name__)}\.(\w+): ([^\n]*)(?:\n\[(BF\d{{3}})\])?")
#: Pattern of the line after a traceback's indented ones, which names the error.
_END_OF_TRACEBACK = re.compile(r"^ +\S.*\n(\S.*)", re.MULTILINE)


def refused_by_the_system(error: BaseException) -> str | None:
    """Return the operating system's error in one line; None for other errors."""
    for link in _chain(error):
        message = system_failure(link, _raised(link))
        if message is not None:
            return message
    return None


def fraud_error_in(error: BaseException) -> FraudError | None:
    """Return the package's own error in `error`, its causes, or a runner's text; None without one.

    A runner with other threads or processes raises a RuntimeError whose message holds the traceback
    of the failed step; Beam's name of the step is removed.
    """
    for link in _chain(error):
        if isinstance(link, FraudError):
            return link.with_message(_WHILE_RUNNING.sub("", str(link)))
        matches = _IN_TRACEBACK.findall(str(link))
        if matches:
            name, line, code = matches[-1]
            kind = UsageError if name == UsageError.__name__ else FraudError
            # A runner that keeps the first line alone leaves no code.
            known = {str(one): one for one in Code}.get(code, Code.PIPELINE_FAILED)
            return kind(_WHILE_RUNNING.sub("", line), known)
    return None


def line_of(error: BaseException) -> str:
    """Return an error in one line: its sentence and code, or its type and text.

    Args:
      error: as it was raised here, or with a runner's text of what was raised elsewhere.
    """
    known = fraud_error_in(error)
    if known is not None:
        return f"{known} [{known.code}]"
    refused = refused_by_the_system(error)
    if refused is not None:
        return f"{refused} [{Code.SYSTEM_REFUSAL}]"
    return _WHILE_RUNNING.sub("", _raised(error))


def _raised(error: BaseException) -> str:
    """Return the type and first line of an error; of a runner's text, the remote one."""
    raised = _END_OF_TRACEBACK.findall(str(error)) if "Traceback (most" in str(error) else ()
    if raised:
        return str(raised[-1])
    kind, text = type(error).__name__, first_line(error)
    return kind if text == kind else f"{kind}: {text}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its explicit causes, not its context."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__
