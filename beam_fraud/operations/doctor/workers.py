"""Compare workers with this process by a tiny pipeline."""

from __future__ import annotations

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.activity import doing
from beam_fraud.operations.doctor.check import Check, failed, ok, refused, warning
from beam_fraud.operations.doctor.probe import Report, probe, report
from beam_fraud.runners.flink.rest import flink_of
from beam_fraud.runners.submission import Submission
from beam_fraud.storage.urls import Place


def check_workers(
    submission: Submission, *, model: Place | None, out: Place | None, seconds: float
) -> list[Check]:
    """Run a pipeline and compare its worker's report with this process.

    Args:
      submission: Beam's options and the runner.
      model: a bundle that must match, or None.
      out: a directory that must match, or None.
      seconds: time limit.
    """
    bundle = None if model is None else model.name
    try:
        full = _without_a_slot(submission)
        if full is not None:
            return [full]
        with doing("running a tiny pipeline"):
            there = probe(submission, model=bundle, out=out, seconds=seconds)
    except FraudError as error:
        return [refused("workers", error)]
    return compared(report(bundle), there, bundle, None if out is None else out.shown)


def _without_a_slot(submission: Submission) -> Check | None:
    """Return a check in place of a probe that would wait for a slot of Flink; else None."""
    flink = flink_of(submission.options) if submission.runner.may_be_flink else None
    if flink is None or int(flink.get("/overview")["slots-available"]) > 0:
        return None
    return warning(
        "workers",
        "were not checked: no task slot of Flink is free for the probe",
        "free one and run again; --no-probe leaves it out",
    )


def compared(here: Report, there: Report, model: str | None, out: str | None) -> list[Check]:
    """Return the differences between this process and a worker.

    Args:
      here: report of this process.
      there: report of a worker.
      model: the bundle of the option.
      out: the directory of the option.
    """
    if not there.package:
        text = (
            f"at {there.host}: Python {there.python} lacks this beam-fraud ({there.model_refused})"
        )
        return [failed("workers", text, f"install beam-fraud {here.package} there")]
    checks = [_packages(here, there)]
    name = f"model at {there.host}"
    if model is not None and there.model_refused:
        fix = "put the bundle there, at the same place, or on a disk that both see"
        # A worker of another version may name a code that is not known here, or none.
        code = next((code for code in Code if code == there.model_code), None)
        text = there.model_refused.partition("; ")[0]
        checks.append(Check(name, "failed", text, fix, code))
    elif model is not None and here.model and there.model != here.model:
        checks.append(failed(name, f"{there.model}, here {here.model}", "use the same one there"))
    elif model is not None:
        checks.append(ok(name, f"{there.model} opens"))
    if there.out is not None:
        name = f"--out at {there.host}"
        fix = "give a directory on a disk that every machine has mounted"
        text = f"{out} is not the same directory"
        checks.append(ok(name, "is the same directory") if there.out else failed(name, text, fix))
    return checks


def _packages(here: Report, there: Report) -> Check:
    finding = f"at {there.host}: Python {there.python}, beam-fraud {there.package}"
    finding += "".join(f", {name} {number or 'missing'}" for name, number in there.versions.items())
    must, other = list[str](), list[str]()
    if _minor(here.python) != _minor(there.python):
        must.append(f"Python {_minor(here.python)}")
    if here.package != there.package:
        must.append(f"beam-fraud {here.package}")
    for name, number in here.versions.items():
        if there.versions.get(name) != number:
            breaks = name == "apache-beam" or _major(there.versions.get(name, "")) != _major(number)
            (must if breaks else other).append(f"{name} {number}")
    if must:
        return failed("workers", finding, f"install {', '.join(must + other)} there")
    if other:
        return warning("workers", finding, f"install {', '.join(other)} there, as here")
    return ok("workers", finding)


def _major(number: str) -> str:
    return number.partition(".")[0]


def _minor(number: str) -> str:
    return ".".join(number.split(".")[:2])
