"""Labelled transactions of files."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.records.read import read_transactions
from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.reading import BANK, GOOD, csv_of, write_text

DATA = Path(__file__).resolve().parents[2] / "../shared/data"

ROWS = [
    {**GOOD, "id": "late", "when": "2024-03-01"},
    {**GOOD, "id": "dead", "amount": "x"},
    {**GOOD, "id": "dead", "when": "2024-01-01"},
    {**GOOD, "id": "late", "when": "2023-01-01"},
    {**GOOD, "id": "tie", "when": "2024-01-01"},
]


def test_rows_are_sorted_counted_and_kept_between_two_times(tmp_path: Path) -> None:
    path = str(write_text(tmp_path / "rows.csv", csv_of(*ROWS)))
    data = load_dataset([Place.parse(path)], BANK)
    # The id of a dead letter is free for the first valid row; equal times stay as they came.
    assert data.transactions["transaction_id"].to_pylist() == ["dead", "tie", "late"]
    assert (data.rows_in, data.rows_dead, data.rows_duplicate) == (5, 1, 1)
    assert data.dead_reasons == {"wrong_type": 1}
    assert data.left_out == (
        "1 of 5 rows left out (1 wrong_type); first: rows.csv line 3: amount: not of the type it "
        "should be"
    )
    march = datetime(2024, 3, 1, tzinfo=UTC)
    assert load_dataset([Place.parse(path)], BANK, since=march).transactions.num_rows == 1
    assert load_dataset([Place.parse(path)], BANK, until=march).transactions.num_rows == 2


def test_files_of_dead_letters_alone_are_refused_with_the_first(tmp_path: Path) -> None:
    rows = [{**GOOD, "id": str(number), "amount": "x"} for number in range(3)]
    path = str(write_text(tmp_path / "rows.csv", csv_of(*rows)))
    with pytest.raises(FraudError, match=r"none of 3 records .*; first: rows\.csv line 2: "):
        load_dataset([Place.parse(path)], BANK)


def test_ids_may_repeat_in_another_file(tmp_path: Path) -> None:
    paths = [str(write_text(tmp_path / f"{n}.csv", csv_of(*ROWS))) for n in range(2)]
    assert load_dataset(Place.parse_all(paths), BANK).rows_duplicate == 2


def test_a_schema_without_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="label"):
        load_dataset([Place.of(tmp_path)], Schema("s", {"event_time": "t", "amount": "a"}))


@pytest.mark.parametrize(
    ("name", "file", "rows", "first"),
    [
        ("ulb", "creditcard.parquet", 284_807, "creditcard.parquet:0"),
        ("handbook", "handbook_transactions.parquet", 1_466_282, None),
    ],
)
def test_published_data_are_valid(name: str, file: str, rows: int, first: str | None) -> None:
    if not (DATA / file).exists():
        pytest.skip("the data set is not here")
    inputs = find_inputs([Place.of(DATA / file)], PRESETS[name], labels="required")
    result = 0
    for block in read_transactions(inputs, PRESETS[name], labels="required"):
        if first and not result:
            assert block.transactions.column("transaction_id")[0].as_py() == first
        result += len(block.transactions)
        assert (len(block.dead_letters), block.duplicates) == (0, 0)
    assert result == rows


PEAK = """
import resource, sys
from beam_fraud.records.read import read_transactions
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.reading import BANK
inputs = find_inputs(Place.parse_all(sys.argv[1:]), BANK, labels="required")
for block in read_transactions(inputs, BANK, labels="required"):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for number, rows in enumerate((200_000, 800_000)):
        path = tmp_path / f"{number}.csv"
        header, row = csv_of(GOOD).splitlines(keepends=True)
        with path.open("wb") as file:
            file.write(header)
            for start in range(0, rows, 1_000):
                ids = range(start, start + 1_000)
                file.write(b"".join(b"%d%s" % (i, row.removeprefix(b"t1")) for i in ids))
        result = subprocess.run(
            [sys.executable, "-c", PEAK, str(path)],
            check=True,
            capture_output=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        peaks.append(int(result.stdout) * 1024)
    assert peaks[1] - peaks[0] < 16 * 600_000 + (40 << 20)
