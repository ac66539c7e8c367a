"""Run the checks of a runner, those that a launch enforces and those that it skips."""

from __future__ import annotations

from collections.abc import Iterator

from beam_fraud.errors import FraudError
from beam_fraud.operations.doctor.check import Check, ok, refused, warning
from beam_fraud.runners.call import Call
from beam_fraud.runners.check import Caution, Finding
from beam_fraud.runners.checks import checks_of


def check_runner(call: Call) -> Iterator[Check]:
    """Yield the results of all checks that need no pipeline, as they complete.

    A check is left out if one that it needs has failed, or was left out.

    Args:
      call: what the runner is to run; thorough.
    """
    unmet: set[str] = set()
    for check in checks_of(call.runner):
        if not unmet.isdisjoint(check.needs):
            unmet.add(check.name)
            continue
        for finding in check.findings(call):
            result = result_of(check.name, finding)
            if result.state == "failed":
                unmet.add(check.name)
            yield result


def result_of(name: str, finding: Finding) -> Check:
    """Return what a check of a runner finds as a result of `doctor`."""
    if isinstance(finding, FraudError):
        return refused(name, finding)
    if isinstance(finding, Caution):
        return warning(name, finding.found, finding.fix)
    return ok(name, finding)
