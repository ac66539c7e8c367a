"""Write a new set of what this version persists: `python -m tests.persisted.make NAME`.

A part of a set is never made again under its name: it shows what an earlier version has written,
which later ones have to open. What every command was is in the set's `commands.txt`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import lzma
import os
import platform
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from beam_fraud import cli
from beam_fraud.models.bundle import load_model, open_bundle
from beam_fraud.models.kinds import KINDS, ModelKind, model_kind
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.resampling import RESAMPLERS
from beam_fraud.schema.stages import LABEL
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.sinks.labels import write_labels
from tests.one_thread import one_thread
from tests.persisted.savepoint import long_directory, make_savepoint
from tests.serve.conftest import record_of
from tests.serving import Client, Serve

HERE = Path(__file__).parent
#: Settings that decide how large a model is, and how small they are made.
SMALLEST = {"trees": 3, "epochs": 2, "units": 4, "batch": 256}
#: An ensemble of every kind that can be a member and is none of the default ones.
MEMBERS = "average:logistic+extra_trees+xgboost+lightgbm+mlp+keras"
#: Rows whose scores are kept of each bundle.
KEPT_ROWS = 200
SCHEMA = """
name = "persisted"
calendar = false

[roles]
event_time = "t"
amount = "a"
label = "fraud"

[[feature]]
column = "noise"
missing = "allow"
"""
CATEGORY = """
[[feature]]
column = "mcc"
kind = "categorical"
missing = "allow"
"""
IN_CURRENCIES = """
name = "currencies"

[roles]
transaction_id = "TRANSACTION_ID"
event_time = "TX_DATETIME"
account_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
amount = "TX_AMOUNT"
label = "TX_FRAUD"
currency = "currency"

[[velocity]]
key = "account_id"
windows = ["1d", "7d"]
aggregates = ["count", "mean", "std", "max", "distinct_merchant"]
"""
CONVERSION = """
[currency]
to = "EUR"
rates = "rates.csv"
"""
RATES = """date,currency,rate
2020-01-01,JPY,0.0062
2024-01-05,JPY,0.0063
2020-01-01T12:00:00,USD,0.92
"""
RULES = """
[[rule]]
name = "busy"
when = "account_count_1d > 3"
decision = "review"
"""


def settings(kind: ModelKind, part: str = "") -> list[str]:
    """Return `--set` options that make a kind and its parts as small as possible."""
    small = [f"{part}{f.name}={SMALLEST[f.name]}" for f in fields(kind) if f.name in SMALLEST]
    inner = [line for name, each in kind.parts.items() for line in settings(each, f"{part}{name}.")]
    return small + inner


def trained() -> dict[str, tuple[str, ...]]:
    """Return the options of `train` of every bundle by name."""
    calls = {name: ("--model", name, *_set(settings(kind))) for name, kind in KINDS.items()}
    forest = calls["forest"]
    calls |= {f"forest-{way}": (*forest, "--calibrate", way) for way in ("isotonic", "platt")}
    calls["forest-weighted"] = (*forest, "--class-weight", "balanced")
    calls["members"] = ("--model", MEMBERS, *_set(settings(model_kind(MEMBERS))))
    calls["members-weighted"] = (*calls["members"], "--class-weight", "balanced")
    calls = {name: ("--schema", "schema.toml", *options) for name, options in calls.items()}
    # Not every resampler takes categories. Members keep how their rows are resampled.
    average = ("--model", "average:forest+logistic", "--set", "forest.trees=3")
    for name in RESAMPLERS:
        for kind, options in (("forest", forest), ("average", average)):
            resampled = ("--schema", "numeric.toml", *options, "--resample", name)
            calls[f"{kind}-{name}"] = resampled
    return calls


def _set(lines: list[str]) -> list[str]:
    return [part for line in lines for part in ("--set", line)]


class Commands:
    """Runs commands of `beam-fraud` in the working directory and records them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def run(self, *args: str) -> None:
        """Run a command and drop its output."""
        self.lines.append(f"beam-fraud {shlex.join(args)}")
        with contextlib.redirect_stdout(io.StringIO()):
            code = cli.main(list(args))
        if code:
            raise SystemExit(f"{self.lines[-1]}: exit code {code}")


def rows(count: int = 800) -> pa.Table:
    """Most large amounts are frauds, those of category b earlier; one value in twenty is absent."""
    random = np.random.default_rng(0)
    noise, mcc = random.normal(size=count), random.integers(0, 4, size=count)
    amount = random.lognormal(3, 1, size=count).round(2)
    fraud = (amount > np.where(mcc == 1, 60, 100)) & (random.random(count) < 0.9)
    start = 1_700_000_000
    return pa.table(
        {
            "t": pa.array(np.arange(start, start + 600 * count, 600)),
            "a": amount,
            "noise": pa.array(noise, mask=random.random(count) < 0.05),
            "mcc": pa.array(np.array(list("abcd"))[mcc], mask=random.random(count) < 0.05),
            "fraud": fraud.astype(np.int64),
        }
    )


