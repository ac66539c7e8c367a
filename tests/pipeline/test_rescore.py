"""`rescore`: partitions of an archive, equal to one `score` over everything."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from beam_fraud.cli.commands import rescore, score
from beam_fraud.cli.options import RescoreOptions, ScoreOptions
from beam_fraud.decisions.rules.toml import read_rule_files
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import Bundle
from beam_fraud.pipeline.frames.learning import train
from beam_fraud.pipeline.frames.scoring import score as score_in_memory
from beam_fraud.schema.stages import SCORED
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from tests.earlier import make_earlier
from tests.failing import fails
from tests.shop import SHOP
from tests.stream_process import wait_until

DAYS, START = 10, np.datetime64("2024-01-01T00:00:00", "us")
#: Windows reach back three days.
SCHEMA = f"""{SHOP}
[[velocity]]
key = "account_id"
windows = ["1d", "2d"]
aggregates = ["count", "mean", "std", "seconds_since_last"]
[[velocity]]
key = "merchant_id"
windows = ["1d"]
aggregates = ["count", "risk"]
delay = "1d"
"""
SMALL = {"trees": 10}
RULES = '[[rule]]\nname = "busy"\nwhen = "account_count_1d > 6"\ndecision = "decline"\n'


def transactions(seed: int = 0, rows: int = 3_000) -> pa.Table:
    """Rows in time order, some at the same moment, of ten days."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(DAYS * 86_400, size=rows))
    seconds[1::7] = seconds[::7][: len(seconds[1::7])]
    price = random.lognormal(3, 1, rows).round(2)
    fraud = (random.random(rows) < 0.03) | (price > 150)
    return pa.table(
        {
            "id": [f"x{row}" for row in range(rows)],
            "t": pa.array(START + np.sort(seconds).astype("timedelta64[s]")),
            "card": [f"c{n}" for n in random.integers(60, size=rows)],
            "shop": [f"s{n}" for n in random.integers(20, size=rows)],
            "price": price,
            "fraud": fraud.astype(np.int8),
        }
    )


