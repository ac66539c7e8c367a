"""Problems of HTTP as `application/problem+json` (RFC 9457): the fault, its field and its fix."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from beam_fraud.errors import Code
from beam_fraud.serve.predictions import Fault

MEDIA_TYPE = "application/problem+json"
#: Prefix of the type of a problem, a name and not an address.
_TYPE = "urn:beam-fraud:problem:"

#: Reasons of dead letters to what a caller changes; of others, the value of the field.
_FIXES = {
    "malformed": "send one JSON object per transaction",
    "wrong_type": "send the type that /openapi.json names",
    "missing_id": "send an identifier",
    "missing_time": "send the time of the transaction",
    "unparseable_time": "write the time in the form that /openapi.json names",
    "impossible_time": "send a time between 1970 and 2199 in the unit that /openapi.json names",
    "future_time": "correct the clock of the sender, or send the transaction when it is due",
    "missing_amount": "send the amount",
    "negative_amount": "send refunds elsewhere, or allow negative amounts in the schema",
    "missing_currency": "send the code of the currency, as in EUR",
    "no_rate": "give the bundle rates of that currency and day",
    "missing_feature": "send a value; null is none",
}


@dataclass(frozen=True)
class Problem:
    """An answer that says what is wrong with a request, without any value of it."""

    #: Status of the answer.
    status: int
    #: Kind of the problem: a code of `errors.py`, a reason of dead letters, or a word of its own.
    code: str
    #: What is wrong.
    detail: str
    #: What the caller does about it.
    fix: str
    #: Column, parameter or header with the fault; None for the request as a whole.
    field: str | None = None
    #: Further headers of the answer.
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: Whether the connection is closed, because the rest of the request is not read.
    close: bool = False

    def body(self, request_id: str) -> bytes:
        """Return the document.

        Args:
          request_id: id of the request, which the access log holds as well.
        """
        return msgspec.json.encode(
            {
                "type": _TYPE + self.code.lower(),
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
                "code": self.code,
                "field": self.field,
                "fix": self.fix,
                "request_id": request_id,
            }
        )


class Refused(Exception):  # noqa: N818  # an answer, not a fault of this program
    """Ends the handling of a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        """Note the answer.

        Args:
          problem: the answer.
        """
        super().__init__(problem)
        self.problem = problem


def invalid_transaction(fault: Fault) -> Problem:
    """Return the problem of a single row that is no transaction."""
    fix = _FIXES.get(fault.code, "correct the value; /openapi.json describes it")
    return Problem(422, fault.code, fault.detail, fix, fault.field)


def internal_error() -> Problem:
    """Return the problem of an error of this program; the log names it."""
    return Problem(
        500,
        Code.INTERNAL_ERROR,
        "an error of the server",
        "report it with the request_id, by which the server's log names the error",
    )


def unavailable(code: str, detail: str, retry_after: int = 1) -> Problem:
    """Return the problem of a server that cannot answer now."""
    return Problem(
        503,
        code,
        detail,
        f"send the same request again after {retry_after} s",
        headers=((b"retry-after", b"%d" % retry_after),),
    )
