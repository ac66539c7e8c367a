"""Every error has a documented code, which survives pickling, copies and runners."""

import ast
import copy
import io
import pickle
import re
import traceback
from pathlib import Path

import pytest

import beam_fraud
from beam_fraud.alerts.channels.channel import MessageRefusedError, TryLaterError
from beam_fraud.errors import Code, FraudError, UsageError, fraud_error_in
from beam_fraud.storage.database.errors import LockedDatabaseError

PACKAGE = Path(beam_fraud.__file__).parent
PAGE = PACKAGE.parent / "docs" / "errors.md"
ERRORS = (
    FraudError("a.csv: no such file", Code.INPUT_MISSING),
    UsageError("--seed x: must be a number", Code.OPTION_VALUE),
    LockedDatabaseError("database a.db: is locked", Code.DATABASE_LOCKED),
    MessageRefusedError("--alert x: spam", Code.MESSAGE_REFUSED),
    TryLaterError("--alert x: busy", Code.CHANNEL_FAILED, 30.0),
)


def test_an_error_without_a_code_cannot_be_made() -> None:
    for kind in (FraudError, UsageError, LockedDatabaseError, MessageRefusedError):
        with pytest.raises(TypeError, match="code"):
            kind("a.csv: no such file")  # type: ignore[call-arg]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_keeps_its_code_when_it_is_copied_and_pickled(error: FraudError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), other.code) == (str(error), error.code)
        assert vars(other) == vars(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_beam_step_that_adds_its_name_keeps_the_code(error: FraudError) -> None:
    # As `DoFnRunner._reraise_augmented` does.
    added = type(error)(error.args[0] + " [while running 'Read']", *error.args[1:])
    result = fraud_error_in(added)
    assert type(result) is type(error)
    assert result is not None
    assert (str(result), result.code) == (str(error), error.code)


def test_a_traceback_that_a_worker_sends_carries_the_code() -> None:
    text = io.StringIO()
    traceback.print_exception(ERRORS[1], file=text)
    result = fraud_error_in(RuntimeError(f"Error from SDK harness:\n{text.getvalue()}\nend"))
    assert type(result) is UsageError
    assert (str(result), result.code) == ("--seed x: must be a number", Code.OPTION_VALUE)


def test_a_traceback_without_its_last_line_is_a_failed_pipeline() -> None:
    result = fraud_error_in(RuntimeError("beam_fraud.errors.FraudError: a.csv: no such file"))
    assert result is not None
    assert (str(result), result.code) == ("a.csv: no such file", Code.PIPELINE_FAILED)


def test_the_page_has_every_code_once() -> None:
    rows = re.findall(r"^\| (BF\d{3}) \| ([A-Z0-9_]+) \|(.*)\|$", PAGE.read_text("utf-8"), re.M)
    assert [(code, name) for code, name, _ in rows] == [(code, code.name) for code in Code]
    for code, _, rest in rows:
        cells = [cell.strip() for cell in rest.split(" | ")]
        assert [cell.endswith(".") for cell in cells] == [True] * 3, code


def test_every_code_is_raised_somewhere_in_the_package() -> None:
    used = {
        node.attr
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Code"
    }
    assert {code.name for code in Code} - used == set()
