"""`skew`: two archives of the same rows, compared column by column; one changed value is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import skew
from beam_fraud.cli.options import SkewOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.operations import skew as archives
from tests.failing import fails

ROWS = 5_000
START = np.datetime64("2024-03-01T00:00:00", "us")


def rows_of(
    features: dict[str, np.ndarray] | None = None, *, model: str = "m@1", seed: int = 0
) -> pa.Table:
    """Return archived rows of two days."""
    random = np.random.default_rng(seed)
    numbers = np.arange(ROWS)
    kept = {"amount": random.lognormal(3, 1, ROWS), "age": random.normal(0, 1, ROWS)}
    kept["age"][::7] = np.nan
    kept = features if features is not None else kept
    score = random.uniform(0, 1, ROWS)
    columns = {
        "transaction_id": pa.array([f"t{number}" for number in numbers]),
        "event_time": pa.array(START + numbers * 34_000_000, pa.timestamp("us", "UTC")),
        "account_id": pa.array([f"a{number % 300}" for number in numbers]),
        "merchant_id": pa.array([None if number % 11 else "m" for number in numbers], pa.string()),
        "amount": pa.array(random.lognormal(3, 1, ROWS)),
        "score": pa.array(score),
        "flagged": pa.array(score > 0.9),
        "decision": pa.array(np.where(score > 0.9, "review", "approve").tolist()),
        "model_id": pa.array([model] * ROWS),
        "features": pa.StructArray.from_arrays(
            [pa.array(values, pa.float64(), from_pandas=False) for values in kept.values()],
            fields=[pa.field(name, pa.float64(), nullable=False) for name in kept],
        ),
    }
    return pa.table(columns)


def archive(directory: Path, *tables: pa.Table) -> Path:
    (directory / "scores").mkdir(parents=True)
    for number, table in enumerate(tables):
        pq.write_table(table, directory / f"scores/part-{number}.parquet")
    return directory


def changed(table: pa.Table, row: int, column: str, value: float) -> pa.Table:
    """Return the rows with another value of a feature."""
    struct = table["features"].combine_chunks()
    names = [field.name for field in struct.type]
    arrays = [array.to_numpy(zero_copy_only=False).copy() for array in struct.flatten()]
    arrays[names.index(column)][row] = value
    features = pa.StructArray.from_arrays(
        [pa.array(array, pa.float64(), from_pandas=False) for array in arrays],
        fields=list(struct.type),
    )
    return table.set_column(table.schema.names.index("features"), "features", features)


def options(first: Path, second: Path, **changes: object) -> SkewOptions:
    return SkewOptions(**{"first": str(first), "second": str(second), **changes})  # type: ignore[arg-type]


def test_equal_rows_in_another_order_and_division_do_not_differ(tmp_path):
    rows = rows_of()
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(ROWS)))
    first = archive(tmp_path / "a", rows)
    second = archive(tmp_path / "b", shuffled.slice(0, 1_200), shuffled.slice(1_200))
    outcome = skew.call(options(first, second, fail_if=("rows_differ > 0",)), as_json=True)
    assert outcome.exit_code == 0
    result = json.loads(json.dumps(outcome.result))
    assert result["pairs"] == ROWS
    assert (result["rows_differ"], result["only_in_first"], result["only_in_second"]) == (0, 0, 0)
    assert all(one["compared"] == ROWS and one["differ"] == 0 for one in result["columns"])
    assert "agree" in skew.render(outcome.result)


def test_the_changed_feature_of_one_row_is_found(tmp_path, monkeypatch):
    # Several parts, so that the join spans them.
    monkeypatch.setattr(archives, "_PART_ROWS", 700)
    rows = rows_of()
    first = archive(tmp_path / "a", rows)
    second = archive(tmp_path / "b", changed(rows, 1_234, "age", 42.0).slice(0))
    chosen = options(
        first,
        second,
        out=(str(tmp_path / "skew.html"), str(tmp_path / "skew.json"), str(tmp_path / "skew.md")),
        rows=str(tmp_path / "changed.parquet"),
        fail_if=("rows_differ > 0", "scores_differ > 0"),
    )
    outcome = skew.call(chosen, as_json=True)
    assert outcome.exit_code == 3
    result = json.loads(json.dumps(outcome.result))
    assert result["fail_if"] == ["rows_differ > 0"]
    assert result["figures"]["features_differ"] == 1
    [age] = [one for one in result["columns"] if one["differ"]]
    assert (age["name"], age["kind"], age["differ"], age["second"]) == ("age", "feature", 1, 42.0)
    before = rows["features"].combine_chunks().field("age")[1_234].as_py()
    assert age["largest"] == pytest.approx(42.0 - before)
    found = pq.read_table(tmp_path / "changed.parquet").to_pylist()
    assert [(one["transaction_id"], one["column"], one["second"]) for one in found] == [
        ("t1234", "age", 42.0)
    ]
    assert found[0]["first"] == before
    assert "1 of 5,000 transactions" in (tmp_path / "skew.html").read_text()
    assert "t1234" not in (tmp_path / "skew.html").read_text()
    assert "1 of 5,000 transactions" in (tmp_path / "skew.md").read_text()
    assert json.loads((tmp_path / "skew.json").read_text())["rows_differ"] == 1
    assert sum(one["differ"] for one in result["days"]) == 1


def test_a_missing_value_is_equal_to_a_missing_one_alone(tmp_path):
    rows = rows_of()
    first = archive(tmp_path / "a", rows)
    # Row 7 has no age, row 8 has one.
    second = archive(tmp_path / "b", changed(changed(rows, 7, "age", 1.0), 8, "age", np.nan))
    result = skew.run(options(first, second))
    [age] = [one for one in result["columns"] if one["differ"]]
    assert (age["differ"], age["missing_in_first"], age["missing_in_second"]) == (2, 1, 1)
    assert age["mean"] is None


def test_models_with_other_features_are_compared_by_those_that_both_have(tmp_path):
    age = np.linspace(0, 1, ROWS)
    old = rows_of({"age": age, "gone": age})
    new = rows_of({"new": age, "age": age}, model="m@2")
    # One archive holds both, as after a promotion: structs of different types.
    first = archive(tmp_path / "a", old.slice(0, 2_000), new.slice(2_000))
    second = archive(tmp_path / "b", changed(new, 10, "age", 9.0))
    result = skew.run(options(first, second))
    assert result["pairs"] == ROWS
    assert result["other_models"] == 2_000
    columns = {(one["name"], one["kind"]): one for one in result["columns"]}
    assert columns["age", "feature"]["compared"] == ROWS
    assert columns["age", "feature"]["differ"] == 1
    assert columns["new", "feature"]["compared"] == ROWS - 2_000
    assert columns["score", "score"]["compared"] == ROWS - 2_000
    assert result["features_of_first"] == ("gone",)


def test_rows_that_one_archive_lacks_are_counted_within_the_time_of_both(tmp_path):
    rows = rows_of()
    first = archive(tmp_path / "a", rows.slice(0, 4_000))
    kept = np.ones(ROWS, bool)
    kept[[1_500, 1_501]] = False
    kept[:1_000] = False
    second = archive(tmp_path / "b", rows.filter(pa.array(kept)), rows.slice(1_700, 3))
    result = skew.run(options(first, second, rows=str(tmp_path / "rows.parquet")))
    assert result["pairs"] == 2_998
    assert (result["only_in_first"], result["only_in_second"]) == (2, 0)
    assert result["outside"] == 2_000
    assert result["repeated"] == 3
    written = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert {(one["transaction_id"], one["column"]) for one in written} == {
        ("t1500", "only_in_first"),
        ("t1501", "only_in_first"),
    }


def test_tiny_differences_of_scores_count_with_a_tolerance_of_zero_alone(tmp_path):
    rows = rows_of()
    moved = rows.set_column(rows.schema.names.index("score"), "score", pc.add(rows["score"], 1e-12))
    first, second = archive(tmp_path / "a", rows), archive(tmp_path / "b", moved)
    assert skew.run(options(first, second))["rows_differ"] == 0
    exact = skew.run(options(first, second, tolerance=0.0))
    assert exact["figures"]["scores_differ_share"] > 0.9
    assert 0 < exact["figures"]["largest_score_difference"] < 1e-11


def test_rows_of_a_model_that_is_only_compared_are_chosen_by_name(tmp_path):
    served = rows_of()
    shadow = served.append_column("shadow", pa.array([True] * ROWS))
    other = rows_of(model="m@2", seed=5).append_column("shadow", pa.array([False] * ROWS))
    first, second = archive(tmp_path / "a", served), archive(tmp_path / "b", shadow, other)
    assert skew.run(options(first, second))["other_models"] == ROWS
    result = skew.run(options(first, second, model="m@1"))
    assert (result["pairs"], result["rows_differ"], result["other_models"]) == (ROWS, 0, 0)


def test_differences_beyond_the_limit_are_counted_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(archives, "MOST_CHANGES", 10)
    rows = rows_of()
    moved = rows.set_column(rows.schema.names.index("score"), "score", pc.add(rows["score"], 0.5))
    first, second = archive(tmp_path / "a", rows), archive(tmp_path / "b", moved)
    result = skew.run(options(first, second, rows=str(tmp_path / "rows.parquet")))
    assert result["rows_written"] == 10
    assert result["rows_differ"] == ROWS
    assert pq.read_table(tmp_path / "rows.parquet").num_rows == 10
    assert "there are more" in caplog.text


def test_wrong_calls_are_refused(tmp_path):
    first = archive(tmp_path / "a", rows_of())
    second = archive(tmp_path / "b", rows_of())
    for changes, code in (
        ({"fail_if": ("recall < 1",)}, Code.RULE_CONDITION),
        ({"tolerance": -1.0}, Code.OPTION_VALUE),
        ({"out": ("page.txt",)}, Code.OUTPUT_NAME),
        ({"rows": "rows.csv"}, Code.OUTPUT_NAME),
        ({"since": "then"}, Code.TIME_INVALID),
    ):
        with fails(code, kind=UsageError):
            skew.run(options(first, second, **changes))
    with fails(Code.OPTION_CONFLICT, kind=UsageError):
        skew.run(options(first, first))
    with fails(Code.PLACE_EMPTY, "m@9"):
        skew.run(options(first, second, model="m@9"))
    with fails(Code.PLACE_EMPTY):
        skew.run(options(first, tmp_path / "nothing"))
    (tmp_path / "b/scores/part-1.parquet").write_bytes(b"no Parquet")
    with fails(Code.INPUT_DAMAGED, "part-1.parquet"):
        skew.run(options(first, second))


def test_an_undefined_figure_fails_its_condition(tmp_path):
    first = archive(tmp_path / "a", rows_of())
    second = archive(tmp_path / "b", rows_of(model="m@2"))
    with pytest.raises(FraudError) as undefined:
        skew.run(options(first, second, fail_if=("scores_differ > 0",)))
    assert undefined.value.code == Code.FIGURE_UNDEFINED
