"""The command line for its caller: output, messages and exit codes."""

import importlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beam_fraud import __version__
from beam_fraud.cli import main
from beam_fraud.cli.app import COMMANDS
from beam_fraud.errors import Code, FraudError, UsageError

MINIMAL = {
    "demo": ["demo"],
    "simulate": ["simulate", "--out", "t.csv"],
    "train": ["train", "a.csv", "--schema", "ulb", "--model", "forest", "--out", "b"],
    "explore": ["explore", "a.csv", "--schema", "ulb", "--out", "r.html"],
    "evaluate": ["evaluate", "a.csv", "--model", "b"],
    "score": ["score", "a.csv", "--model", "b", "--out", "o"],
    "import_model": ["models", "import", "m.joblib", "--schema", "ulb", "--out", "b"],
    "list_models": ["models", "list"],
    "show_model": ["models", "show", "b"],
    "compare_models": ["models", "compare", "a", "b"],
    "check_rules": ["rules", "check", "r.toml", "--on", "a.csv"],
}


class Calls:
    """Replaces the work of the commands and records their options."""

    def __init__(self) -> None:
        self.options: Any = None
        self.raises: BaseException | None = None

    def run(self, options: Any) -> dict[str, object]:
        self.options = options
        if self.raises is not None:
            raise self.raises
        return {"rows": 3}

    def render(self, result: dict[str, object]) -> str:
        return f"{result['rows']} rows in all"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    stand_in = Calls()
    for args in MINIMAL.values():
        words = " ".join(args[:2])
        _, target = COMMANDS[words if words in COMMANDS else args[0]]
        name, _, which = target.partition(":")
        module = importlib.import_module(f"beam_fraud.cli.commands.{name}")
        ending = f"_{which}" if which else ""
        monkeypatch.setattr(module, f"run{ending}", stand_in.run)
        monkeypatch.setattr(module, f"render{ending}", stand_in.render)
    return stand_in


def python(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60, **options
    )


def installed() -> str:
    """The installed command of the Python that runs the tests."""
    return str(Path(sys.executable).parent / "beam-fraud")


def test_help_answers_in_under_half_a_second() -> None:
    seconds: list[float] = []
    # Processor time: a busy machine lets a process wait. It gets more tries, too, not more time.
    while len(seconds) < 10 and min(seconds, default=1.0) >= 0.5:
        start = processor_seconds_of_children()
        assert "simulate" in python("-m", "beam_fraud", "--help").stdout
        seconds.append(processor_seconds_of_children() - start)
    assert min(seconds) < 0.5


