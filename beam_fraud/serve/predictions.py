"""The contract between the HTTP layer and what answers predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Call:
    """The content of an HTTP request for predictions."""

    #: JSON records, one object each, in the order of the body; empty with `table`.
    records: Sequence[bytes]
    #: Rows of an Arrow body instead of records.
    table: pa.RecordBatch | None = None
    #: Whether the transactions are taken into windows, archive and database; else only scored.
    record: bool = True
    #: Whether the answers hold the model's features.
    features: bool = False
    #: Whether no other request has arrived that waits for its answer.
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is no transaction."""

    #: Reason of its dead letter (`records.faults.REASONS`).
    code: str
    #: Column with the fault; None if the record as a whole cannot be read.
    field: str | None
    #: What is wrong, without the value.
    detail: str


class Answers(Protocol):
    """The answers to a call, one per row, in the order of the rows."""

    @property
    def errors(self) -> int:
        """Number of rows that are no transactions."""

    def json(self, *, array: bool) -> bytes:
        """Return the body: an array of answers, or the answer to the only row."""

    def ipc(self) -> bytes:
        """Return the answers as an Arrow IPC stream."""

    def problem(self) -> Fault:
        """Return the fault of the only row, which is no transaction."""


class Overloaded(Exception):  # noqa: N818  # the state of a server, not a fault of a program
    """More calls wait than can be answered in time; the call had no effect."""

    def __init__(self, retry_after: int = 1) -> None:
        """Note when to call again.

        Args:
          retry_after: seconds.
        """
        super().__init__(retry_after)
        self.retry_after = retry_after


class Unready(Exception):  # noqa: N818  # the state of a server, not a fault of a program
    """Predictions cannot be answered at present; the call had no effect."""

    def __init__(self, reason: str) -> None:
        """Note the reason.

        Args:
          reason: in words, for the caller: without paths, values or secrets.
        """
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Readiness:
    """The state of a server: ready to answer predictions, or why not."""

    #: Whether the state is restored and the model has scored.
    ready: bool
    #: What is missing, in words, for `/readyz`.
    reasons: list[str] = field(default_factory=list)
    #: Whether that may still change; else the process has to be started again.
    alive: bool = True
    #: The model that answers; "" if there is none yet.
    model_id: str = ""


class Predictions(Protocol):
    """Answers transactions, beside the event loop that calls it."""

    async def predict(self, call: Call) -> Answers:
        """Answer one request.

        Raises:
          Overloaded: it was shed.
          Unready: nothing can be answered at present.
          FraudError: it failed for a reason that a user can remove.
        """

    def readiness(self) -> Readiness:
        """Return whether predictions are answered; at once, without a wait."""

    def about(self) -> dict[str, object]:
        """Return what `/model` shows: JSON values, `model_id` among them."""

    def drain(self) -> None:
        """Finish and persist all accepted work; called in a thread, after the last request."""

    def close(self) -> None:
        """Release everything, after `drain`."""