def make_bundles(commands: Commands) -> None:
    """Write `bundles/NAME` with the matching `matrix.npy` and `scores/NAME.npy`."""
    pq.write_table(rows(), "rows.parquet")
    Path("schema.toml").write_text(SCHEMA + CATEGORY)
    Path("numeric.toml").write_text(SCHEMA)
    for name, options in trained().items():
        commands.run("train", "rows.parquet", *options, "--out", f"bundles/{name}")
    table = rows().to_pandas()
    pipeline = make_pipeline(SimpleImputer(), LogisticRegression())
    joblib.dump(pipeline.fit(table[["noise", "a"]], table["fraud"]), "foreign.joblib")
    imported = ("--schema", "numeric.toml", "--trust", "--out", "bundles/imported")
    commands.run("models", "import", "foreign.joblib", *imported)
    _write_scores()
    commands.run("models", "export", "bundles/forest", "--onnx", "forest.onnx")


def _write_scores() -> None:
    Path("scores").mkdir()
    random = np.random.default_rng(1)
    matrix = np.column_stack(
        [
            random.normal(size=KEPT_ROWS),
            random.integers(0, 5, size=KEPT_ROWS),
            random.lognormal(3, 1, size=KEPT_ROWS),
        ]
    )
    matrix[random.random(matrix.shape) < 0.05] = np.nan
    np.save("matrix.npy", matrix)
    for path in sorted(Path("bundles").iterdir()):
        bundle = open_bundle(str(path))
        order = [("noise", "mcc", "amount").index(name) for name in bundle.manifest.features]
        np.save(f"scores/{path.name}.npy", predict_scores(load_model(bundle), matrix[:, order]))


def make_imported(commands: Commands) -> None:
    """Write `bundles/NAME` of models of other programs, with `matrix.npy` and `scores/NAME.npy`."""
    table = rows().to_pandas()
    pq.write_table(rows(), "rows.parquet")
    Path("schema.toml").write_text(SCHEMA + CATEGORY)
    Path("numeric.toml").write_text(SCHEMA)
    labels = np.where(table["fraud"] == 1, "bad", "good")
    numbers, columns = table[["noise", "a"]], table[["noise", "mcc", "a"]]
    texts = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), ["mcc"])], remainder=SimpleImputer()
    )
    plain = make_pipeline(SimpleImputer(), LogisticRegression())
    joblib.dump(plain.fit(numbers, labels), "labels-imported.joblib")
    margin = make_pipeline(SimpleImputer(), LinearSVC())
    joblib.dump(margin.fit(numbers, table["fraud"]), "margin-imported.joblib")
    framed = make_pipeline(texts, LogisticRegression()).fit(columns, table["fraud"])
    joblib.dump(framed, "frame-imported.joblib")
    categories = columns.assign(mcc=columns["mcc"].astype("category"))
    boosted = LGBMClassifier(n_estimators=3, verbose=-1).fit(categories, table["fraud"])
    boosted.booster_.save_model("lightgbm-booster.txt")
    tree = DecisionTreeClassifier(max_depth=3).fit(numbers.fillna(0), table["fraud"])
    graph = to_onnx(tree, numbers.fillna(0).to_numpy(np.float32)[:1])
    Path("graph.onnx").write_bytes(graph.SerializeToString())
    calls = {
        "labels-imported.joblib": ("numeric.toml", "--trust", "--positive", "bad"),
        "margin-imported.joblib": ("numeric.toml", "--trust"),
        "frame-imported.joblib": ("schema.toml", "--trust"),
        "lightgbm-booster.txt": ("schema.toml", "--positive", "1"),
        "graph.onnx": ("numeric.toml", "--features", "noise,a"),
    }
    for file, options in calls.items():
        out = ("--out", f"bundles/{Path(file).stem}")
        commands.run("models", "import", file, "--schema", *options, *out)
    _write_scores()


