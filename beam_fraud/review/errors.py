"""Errors of actions on a case that are not possible now."""

from __future__ import annotations

from beam_fraud.errors import Code, FraudError


class ConflictError(FraudError):
    """Somebody else changed or holds the thing: read it again."""

    def __init__(self, message: str, code: Code = Code.CASE_CONFLICT) -> None:
        """Store the message, one line."""
        super().__init__(message, code)


class MissingError(FraudError):
    """There is no such case, view or request."""

    def __init__(self, message: str, code: Code = Code.CASE_UNKNOWN) -> None:
        """Store the message, one line."""
        super().__init__(message, code)


def missing_case(case_id: str) -> MissingError:
    """Return the error for a case that is not in the database."""
    return MissingError(f"case {case_id}: there is none, or it was erased")