def processor_seconds_of_children() -> float:
    """Processor time of all ended child processes, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from beam_fraud.cli import main; main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr)"
    )
    for args in (["--help"], ["score", "--help"], ["trian"]):
        loaded = set(python("-c", code, *args).stderr.split())
        assert "beam_fraud.cli" in loaded
        heavy = {"apache_beam", "sklearn", "pandas", "numpy", "pyarrow", "sqlalchemy", "rich"}
        assert loaded & heavy == set()


def test_the_installed_command_answers_through_a_shell() -> None:
    shell = subprocess.run(
        f"'{installed()}' --version", shell=True, capture_output=True, text=True, check=True
    )
    assert shell.stdout == f"beam-fraud {__version__}\n"
    assert python("-m", "beam_fraud", "--version").stdout == shell.stdout


def test_help_of_training_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    from beam_fraud.models.kinds import KINDS

    assert main(["train", "--help"]) == 0
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    assert set(KINDS) <= words


def test_without_arguments_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: beam-fraud ")


def test_train_options_reach_the_command(calls: Calls) -> None:
    args = ["train", "a.csv", "b.csv", "--schema", "ulb", "--model", "forest", "--out", "b"]
    args += ["--from", "2024-01-01", "--valid-from", "2024-02-01", "--until", "2024-03-01"]
    args += ["--split", "stratified", "--seed", "7", "--threshold", "recall=0.8", "--name", "n"]
    args += ["--decline", "precision=0.9", "--resample", "smote=0.2", "--class-weight", "5"]
    assert main(args) == 0
    got = calls.options
    assert (got.resample, got.class_weight) == ("smote=0.2", "5")
    assert (got.files, got.schema, got.model, got.out) == (("a.csv", "b.csv"), "ulb", "forest", "b")
    assert (got.since, got.valid_from, got.until) == ("2024-01-01", "2024-02-01", "2024-03-01")
    assert (got.split, got.seed, got.threshold, got.name) == ("stratified", 7, "recall=0.8", "n")
    assert got.decline == "precision=0.9"


def test_score_options_reach_the_command(calls: Calls) -> None:
    args = ["score", "--alert", "console:", "a.csv", "--model", "b", "--out", "o", "b.csv"]
    args += ["--sink", "sqlite:///f.db", "--alert", "file:a.jsonl", "--workers", "2", "--limit=9"]
    args += ["--dedupe", "run", "--block-rows", "1000", "--dry-run", "--schema", "s.toml"]
    args += ["--rules", "r.toml"]
    assert main(args) == 0
    got = calls.options
    assert (got.files, got.model, got.out) == (("a.csv", "b.csv"), "b", "o")
    assert (got.sink, got.alerts) == ("sqlite:///f.db", ("console:", "file:a.jsonl"))
    assert (got.workers, got.limit, got.dedupe, got.block_rows) == (2, 9, "run", 1000)
    assert (got.dry_run, got.schema, got.beam_args) == (True, "s.toml", ())
    assert got.rules == "r.toml"


def test_simulate_evaluate_and_import_options_reach_the_command(calls: Calls) -> None:
    args = ["--days", "3", "--accounts", "4", "--merchants", "5", "--seed", "6"]
    assert main([*MINIMAL["simulate"], *args, "--fraud-rate", "0.1", "--start", "2025-01-01"]) == 0
    got = calls.options
    assert (got.days, got.accounts, got.merchants, got.seed) == (3, 4, 5, 6)
    assert (got.fraud_rate, got.start) == (0.1, "2025-01-01")
    args = ["--kafka", "b:9092", "--topic", "t", "--rate", "2.5", "--kafka-properties", "f"]
    assert main(["simulate", *args, "--kafka-config", "a=1", "--kafka-config", "b=2"]) == 0
    got = calls.options
    assert (got.out, got.kafka, got.topic, got.rate) == (None, "b:9092", "t", 2.5)
    assert (got.kafka_config, got.kafka_properties) == (("a=1", "b=2"), "f")
    assert main([*MINIMAL["evaluate"], "--threshold", "0.25", "--until", "2024-02-01"]) == 0
    assert (calls.options.threshold, calls.options.until) == (0.25, "2024-02-01")
    args = ["--model", "c", "--model", "d", "--out", "r.html", "--out", "r.md", "--png", "p"]
    args += ["--segment", "mcc", "--cards", "50", "--cost", "9:2", "--resamples", "99"]
    assert main([*MINIMAL["evaluate"], *args, "--seed", "5"]) == 0
    got = calls.options
    assert (got.models, got.out) == (("b", "c", "d"), ("r.html", "r.md"))
    assert (got.png, got.segments, got.cards, got.cost) == ("p", ("mcc",), 50, "9:2")
    assert (got.resamples, got.seed) == (99, 5)
    assert main([*MINIMAL["import_model"], "--trust", "--threshold", "0.3", "--name", "n"]) == 0
    assert (calls.options.trust, calls.options.threshold, calls.options.name) == (True, 0.3, "n")
    assert main([*MINIMAL["import_model"], "--decline", "0.8"]) == 0
    assert calls.options.decline == 0.8
    confirmed = ["--features", "a,b", "--positive", "-1", "--check", "c", "--check", "d"]
    assert main([*MINIMAL["import_model"], *confirmed]) == 0
    got = calls.options
    assert (got.features, got.positive, got.check) == ("a,b", "-1", ("c", "d"))


def test_options_of_models_reach_the_command(calls: Calls) -> None:
    assert main(["models", "list", "a", "b"]) == 0
    assert calls.options.directories == ("a", "b")
    args = ["--on", "a.csv", "--on", "b.csv", "--schema", "s.toml", "--history", "h.csv"]
    args += ["--from", "2024-01-01", "--until", "2024-02-01"]
    assert main([*MINIMAL["compare_models"], *args]) == 0
    got = calls.options
    assert (got.bundles, got.on, got.schema) == (("a", "b"), ("a.csv", "b.csv"), "s.toml")
    assert (got.history, got.since, got.until) == (("h.csv",), "2024-01-01", "2024-02-01")


def test_rules_check_options_reach_the_command(calls: Calls) -> None:
    args = ["--on", "b.csv", "--schema", "s.toml", "--model", "b", "--history", "h.csv"]
    assert main([*MINIMAL["check_rules"], *args, "--from", "2024-01-01"]) == 0
    got = calls.options
    assert (got.file, got.on, got.schema) == ("r.toml", ("a.csv", "b.csv"), "s.toml")
    assert (got.model, got.history, got.since) == ("b", ("h.csv",), "2024-01-01")


@pytest.mark.parametrize("command", MINIMAL)
def test_results_are_text_or_json_on_standard_output(
    calls: Calls, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(MINIMAL[command]) == 0
    assert capsys.readouterr().out == "3 rows in all\n"
    assert main([*MINIMAL[command], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 3}


def test_shared_options_stand_before_or_after_the_others(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--json", "--log-level", "error", "--out", "d"]) == 0
    assert main(["demo", "--out", "d", "--log-format", "json", "--json"]) == 0
    assert capsys.readouterr().out == '{"rows": 3}\n' * 2


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--vers"], "unknown option --vers; did you mean --version?"),
        (["trian"], "no such command 'trian'. Did you mean 'train', 'retrain'?"),
        (["train", "x", "--treshold=1"], "unknown option --treshold; did you mean --threshold?"),
        (["simulate", "--fraud_rate", "1"], "unknown option --fraud_rate; did you mean --fraud-"),
        (["simulate", "--zzz"], "unknown option --zzz; see beam-fraud simulate -"),
        (["simulate"], "give --out FILE or --kafka HOST:PORT --topic T"),
        (["train", "x", "--schema", "s", "--model", "m"], "missing option '--out'; see beam-fraud"),
        (["simulate", "--out"], "option '--out' requires an argument"),
        (["evaluate", "--model", "b"], "give FILE, or --from-labels --database URL"),
        (["simulate", "--out", "x", "--days", "x"], "--days x: must be a whole number; see beam-"),
        (["evaluate", "x", "--model", "m", "--threshold", "x"], "--threshold x: must be a number;"),
        (
            ["score", "x", "--model", "m", "--out", "o", "--threshold", "1"],
            "unknown option --threshold; see",
        ),
        (
            ["simulate", "--out", "x", "--days", "0"],
            "--days 0: must be at least 1; see beam-fraud simulate --help",
        ),
        (["demo", "--seed", "4294967296"], "--seed 4294967296: must be at most 4294967295; "),
        (["train", "x", "--split", "random"], "invalid value for '--split': 'random' is not one"),
        (["demo", "x"], "got unexpected extra argument"),
        (["models"], "missing command; see beam-fraud models --help"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    args: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"beam-fraud: {line}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "args", "name"),
    [
        ("score", ["--sink", ""], "--sink"),
        ("score", ["--schema="], "--schema"),
        ("score", ["--alert", "console:", "--alert", ""], "--alert"),
        ("score", ["--history", ""], "--history"),
        ("explore", ["--png", ""], "--png"),
        ("score", [""], "FILE"),
        ("train", ["--from", ""], "--from"),
        ("demo", ["--log-file", ""], "--log-file"),
    ],
)
def test_an_empty_value_is_a_wrong_call(
    calls: Calls, capsys: pytest.CaptureFixture[str], command: str, args: list[str], name: str
) -> None:
    assert main([*MINIMAL[command], *args]) == 2
    message = capsys.readouterr().err
    assert message == f"beam-fraud: {name}: the value is empty [BF102]\n"
    assert calls.options is None


@pytest.mark.parametrize(
    ("command", "args", "name"),
    [
        ("evaluate", ["--cost", "1:1", "--cost", "100:1"], "--cost"),
        ("evaluate", ["--cost=1:1", "--cost", "1:1"], "--cost"),
        ("score", ["--out", "p"], "--out"),
        ("score", ["--runner=FnApiRunner", "--runner", "PrismRunner"], "--runner"),
        ("score", ["--flink-master=a:1", "--flink_master", "b:1"], "--flink_master"),
        ("train", ["--model", "logistic"], "--model"),
        ("demo", ["--log-level", "info", "--log-level", "error"], "--log-level"),
        ("check_rules", ["--from", "2024-01-01", "--from", "2024-02-01"], "--from"),
    ],
)
def test_an_option_with_one_value_is_given_once(
    calls: Calls, capsys: pytest.CaptureFixture[str], command: str, args: list[str], name: str
) -> None:
    assert main([*MINIMAL[command], *args]) == 2
    message = capsys.readouterr().err
    assert message == f"beam-fraud: option {name} is given twice; give it once [BF105]\n"
    assert calls.options is None


def test_options_that_collect_values_may_be_repeated(calls: Calls) -> None:
    args = ["--alert", "console:", "--alert", "file:a", "--json", "--json"]
    args += ["--experiments", "one", "--experiments=two"]
    assert main([*MINIMAL["score"], *args]) == 0
    assert calls.options.alerts == ("console:", "file:a")
    assert calls.options.beam_args == ("--experiments=one", "--experiments=two")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FraudError("a.csv: no column A", Code.COLUMN_MISSING), 1, "a.csv: no column A [BF306]"),
        (UsageError("--sink x: no such", Code.URL_UNUSABLE), 2, "--sink x: no such [BF107]"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ZeroDivisionError("by zero\nand more"),
            1,
            "internal error: ZeroDivisionError: by zero; run again with --log-level debug for "
            "the traceback [BF001]",
        ),
        # Typer would end the program without a word for this one.
        (
            BrokenPipeError(32, "Broken pipe"),
            1,
            "Broken pipe; correct the address or start what should answer there, and run again "
            "[BF002]",
        ),
    ],
)
def test_a_failure_is_one_line(
    calls: Calls,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    calls.raises = error
    assert main(["demo"]) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"beam-fraud: {line}\n")


def test_the_traceback_of_a_bug_is_in_the_log_file_and_at_level_debug(
    calls: Calls, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls.raises = ZeroDivisionError("by zero")
    file = tmp_path / "run.log"
    assert main(["demo", "--log-file", str(file)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert "Traceback" in file.read_text()
    assert main(["demo", "--log-level", "debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_failure_is_a_json_line_with_json_messages(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.raises = FraudError("a.csv: no column Amount", Code.COLUMN_MISSING)
    assert main(["demo", "--log-format", "json"]) == 1
    entry = json.loads(capsys.readouterr().err)
    assert (entry["level"], entry["message"]) == ("error", "a.csv: no column Amount")
    assert entry["code"] == Code.COLUMN_MISSING


def test_a_closed_pipe_prints_nothing(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    out = str(tmp_path / "t.csv")
    size = ["--days", "1", "--accounts", "2", "--merchants", "2"]
    done = subprocess.run(
        [installed(), "simulate", "--out", out, *size, "--log-level", "error"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")
    assert Path(out).exists()
