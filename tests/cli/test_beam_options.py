"""Foreign options of `score`: Beam's pass, others are refused."""

import subprocess
import sys

import pytest

from beam_fraud.cli.beam_options import beam_options, split
from beam_fraud.errors import UsageError

OWN = {"--out": True, "--limit": True, "--dry-run": False, "--model": True}


def divided(*args: str) -> tuple[list[str], tuple[str, ...]]:
    return split(list(args), OWN, "beam-fraud score")


@pytest.mark.parametrize(
    ("args", "beams"),
    [
        (["--runner=FnApiRunner"], ["--runner=FnApiRunner"]),
        (["--runner", "FnApiRunner"], ["--runner=FnApiRunner"]),
        (["--flink_submit_uber_jar"], ["--flink_submit_uber_jar"]),
        (["--flink-master", "[local]"], ["--flink_master=[local]"]),
        (["--checkpointing-interval", "1000"], ["--checkpointing_interval=1000"]),
        (["--job-server-timeout=9"], ["--job-server-timeout=9"]),
        (["--parallelism", "-1"], ["--parallelism=-1"]),
        (['--environment_config={"a": "b=c"}'], ['--environment_config={"a": "b=c"}']),
        (["--experiments", "a", "--experiments=b"], ["--experiments=a", "--experiments=b"]),
    ],
)
def test_an_option_that_beam_declares_is_passed_to_beam(args: list[str], beams: list[str]) -> None:
    ours, others = divided("a.csv", *args, "--out", "o", "b.csv")
    assert ours == ["a.csv", "--out", "o", "b.csv"]
    assert list(others) == beams


def test_beam_parses_the_passed_options() -> None:
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

    _, beams = divided("--direct-num-workers", "3", "--direct_running_mode=multi_threading")
    options = PipelineOptions(list(beams)).view_as(DirectOptions)
    assert (options.direct_num_workers, options.direct_running_mode) == (3, "multi_threading")


def test_options_of_the_flink_job_server_reach_it_as_numbers() -> None:
    from apache_beam.options.pipeline_options import PipelineOptions

    _, beams = divided("--checkpointing_interval=1000", "--savepoint_path=file:///s")
    options = PipelineOptions(list(beams)).get_all_options(drop_default=True)
    assert (options["checkpointing_interval"], options["savepoint_path"]) == (1000, "file:///s")


def test_values_of_our_options_and_what_follows_a_double_dash_are_not_options() -> None:
    args = ["--out", "--runner", "--limit=-1", "--", "--treshold", "--runner"]
    assert divided(*args) == (args, ())


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--modle", "b"], "unknown option --modle; did you mean --model?"),
        (["--run", "FnApiRunner"], "unknown option --run; did you mean --runner?"),
        (["--flink_mastr=x"], "unknown option --flink_mastr; did you mean --flink_master?"),
        (["--treshold=0.9"], "unknown option --treshold; see beam-fraud score --help"),
        (["-runner", "x"], "unknown option -runner; did you mean --runner?"),
        (["--dry_run"], "unknown option --dry_run; did you mean --dry-run?"),
        (["--runner"], "option --runner needs a value, as in --runner=VALUE"),
        (["--runner", "--limit", "1"], "option --runner needs a value, as in --runner=VALUE"),
        (["--flink_submit_uber_jar=1"], "option --flink_submit_uber_jar takes no value"),
        (["--direct_num_workers=x"], "--direct_num_workers: invalid int value: 'x'"),
        (["--direct_running_mode=x"], "--direct_running_mode: invalid choice: 'x'"),
        (["--runner=FlnkRunner"], "--runner FlnkRunner: there is no such runner; did you mean Fl"),
        (["--runner=X"], "--runner X: there is no such runner; leave --runner out, or give Prism"),
        (["--runner=no.such.Runner"], "No module named 'no'"),
    ],
)
def test_other_options_are_refused_in_one_line(args: list[str], line: str) -> None:
    with pytest.raises(UsageError) as refused:
        divided(*args)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_options_of_every_runner_are_known() -> None:
    known = beam_options()
    assert known["--runner"]
    assert known["--flink_master"]
    assert known["--prism_location"]
    assert known["--checkpointing_interval"]
    assert known["--region"]
    assert not known["--flink_submit_uber_jar"]
    assert "--help" not in known


def test_beam_is_imported_only_for_an_option_that_is_not_ours() -> None:
    code = (
        "import sys; from beam_fraud.cli.beam_options import split;"
        "split(['a.csv', '--out', 'o'], {'--out': True}, 'x'); print('apache_beam' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