def make_stream(commands: Commands) -> None:
    """Write a stream that stopped after half of its files, and its output after all of them."""
    table = simulate(Simulation(days=20, accounts=30, merchants=30, seed=3, fraud_rate=0.05))
    before, after = table.slice(0, 600), table.slice(600, 400)
    pq.write_table(before, "history.parquet")
    Path("rules.toml").write_text(RULES)
    small = ("--set", "trees=3", "--threshold", "0", "--name", "stream")
    options = ("--schema", "handbook", "--model", "forest", *small, "--out", "model")
    commands.run("train", "history.parquet", *options)
    for directory in ("inbox", "later"):
        Path(directory).mkdir()
    # Each file repeats some rows of the one before, and one row of each is none.
    pq.write_table(after.slice(0, 120), "inbox/a.parquet")
    _write_csv(after.slice(100, 120), Path("inbox/b.csv"))
    _write_csv(after.slice(190, 110), Path("later/c.csv"))
    pq.write_table(after.slice(280, 120), "later/d.parquet")
    _stream(commands, "inbox", "out", "flagged.db", "alerts.jsonl")
    _label()
    snoozed = ("--account", "nobody", "--for", "30d", "--sink", "sqlite:///flagged.db")
    commands.run("alerts", "snooze", *snoozed)
    shutil.copytree("inbox", "all")
    shutil.copytree("later", "all", dirs_exist_ok=True)
    _stream(commands, "all", "whole", "whole.db", "whole.jsonl")
    for name in ("scores", "dead_letters"):
        by = [(column, "ascending") for column in ("transaction_id", "source", "position")]
        result = pq.read_table(f"whole/{name}")
        result = result.sort_by([key for key in by if key[0] in result.column_names])
        pq.write_table(result, f"expected-{name}.parquet", compression="none")
    shutil.copy("whole.db", "expected.db")
    for path in ("all", "whole"):
        shutil.rmtree(path)
    for left in Path().glob("whole*"):
        left.unlink()


def _write_csv(table: pa.Table, path: Path) -> None:
    frame = table.to_pandas()
    path.write_text(frame.to_csv(index=False) + "broken,yesterday,,,\n")


def _stream(commands: Commands, watched: str, out: str, database: str, alerts: str) -> None:
    places = ("--out", out, "--sink", f"sqlite:///{database}", "--alert", f"file:{alerts}")
    more = ("--history", "history.parquet", "--rules", "rules.toml", "--rule-limit", "1")
    more += ("--reasons", "10", "--lateness", "1d", "--until-idle", "0.5")
    commands.run("stream", "--model", "model", "--watch", watched, *places, *more)


def _label() -> None:
    """Return two labels in the form of a topic of labels."""
    scored = pq.read_table("out/scores").sort_by("transaction_id").slice(0, 2)
    at = datetime(2024, 2, 1, tzinfo=UTC)
    labelled = [
        {**row, "label": label, "labelled_at": at, "labelled_by": "analyst"}
        for label, row in enumerate(scored.select(_LABELLED).to_pylist())
    ]
    write_labels("sqlite:///flagged.db", pa.RecordBatch.from_pylist(labelled, LABEL))


_LABELLED = ["transaction_id", "account_id", "merchant_id", "event_time"]


def make_batch(commands: Commands) -> None:
    """Write the results of `score` and `features` over one file, with a bundle."""
    table = simulate(Simulation(days=20, accounts=30, merchants=30, seed=4, fraud_rate=0.05))
    pq.write_table(table.slice(0, 600), "train.parquet")
    _write_csv(table.slice(600, 200), Path("day.csv"))
    small = ("--set", "trees=3", "--threshold", "0.3", "--name", "batch")
    options = ("--schema", "handbook", "--model", "forest", *small, "--out", "model")
    commands.run("train", "train.parquet", *options)
    places = ("--out", "scored", "--sink", "parquet:flagged", "--alert", "file:alerts.jsonl")
    history = ("--history", "train.parquet")
    commands.run("score", "day.csv", "--model", "model", *places, *history)
    commands.run("features", "day.csv", "--schema", "handbook", "--out", "features", *history)


def make_flink(commands: Commands) -> None:
    """Write a savepoint of a stream on a Flink cluster; `savepoint.py` has the calls."""
    # What is under the directory with the long path is packed without it.
    root = long_directory(Path.cwd())
    table = simulate(Simulation(days=20, accounts=20, merchants=20, seed=5, fraud_rate=0.05))
    pq.write_table(table.slice(0, 300), "train.parquet")
    small = ("--set", "trees=3", "--threshold", "0", "--name", "flink")
    options = ("--schema", "handbook", "--model", "forest", *small, "--out", "model")
    commands.run("train", "train.parquet", *options)
    Path("model").rename(root / "model")
    make_savepoint(root)
    commands.lines.append("and the streams of make_savepoint in tests/persisted/savepoint.py")
    for path in root.iterdir():
        path.rename(path.name)
    root.rmdir()


