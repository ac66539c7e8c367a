"""Destination, format and severity of messages."""

import json
import logging
import warnings
from datetime import datetime
from pathlib import Path

import pytest

from beam_fraud.cli.terminal import log
from beam_fraud.errors import Code, FraudError, UsageError
from tests.failing import fails

OURS = logging.getLogger("beam_fraud.cli.commands.score")
BEAM = logging.getLogger("apache_beam.runners.common")


def test_text_lines_have_time_level_and_module(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    OURS.info("scored %d rows", 3)
    printed = capsys.readouterr()
    assert printed.out == ""
    when, rest = printed.err.split(" ", 1)
    datetime.strptime(when, "%H:%M:%S")
    assert rest == "info beam_fraud.cli.commands.score: scored 3 rows\n"


def test_json_lines_are_one_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(form="json")
    OURS.warning('a "quoted"\tthing')
    BEAM.error("first\nsecond")
    first, second = (json.loads(row) for row in capsys.readouterr().err.splitlines())
    assert datetime.fromisoformat(first.pop("timestamp")).utcoffset() is not None
    assert first == {"level": "warning", "logger": OURS.name, "message": 'a "quoted"\tthing'}
    assert second["message"] == "first"


@pytest.mark.parametrize(
    ("level", "ours", "libraries"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["info", "warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_levels_hide_messages_of_libraries_but_not_errors(
    capsys: pytest.CaptureFixture[str], level: log.Level, ours: list[str], libraries: list[str]
) -> None:
    log.configure(level, "json")
    for logger in (OURS, BEAM):
        for name in ("debug", "info", "warning", "error"):
            logger.log(logging.getLevelName(name.upper()), "x")
    entries = [json.loads(row) for row in capsys.readouterr().err.splitlines()]
    assert [e["level"] for e in entries if e["logger"] == OURS.name] == ours
    assert [e["level"] for e in entries if e["logger"] == BEAM.name] == libraries


def test_warnings_about_absent_extras_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    logging.getLogger().warning("apitools not found")
    assert capsys.readouterr().err == ""
    logging.getLogger().error("lost the worker")
    assert "lost the worker" in capsys.readouterr().err


def test_warnings_of_python_are_shown_at_level_debug_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure()
    warnings.warn("old", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == ""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log.configure("debug")
        warnings.warn("old", UserWarning, stacklevel=1)
    assert "UserWarning: old" in capsys.readouterr().err


def test_tracebacks_are_for_the_file_and_for_level_debug(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "run.log"
    for level, shown in (("info", False), ("debug", True)):
        log.configure(level, file=str(file))  # type: ignore[arg-type]
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            BEAM.exception("bundle failed. Original traceback is\nTraceback ...")
        assert ("Traceback" in capsys.readouterr().err) is shown
    assert file.read_text().count("Traceback (most recent call last)") == 2


def test_the_final_error_is_not_reported_twice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A runner logs the error of a step, and then the command reports it."""
    file = tmp_path / "run.log"
    log.configure(file=str(file))
    BEAM.error("bundle failed\nbeam_fraud.errors.FraudError: b: model.joblib was changed")
    try:
        raise FraudError("b: model.joblib was changed", Code.BUNDLE_DAMAGED)
    except FraudError:
        BEAM.exception("b: model.joblib was changed [while running 'Infer']")
    assert capsys.readouterr().err == ""
    assert file.read_text().count("\n    beam_fraud.errors.FraudError: b: ") == 2


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    for _ in range(2):
        log.configure("info", "json", str(file))
        OURS.info("started")
    rows = file.read_text().splitlines()
    assert [json.loads(row)["message"] for row in rows] == ["started", "started"]


def test_a_log_file_that_cannot_be_written_is_a_wrong_call(tmp_path: Path) -> None:
    path = str(tmp_path / "absent" / "run.log")
    with fails(Code.OUTPUT_UNWRITABLE, r"--log-file .*run\.log: .*No such", kind=UsageError):
        log.configure(file=path)
    with fails(Code.OUTPUT_UNWRITABLE, "--log-file", kind=UsageError):
        log.configure(file=str(tmp_path))


def test_a_name_from_outside_neither_cuts_a_message_nor_reaches_the_terminal_raw(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure()
    logging.getLogger("beam_fraud.x").warning("two\nlines\x1b[31m.csv\u3164: no column µ")
    message = capsys.readouterr().err
    assert message.endswith("two\\nlines\\x1b[31m.csv\\u3164: no column µ\n")
    log.configure(form="json")
    logging.getLogger("beam_fraud.x").warning("two\nlines.csv: no column")
    assert json.loads(capsys.readouterr().err)["message"] == "two\nlines.csv: no column"


def test_no_line_of_a_log_file_or_at_level_debug_is_forged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "run.log"
    forged = "a\n12:00:00 error beam_fraud: all is lost\x1b[2J\r\u2028.csv"
    log.configure("debug", file=str(file))
    for logger in (OURS, BEAM):
        try:
            raise ValueError(forged)
        except ValueError:
            logger.exception("%s", forged)
    for text in (file.read_text(), capsys.readouterr().err):
        assert "all is lost" in text
        assert not {"\x1b", "\r", "\u2028"} & set(text)
        lines = [line for line in text.splitlines() if not line.startswith("    ")]
        assert ["Traceback" in line or line.startswith("12:00:00") for line in lines] == [False] * 2


def test_logs_of_a_worker_process_are_cut_to_the_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    workers = logging.getLogger("apache_beam.runners.portability.local_job_service")
    row = 'Worker: severity: %s timestamp { seconds: 1 } message: "lost \\"it\\"\\nTraceback" x: 1'
    log.configure(form="json")
    workers.warning(row, "WARN")
    workers.error(row, "ERROR")
    (entry,) = (json.loads(row) for row in capsys.readouterr().err.splitlines())
    assert entry["message"] == 'lost \\"it\\"'


def test_the_start_and_end_of_a_service_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    services = logging.getLogger("apache_beam.utils.subprocess_server")
    services.warning("Really starting service at localhost:1 with cmd: %s", ("prism",))
    prism = logging.getLogger("PrismRunner")
    prism.setLevel(logging.INFO)
    prism.info("pipeline done!")
    assert capsys.readouterr().err == ""
    services.warning("Error bringing up service")
    prism.warning("no memory")
    assert len(capsys.readouterr().err.splitlines()) == 2
