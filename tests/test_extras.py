"""The message for a missing extra comes before any input is read and names the running Python."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.errors import EXTRAS, install
from tests.cli.test_commands_train import SCHEMA, table

#: What the extras bring, for models and for places.
OPTIONAL = {*EXTRAS, "confluent_kafka", "psycopg", "boto3", "azure"}
#: Nothing is there: whoever looks at it before the extra says so.
ABSENT = "absent.parquet"
IMPORT = f"--schema shop.toml --out b --check {ABSENT}"
TRAIN = f"train {ABSENT} --schema shop.toml"
CHECK = f"rules check rules.toml --on {ABSENT} --schema shop.toml"


class Hidden:
    """An import system without optional packages."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.split(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the bundles `xgboost` and `forest`, and data for both."""
    place = tmp_path_factory.mktemp("bundles")
    rows = table(400)
    fraud = np.arange(400) % 10 == 0
    rows = rows.set_column(rows.column_names.index("fraud"), "fraud", pa.array(fraud.astype(int)))
    pq.write_table(rows, place / "data.parquet")
    (place / "shop.toml").write_text(SCHEMA)
    (place / "rules.toml").write_text(
        '[[rule]]\nname = "high"\nwhen = "score > 0.5"\ndecision = "review"\n'
    )
    begins = {"cbm": b"CBM1", "txt": b"tree\n", "json": b'{"learner": {}}', "onnx": b"\x08\x07"}
    for ending, data in begins.items():
        (place / f"m.{ending}").write_bytes(data)
    with zipfile.ZipFile(place / "m.skops", "w") as archive:
        archive.writestr("schema.json", '{"_skops_version": "0.11"}')
    (place / "inbox").mkdir()
    for kind in ("xgboost", "forest"):
        options = TrainOptions(
            files=(str(place / "data.parquet"),),
            schema=str(place / "shop.toml"),
            model=kind,
            out=str(place / kind),
            settings=("trees=3",),
        )
        train.run(options)
    return place


def run_without_extras(
    *call: str, directory: Path, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command after `first` in a new process: this one has imported the libraries."""
    code = (
        "import sys; from tests.test_extras import Hidden; sys.meta_path.insert(0, Hidden()); "
        f"{first}from beam_fraud.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    root = str(Path(__file__).resolve().parents[1])
    return subprocess.run(
        [sys.executable, "-c", code, *call],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_needs_no_extra(tmp_path: Path) -> None:
    # `test_shell.py` runs it with all its rows.
    few = "from beam_fraud.cli.commands import demo; demo._DAYS, demo._DAYS_SCORED = 24, 4; "
    done = run_without_extras("demo", directory=tmp_path, first=few)
    assert done.returncode == 0, done.stderr
    assert "Try next" in done.stdout


def test_every_command_starts_without_extras() -> None:
    code = (
        "import sys; from importlib import import_module; from beam_fraud.cli.app import COMMANDS; "
        "from tests.test_extras import Hidden; sys.meta_path.insert(0, Hidden()); "
        "[import_module(f'beam_fraud.cli.commands.{module.partition(\":\")[0]}') "
        "for _, module in COMMANDS.values()]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def _without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] in OPTIONAL:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])


@pytest.mark.usefixtures("_without_extras")
@pytest.mark.parametrize(
    ("call", "extra"),
    [
        (f"{TRAIN} --model xgboost --out b", "boosting"),
        (f"{TRAIN} --model lightgbm --out b", "boosting"),
        (f"{TRAIN} --model keras --out b", "keras"),
        (f"{TRAIN} --model average:forest+xgboost --out b", "boosting"),
        (f"{TRAIN} --model forest --resample smote --out b", "resampling"),
        (f"{TRAIN} --model forest --resample compare --out b", "resampling"),
        (f"{TRAIN} --model forest --tune 2 --out b", "tuning"),
        (f"{TRAIN} --model forest --out s3://bucket/b", "aws"),
        ("evaluate absent.parquet --model xgboost", "boosting"),
        ("evaluate absent.parquet --model forest --model xgboost", "boosting"),
        ("models compare forest xgboost --on absent.parquet", "boosting"),
        ("models export forest --onnx m.onnx", "onnx"),
        ("models export forest --mlflow m", "mlflow"),
        ("models export forest --mlflow http://localhost:1 --name m", "mlflow"),
        ("score absent.parquet --model xgboost --out o", "boosting"),
        ("score absent.parquet --model xgboost --out o --dry-run", "boosting"),
        ("score data.parquet --model forest --out o --sink postgresql://u@localhost/d", "postgres"),
        ("score data.parquet --model forest --out s3://bucket/o", "aws"),
        ("score azfs://account/box/x.csv --model forest --out o", "azure"),
        ("serve --model forest --state s --history absent.parquet", "serve"),
        ("stream --watch inbox --model xgboost --out o --until-idle 1", "boosting"),
        (f"{CHECK} --model xgboost", "boosting"),
        (f"models import m.cbm {IMPORT}", "catboost"),
        (f"models import m.txt {IMPORT}", "boosting"),
        (f"models import m.json {IMPORT}", "boosting"),
        (f"models import m.onnx {IMPORT}", "onnx"),
        (f"models import m.skops {IMPORT}", "skops"),
        (f"models import models:/m/1 {IMPORT}", "mlflow"),
        (f"models import runs:/m/model {IMPORT}", "mlflow"),
    ],
)
def test_a_missing_extra_is_reported_before_anything_is_read(
    call: str,
    extra: str,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(bundles)
    assert main(call.split()) in (1, 2)
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith(f"{install(extra)} [BF110]")
    assert ABSENT not in message


@pytest.mark.parametrize(
    "call",
    [
        "score data.parquet --model forest --out o --alert kafka://localhost:1/t",
        "stream --kafka localhost:1 --topic t --model forest --out o",
        "simulate --kafka localhost:1 --topic t",
    ],
)
def test_a_missing_kafka_client_is_reported_first(call: str, bundles: Path) -> None:
    done = run_without_extras(*call.split(), directory=bundles)
    assert done.returncode in (1, 2)
    assert done.stderr.splitlines()[-1].endswith(f"{install('kafka')} [BF110]")


def test_the_install_command_is_for_the_running_python() -> None:
    program, *arguments = shlex.split(install("kafka"))
    assert program == sys.executable
    assert arguments == ["-m", "pip", "install", "beam-fraud[kafka]"]


@pytest.mark.usefixtures("_without_extras")
def test_bundles_are_shown_without_the_packages_of_their_models(
    bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "show", str(bundles / "xgboost")]) == 0
    assert main(["models", "list", str(bundles)]) == 0
    assert main(["models", "compare", str(bundles / "xgboost"), str(bundles / "forest")]) == 0
    assert "xgboost" in capsys.readouterr().out