def make_currencies(commands: Commands) -> None:
    """Write a stopped stream of amounts by currency, and a bundle that converts amounts."""
    table = simulate(Simulation(days=20, accounts=20, merchants=20, seed=6, fraud_rate=0.05))
    codes = np.array(["EUR", "JPY", "USD"])[np.arange(len(table)) % 3]
    table = table.append_column("currency", pa.array(codes))
    pq.write_table(table.slice(0, 300), "history.parquet")
    Path("rates.csv").write_text(RATES)
    small = ("--model", "forest", "--set", "trees=3", "--threshold", "0", "--name")
    for name, setting in (("separate", ""), ("converted", CONVERSION)):
        Path(f"{name}.toml").write_text(IN_CURRENCIES + setting)
        options = ("--schema", f"{name}.toml", *small, name, "--out", name)
        commands.run("train", "history.parquet", *options)
    for path in ("rates.csv", "separate.toml", "converted.toml"):
        Path(path).unlink()
    for directory in ("inbox", "later", "all"):
        Path(directory).mkdir()
    for path, first in (("inbox/a.parquet", 300), ("later/b.parquet", 400)):
        pq.write_table(table.slice(first, 100), path)
        shutil.copy(path, "all")
    history = ("--history", "history.parquet")
    for watched, out in (("inbox", "out"), ("all", "whole")):
        places = ("--watch", watched, "--out", out)
        commands.run("stream", "--model", "separate", *places, *history, "--until-idle", "0.5")
    commands.run("score", "all", "--model", "converted", *history, "--out", "batch")
    for name, out in (("separate", "whole"), ("converted", "batch")):
        result = pq.read_table(f"{out}/scores").sort_by("transaction_id")
        pq.write_table(result, f"expected-{name}.parquet", compression="none")
        shutil.rmtree(out)


def make_monitor(commands: Commands) -> None:
    """Write a stream with `--monitor` that stopped after half of its files, and such a server."""
    table = simulate(Simulation(days=20, accounts=30, merchants=30, seed=7, fraud_rate=0.05))
    pq.write_table(table.slice(0, 600), "history.parquet")
    small = ("--set", "trees=3", "--threshold", "0.3", "--name", "monitored")
    options = ("--schema", "handbook", "--model", "forest", *small, "--out", "model")
    commands.run("train", "history.parquet", *options)
    for directory in ("inbox", "later"):
        Path(directory).mkdir()
    _write_csv(table.slice(600, 150), Path("inbox/a.csv"))
    _write_csv(table.slice(750, 150), Path("later/b.csv"))
    monitored = ("--history", "history.parquet", "--monitor", "--keep-features")
    places = ("--watch", "inbox", "--out", "out", "--until-idle", "0.5")
    commands.run("stream", "--model", "model", *places, *monitored)
    with Serve(Path("model"), Path("state"), *monitored) as server:
        records = table.slice(600, 100).to_pylist()
        with Client(server.port) as client:
            body = b",".join(map(record_of, records))
            status, answer, _ = client.post(b"[" + body + b",{}]")
            assert status == 200, answer
        server.stop()
    commands.lines.append(f"beam-fraud serve --model model --state state {shlex.join(monitored)}")


MAKERS: dict[str, Callable[[Commands], None]] = {
    "bundles": make_bundles,
    "imported": make_imported,
    "stream": make_stream,
    "batch": make_batch,
    "flink": make_flink,
    "currencies": make_currencies,
    "monitor": make_monitor,
}


@contextlib.contextmanager
def _inside(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def _pack(directory: Path, target: Path) -> None:
    """Pack a directory into one archive, byte for byte reproducible."""
    with (
        lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(directory.rglob("*")):
            info = archive.gettarinfo(path, str(path.relative_to(directory)))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isfile():
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)


def packed(directory: Path, part: str) -> Path:
    """Return the file of a part of a set."""
    return directory / f"{part}.tar.xz"


def main() -> None:
    """Make all parts of a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the set, such as 0.2.0; parts that it has are left")
    target = HERE / parser.parse_args().name
    target.mkdir(exist_ok=True)
    absent = {part: make for part, make in MAKERS.items() if not packed(target, part).exists()}
    names = ("beam-fraud", "apache-beam", "scikit-learn", "numpy", "joblib", "pyarrow")
    created = [
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in names),
    ]
    text = [f"Made with {', '.join(created)}, by python -m tests.persisted.make {target.name}"]
    for part, make in absent.items():
        commands = Commands()
        with tempfile.TemporaryDirectory() as scratch, _inside(Path(scratch)), one_thread():
            make(commands)
            _pack(Path(scratch), packed(target, part))
        text += ["", f"{part}.tar.xz, in a directory of its own:", *commands.lines]
    with (target / "commands.txt").open("a") as file:
        file.write("\n".join([*text, ""]) + "\n")


if __name__ == "__main__":
    main()
