"""An error in a step of a real pipeline ends the command with its own line."""

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.cli.terminal import log, outcome
from beam_fraud.errors import Code, FraudError, UsageError, fraud_error_in

LINE = "bundle b: model.joblib was changed after it was written; write the bundle again"


def run_pipeline(error: Exception, *args: str) -> BaseException:
    """Run a pipeline with a step that raises `error`; return the command's error."""

    def step(_: int) -> int:
        raise error

    pipeline = beam.Pipeline(options=PipelineOptions(list(args)))
    _ = pipeline | beam.Create([1, 2]) | "Load the model's file" >> beam.Map(step)
    with pytest.raises(Exception) as raised:  # whatever the runner makes of it
        pipeline.run().wait_until_finish()
    return raised.value


IN_PROCESS = ("--runner=FnApiRunner",)
THREADS = (
    "--runner=FnApiRunner",
    "--direct_num_workers=2",
    "--direct_running_mode=multi_threading",
)


@pytest.mark.parametrize("args", [IN_PROCESS, THREADS], ids=["in process", "threads"])
@pytest.mark.parametrize("kind", [FraudError, UsageError])
def test_the_error_of_a_step_is_found_in_any_worker(
    kind: type[FraudError], args: tuple[str, ...]
) -> None:
    result = fraud_error_in(run_pipeline(kind(LINE, Code.BUNDLE_DAMAGED), *args))
    assert type(result) is kind
    assert result is not None
    assert (str(result), result.code) == (LINE, Code.BUNDLE_DAMAGED)


@pytest.mark.slow
def test_the_error_of_a_step_in_another_process_is_found() -> None:
    args = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    result = fraud_error_in(
        run_pipeline(FraudError(LINE, Code.BUNDLE_DAMAGED), "--runner=FnApiRunner", *args)
    )
    assert result is not None
    assert (str(result), result.code) == (LINE, Code.BUNDLE_DAMAGED)


@pytest.mark.parametrize("args", [IN_PROCESS, THREADS], ids=["in process", "threads"])
def test_a_bug_in_a_step_stays_a_bug(
    args: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    error = run_pipeline(ZeroDivisionError("by zero"), *args)
    assert fraud_error_in(error) is None
    assert outcome.report(error) == 1


def test_a_bug_in_another_process_is_reported_by_its_exception(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure()
    text = (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 7, in step\n    1 / 0\n    ~~^~~\n'
        "ZeroDivisionError: by zero\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        '  File "b.py", line 9, in process\n'
        "ZeroDivisionError: by zero [while running 'Load the model']\nand more\n"
    )
    assert outcome.report(RuntimeError(text)) == 1
    message = capsys.readouterr().err
    assert message.startswith("beam-fraud: internal error: ZeroDivisionError: by zero; run again")
    assert message.count("\n") == 1


def test_an_error_is_found_among_causes() -> None:
    error = RuntimeError("the job failed")
    error.__cause__ = UsageError(LINE, Code.BUNDLE_DAMAGED)
    assert outcome.report(error) == 2


def test_a_bug_while_handling_an_error_stays_a_bug() -> None:
    error = ZeroDivisionError("by zero")
    error.__context__ = FraudError(LINE, Code.BUNDLE_DAMAGED)
    assert fraud_error_in(error) is None