def lay_out(table: pa.Table, directory: Path, hours: int = 0, form: str = "parquet") -> Path:
    """Write an archive of days; of a time zone `hours` east of Greenwich."""
    days = pc.strftime(pc.add(table["t"], pa.scalar(timedelta(hours=hours))), "%Y-%m-%d")
    for day in pc.unique(days).to_pylist():
        place = directory / f"date={day}"
        place.mkdir(parents=True)
        rows = table.filter(pc.equal(days, day))
        if form == "csv":
            pyarrow.csv.write_csv(rows, place / "part-0.csv")
        else:
            pq.write_table(rows, place / "part-0.parquet")
    return directory


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an archive `days`, and two models `new` and `old`."""
    home = tmp_path_factory.mktemp("rescore")
    (home / "shop.toml").write_text(SCHEMA)
    (home / "plain.toml").write_text(SCHEMA[: SCHEMA.index("[[velocity]]")])
    (home / "rules.toml").write_text(RULES)
    table = transactions()
    lay_out(table, home / "days")
    for name, schema in (("new", "shop"), ("old", "shop"), ("plain", "plain")):
        bundle: Bundle = train(
            table, schema=home / f"{schema}.toml", settings=SMALL, seed=len(name), name=name
        )
        bundle.save(home / name)
    return home


@pytest.fixture
def options(home: Path, tmp_path: Path) -> RescoreOptions:
    return RescoreOptions(
        files=(str(home / "days"),), model=str(home / "new"), out=str(tmp_path / "out")
    )


def rows_of(out: str | Path, side: str = "new") -> pa.Table:
    """Return the rows of a side in all partitions, by id."""
    files = sorted(Path(out).glob(f"partitions/*/scores/part-{side}.parquet"))
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    return table.select(SCORED.names).sort_by("transaction_id").combine_chunks()


def reference(files: Sequence[str] | pa.Table, model: str, **given: Any) -> pa.Table:
    """Return the rows of one `score` over everything."""
    scores: Any = score_in_memory(files, model, **given)
    table = getattr(scores, "rows", scores)
    return table.sort_by("transaction_id").combine_chunks()


def partitions_of(out: str) -> dict[str, bytes]:
    """Return every file below the partitions."""
    root = Path(out) / "partitions"
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*.parquet")}


def scored(summary: dict[str, Any]) -> int:
    number: int = summary["partitions"]["scored"]
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_partitions_hold_the_rows_of_one_score_over_everything(
    options: RescoreOptions, tmp_path: Path, workers: int
) -> None:
    summary: Any = rescore.run(replace(options, workers=workers))
    assert (summary["rows_in"], summary["rows_scored"], scored(summary)) == (3_000, 3_000, DAYS)
    if workers == 1:
        out = str(tmp_path / "scored")
        score.run(ScoreOptions(files=options.files, model=options.model, out=out))
        expected = pq.read_table(f"{out}/scores").sort_by("transaction_id").combine_chunks()
    else:
        expected = reference(options.files, options.model)
    assert rows_of(options.out).equals(expected)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    names = sorted(path.name for path in (tmp_path / "out/partitions").iterdir())
    assert [one["name"] for one in manifest["partitions"]] == names
    assert sum(one["rows_in"] for one in manifest["partitions"]) == 3_000
    # A further run does nothing.
    before = partitions_of(options.out)
    assert scored(rescore.run(options)) == 0
    assert partitions_of(options.out) == before


def test_a_later_run_goes_on_where_an_earlier_one_ended(options: RescoreOptions) -> None:
    assert scored(rescore.run(replace(options, until="2024-01-05"))) == 4
    assert scored(rescore.run(options)) == DAYS - 4
    assert rows_of(options.out).equals(reference(options.files, options.model))


def test_partitions_of_an_earlier_version_are_compared_with_later_ones(
    options: RescoreOptions, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    options = replace(options, rules=str(tmp_path / "rules.toml"), against=(str(home / "old"),))
    whole: Any = rescore.run(options)
    apart = replace(options, out=str(tmp_path / "apart"))
    rescore.run(replace(apart, until="2024-01-05"))
    assert make_earlier(tmp_path / "apart/partitions") == 8
    summary: Any = rescore.run(apart)
    assert scored(summary) == DAYS - 4
    assert summary["comparison"]["sentence"] == whole["comparison"]["sentence"]
    ids = {row["rules_id"] for row in rows_of(options.out).to_pylist()}
    assert ids == {read_rule_files(str(options.rules)).id}


def test_partitions_of_another_length_are_refused(options: RescoreOptions) -> None:
    """Each row would be there twice."""
    rescore.run(options)
    before = partitions_of(options.out)
    with fails(Code.OUTPUT_OCCUPIED, options.out, UsageError):
        rescore.run(replace(options, partition="month"))
    assert partitions_of(options.out) == before
    some = replace(options, until="2024-01-05")
    assert scored(rescore.run(some)) == 0


def test_a_model_is_not_overwritten(options: RescoreOptions, tmp_path: Path) -> None:
    """Its manifest has the name of that of the outputs."""
    model = shutil.copytree(options.model, tmp_path / "model")
    before = (model / "manifest.json").read_bytes()
    with fails(Code.OUTPUT_OCCUPIED, "manifest.json"):
        rescore.run(replace(options, out=str(model)))
    assert (model / "manifest.json").read_bytes() == before


def test_a_dry_run_tells_what_would_be_done(options: RescoreOptions) -> None:
    planned: Any = rescore.run(replace(options, dry_run=True))
    assert not Path(options.out).exists()
    assert (planned["partitions"]["all"], planned["rows"]) == (DAYS, 3_000)
    assert planned["seconds"] > 0
    rescore.run(replace(options, until="2024-01-08"))
    planned = rescore.run(replace(options, dry_run=True))
    days = ["date=2024-01-08", "date=2024-01-09", "date=2024-01-10"]
    assert planned["partitions"]["pending"] == days
    assert planned["partitions"]["windows_only"] in (2, 3)
    assert "about" in rescore.render(planned)


def test_a_changed_partition_repeats_those_in_reach_of_its_rows(
    options: RescoreOptions, home: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(home / "days", archive)
    options = replace(options, files=(str(archive),))
    rescore.run(options)
    changed = archive / "date=2024-01-04/part-0.parquet"
    pq.write_table(pq.ParquetFile(changed).read().slice(5), changed)
    # Its own, and the two or three days whose windows hold its rows.
    assert scored(rescore.run(options)) in (3, 4)
    assert rows_of(options.out).equals(reference(options.files, options.model))
    # Size and time alone: what only was touched is read again, and is the same.
    os.utime(changed)
    assert scored(rescore.run(options)) == 0
    os.utime(changed, (1, 1))
    assert scored(rescore.run(replace(options, trust_mtime=True))) in (3, 4)


def test_a_damaged_file_costs_its_partition_alone_until_it_is_repaired(
    options: RescoreOptions, home: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(home / "days", archive)
    options = replace(options, files=(str(archive),))
    file = archive / "date=2024-01-04/part-0.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-200] + bytes(200))
    for _ in range(2):
        # The second run tries it again, and leaves all others as they are.
        with fails(Code.PARTITIONS_FAILED, "date=2024-01-04: .*part-0.parquet"):
            rescore.run(options)
        summary = json.loads((tmp_path / "out/summary.json").read_text())
        assert summary["partitions"]["failed"] == ["date=2024-01-04"]
        assert summary["partitions"]["done"] == DAYS - 1
    assert summary["partitions"]["scored"] == 0
    file.write_bytes(whole)
    # Without a footer, its times were those of its directory, and a day more.
    assert scored(rescore.run(options)) in (3, 4, 5)
    assert rows_of(options.out).equals(reference(options.files, options.model))


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("hours", [5, -40])
def test_rows_outside_of_their_directory_take_their_turn(
    options: RescoreOptions, tmp_path: Path, hours: int, form: str
) -> None:
    archive = lay_out(transactions(1, 1_500), tmp_path / "archive", hours, form)
    options = replace(options, files=(str(archive),), workers=2)
    rescore.run(options)
    assert rows_of(options.out).equals(reference(options.files, options.model))
    assert scored(rescore.run(options)) == 0
    # Rows that are missing now are missing in all windows that held them.
    changed = next(archive.glob(f"date=2024-01-06/part-0.{form}"))
    if form == "csv":
        changed.write_text("".join(changed.read_text().splitlines(keepends=True)[:-40]))
    else:
        pq.write_table(pq.ParquetFile(changed).read().slice(40), changed)
    assert 0 < scored(rescore.run(options)) < DAYS
    assert rows_of(options.out).equals(reference(options.files, options.model))


@pytest.mark.parametrize("cut", [False, True])
def test_every_row_is_scored_dead_or_a_repeat(
    options: RescoreOptions, tmp_path: Path, cut: bool
) -> None:
    archive = lay_out(transactions(2, 1_000), tmp_path / "archive", form="csv")
    for file in archive.glob("*/*.csv"):
        lines = file.read_text().splitlines(keepends=True)
        broken = lines[1].replace('"x', '"y').rpartition(",")[0].rpartition(",")[0] + ",much,0\n"
        file.write_text("".join([*lines, broken, lines[5], "nothing\n"]))
    if cut:
        files = sorted(archive.glob("*/*.csv"))
        rows = [line for file in files for line in file.read_text().splitlines(keepends=True)[1:]]
        (tmp_path / "all.csv").write_text(lines[0] + "".join(rows))
        archive = tmp_path / "all.csv"
    options = replace(options, files=(str(archive),))
    summary: Any = rescore.run(options)
    assert summary["rows_in"] == 1_000 + 3 * DAYS
    assert (summary["rows_dead"], summary["rows_duplicate"]) == (2 * DAYS, DAYS)
    assert summary["rows_scored"] == 1_000
    expected = reference(options.files, options.model, on_invalid="keep")
    assert rows_of(options.out).equals(expected)


def test_one_file_is_cut_by_event_time(options: RescoreOptions, tmp_path: Path) -> None:
    pq.write_table(transactions(), tmp_path / "all.parquet")
    options = replace(options, files=(str(tmp_path / "all.parquet"),))
    summary = rescore.run(options)
    assert scored(summary) == DAYS
    assert rows_of(options.out).equals(reference(options.files, options.model))
    assert scored(rescore.run(options)) == 0


def test_ids_are_found_again_in_other_partitions_and_runs(
    options: RescoreOptions, tmp_path: Path
) -> None:
    table = transactions()
    repeated = pa.concat_tables([table, table.slice(100, 50).set_column(1, "t", table["t"][-50:])])
    archive = lay_out(repeated, tmp_path / "archive")
    options = replace(options, files=(str(archive),), dedupe="run")
    rescore.run(replace(options, until="2024-01-06"))
    summary = rescore.run(options)
    assert summary["rows_duplicate"] == 50
    assert rows_of(options.out).equals(reference(table, options.model))


def test_a_period_scores_its_rows_with_full_windows(options: RescoreOptions, home: Path) -> None:
    options = replace(options, since="2024-01-05T12:00", until="2024-01-07")
    summary = rescore.run(options)
    expected = reference(options.files, options.model)
    times = expected["event_time"]
    inside = pc.and_(
        pc.greater_equal(times, pa.scalar(datetime(2024, 1, 5, 12, tzinfo=UTC), times.type)),
        pc.less(times, pa.scalar(datetime(2024, 1, 7, tzinfo=UTC), times.type)),
    )
    assert rows_of(options.out).equals(expected.filter(inside).combine_chunks())
    assert summary["rows_in"] == summary["rows_scored"] == inside.combine_chunks().true_count


def test_a_history_fills_the_first_windows(
    options: RescoreOptions, home: Path, tmp_path: Path
) -> None:
    days = sorted((home / "days").iterdir())
    options = replace(options, files=tuple(map(str, days[4:])), history=tuple(map(str, days[:4])))
    rescore.run(options)
    expected = reference(options.files, options.model, history=options.history)
    assert rows_of(options.out).equals(expected)


def test_a_model_without_windows_scores_partitions_side_by_side(
    options: RescoreOptions, home: Path
) -> None:
    options = replace(options, model=str(home / "plain"), workers=2)
    rescore.run(options)
    assert rows_of(options.out).equals(reference(options.files, options.model))


def test_challengers_are_scored_in_the_same_pass(options: RescoreOptions, home: Path) -> None:
    rules = str(home / "rules.toml")
    options = replace(
        options,
        rules=rules,
        against=(str(home / "old"), str(home / "plain")),
        workers=2,
    )
    summary: Any = rescore.run(options)
    sides = {side["side"]: side for side in summary["models"]}
    assert set(sides) == {"new", "old", "old2"}
    assert all(side["microseconds_per_row"] > 0 for side in sides.values())
    for side, name in (("new", "new"), ("old", "old")):
        expected = reference(options.files, str(home / name), rules=rules)
        assert rows_of(options.out, side).equals(expected)
    other = reference(options.files, str(home / "plain"))
    assert rows_of(options.out, "old2")["score"].equals(other["score"])
    file = pq.ParquetFile(f"{options.out}/partitions/date=2024-01-03/scores/part-old.parquet")
    table = file.read(["shadow", "rule_set", "label"])
    assert pc.all(table["shadow"]).as_py()
    assert len(table["rule_set"][0].as_py()) == 12
    assert table["label"].null_count == 0


def test_a_rule_set_is_compared_with_another_of_the_same_model(
    options: RescoreOptions, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(RULES.replace("6", "3"))
    options = replace(options, rules=str(home / "rules.toml"), against_rules=str(other))
    rescore.run(options)
    for side, rules in (("new", options.rules), ("old", options.against_rules)):
        expected = reference(options.files, options.model, rules=rules)
        assert rows_of(options.out, side).equals(expected)


def test_newer_labels_repeat_the_comparison_and_not_the_scoring(
    options: RescoreOptions, home: Path, tmp_path: Path
) -> None:
    options = replace(options, against=(str(home / "old"),), segments=("shop",), resamples=20)
    first: Any = rescore.run(options)
    assert first["comparison"]["sentence"]
    assert (tmp_path / "out/comparison.html").exists()
    assert rescore.run(options)["comparison"] == first["comparison"]
    table = transactions()
    labels = tmp_path / "labels.parquet"
    pq.write_table(
        pa.table(
            {
                "transaction_id": table["id"],
                "label": pa.array(np.ones(len(table), dtype=np.int8)),
                "labelled_at": pc.add(table["t"], pa.scalar(timedelta(days=1))).cast(
                    pa.timestamp("us", "UTC")
                ),
            }
        ),
        labels,
    )
    newer = replace(options, labels=str(labels), fail_if=("recall < 0.99",))
    outcome: Any = rescore.call(newer, as_json=True)
    assert outcome.exit_code == 3
    assert scored(outcome.result) == 0
    assert outcome.result["comparison"]["figures"] != first["comparison"]["figures"]
    assert rescore.call(newer, as_json=True).exit_code == 3


def test_figures_equal_those_of_scikit_learn_on_the_written_scores(
    options: RescoreOptions, home: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(RULES.replace("6", "4"))
    against = {"against": (str(home / "old"), str(home / "plain")), "against_rules": str(other)}
    options = replace(options, rules=str(home / "rules.toml"), label_maturity="3d", **against)
    summary: Any = rescore.run(replace(options, cost="50%:2", resamples=20))
    frames = {}
    for side in ("new", "old", "old2"):
        files = sorted(Path(options.out).glob(f"partitions/*/scores/part-{side}.parquet"))
        frame = pd.concat([pd.read_parquet(file) for file in files])
        frames[side] = frame.set_index("transaction_id").sort_index()
    figures = summary["comparison"]["figures"]
    new = frames["new"]
    for side, frame in frames.items():
        days = frame["event_time"].dt.date.nunique()
        assert figures[f"{side}.flags_per_day"] == frame["flagged"].sum() / days
        union, swapped = frame["flagged"] | new["flagged"], frame["flagged"] != new["flagged"]
        if side != "new":
            assert figures[f"{side}.swap_share"] == swapped.sum() / union.sum()
        ripe = frame[frame["event_time"] <= frame["event_time"].max() - pd.Timedelta("3d")]
        assert 0 < len(ripe) < len(frame)
        label, flagged = ripe["label"], ripe["flagged"]
        assert figures[f"{side}.recall"] == recall_score(label, flagged)
        assert figures[f"{side}.precision"] == precision_score(label, flagged)
        ap = average_precision_score(label, ripe["score"])
        assert figures[f"{side}.ap"] == pytest.approx(ap, rel=1e-12)
        missed = ripe["amount"][(label == 1) & ~flagged].sum()
        cost = 0.5 * missed + 2 * ((label == 0) & flagged).sum()
        assert figures[f"{side}.net_cost"] == pytest.approx(cost, rel=1e-12)
    changed = pd.read_parquet(tmp_path / "out/changed.parquet")
    decisions = [frame["decision"] for frame in frames.values()]
    differ = (decisions[0] != decisions[1]) | (decisions[0] != decisions[2])
    assert set(changed["transaction_id"]) == set(new.index[differ])


def test_a_model_alone_is_measured_where_an_option_asks_for_it(
    options: RescoreOptions, tmp_path: Path
) -> None:
    assert "comparison" not in rescore.run(options)
    alone = replace(options, fail_if=("recall < 1.1", "ap > 1"), resamples=20)
    outcome: Any = rescore.call(alone, as_json=True)
    assert (outcome.exit_code, scored(outcome.result)) == (3, 0)
    assert outcome.result["comparison"]["fail_if"] == ["recall < 1.1"]
    assert (tmp_path / "out/comparison.html").exists()


def test_a_condition_that_nothing_can_decide_fails_after_everything_is_written(
    options: RescoreOptions, home: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    ids = transactions()["id"].to_pylist()
    labels.write_text("transaction_id,label\n" + "".join(f"{one},0\n" for one in ids))
    undecided = replace(
        options,
        against=(str(home / "old"),),
        labels=str(labels),
        fail_if=("recall < 0.5", "flags_per_day < 0"),
        resamples=20,
    )
    for _ in range(2):
        with fails(Code.FIGURE_UNDEFINED, "recall"):
            rescore.run(undecided)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["comparison"]["fail_if"] == []
    assert (tmp_path / "out/comparison.md").exists()


def test_a_full_disk_costs_the_partition_that_met_it(
    options: RescoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = ParquetBlockWriter.close

    def full(self: ParquetBlockWriter) -> int:
        if self._names and "2024-01-03" in str(self._names[1]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return close(self)

    monkeypatch.setattr(ParquetBlockWriter, "close", full)
    with fails(Code.PARTITIONS_FAILED, f"date=2024-01-03: .*{os.strerror(errno.ENOSPC)}"):
        rescore.run(options)
    monkeypatch.undo()
    # Its rows were in the windows of others all the same.
    assert scored(rescore.run(options)) == 1
    assert rows_of(options.out).equals(reference(options.files, options.model))


def test_a_file_that_changes_while_it_is_read_is_named(
    options: RescoreOptions, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(home / "days", archive)
    options = replace(options, files=(str(archive),))
    file = archive / "date=2024-01-09/part-0.parquet"
    write = ParquetBlockWriter.write

    def touch(self: ParquetBlockWriter, batch: pa.RecordBatch) -> None:
        os.utime(file, (1, 1))
        write(self, batch)

    monkeypatch.setattr(ParquetBlockWriter, "write", touch)
    with fails(Code.PARTITIONS_FAILED, "date=2024-01-09"):
        rescore.run(options)
    monkeypatch.undo()
    rescore.run(options)
    assert rows_of(options.out).equals(reference(options.files, options.model))


def test_a_killed_run_goes_on(options: RescoreOptions, tmp_path: Path) -> None:
    call = [sys.executable, "-m", "beam_fraud", "rescore", *options.files]
    call += ["--model", options.model, "--out", options.out, "--block-rows", "100"]
    root = Path(options.out) / "partitions"
    with subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        # Its imports take seconds, in which this process would look without a pause.
        assert wait_until(lambda: root.exists() or running.poll() is not None)
        limit = time.monotonic() + 60
        while len(list(root.glob("*"))) < 3 and running.poll() is None:
            assert time.monotonic() < limit
        running.send_signal(signal.SIGKILL)
    left = partitions_of(options.out)
    assert len(left) >= 3
    rescore.run(options)
    assert [path.name for path in Path(options.out).iterdir() if path.name.startswith(".")] == []
    undisturbed = replace(options, out=str(tmp_path / "undisturbed"))
    rescore.run(undisturbed)
    assert partitions_of(options.out) == partitions_of(undisturbed.out)
