"""Errors that a user can cause: one line that names the thing, the place and the fix."""


class FraudError(Exception):
    """A failure that the command reports as one line; exit code 1."""

    exit_code = 1


class UsageError(FraudError):
    """A wrong call: an option or argument that cannot work; exit code 2."""

    exit_code = 2
