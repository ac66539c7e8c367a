"""The contract of all sinks, run for each kind."""

import json
import pickle
import re

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog
from sqlalchemy import select

from beam_fraud.errors import Code, FraudError
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.tables import FLAGGED
from tests.failing import fails
from tests.flagged import START, flagged_batch


def _read_table(sink):
    with transaction(sink.url) as connection:
        rows = [row._asdict() for row in connection.execute(select(FLAGGED))]
    return [
        {**r, **{n: json.loads(r[n]) for n in ("rules", "reasons", "shadow_rules")}} for r in rows
    ]


def _read_parquet(sink):
    rows = pq.read_table(sink.directory).to_pylist()
    return [{name: row[name] for name in FLAGGED.columns.keys()} for row in rows]  # noqa: SIM118


def _read_iceberg(sink):
    rows = load_catalog().load_table(sink.rows.table.name).scan().to_arrow().to_pylist()
    return [{name: row[name] for name in FLAGGED.columns.keys()} for row in rows]  # noqa: SIM118


#: Kind of sink to its URL in a directory, or the fixture of its URL, and how it is read.
KINDS = {
    "sqlite": ("sqlite:///{}/new/flagged.db", _read_table),
    "parquet": ("parquet:{}/new/flagged", _read_parquet),
    "postgresql": ("postgres_database", _read_table),
    "iceberg": ("iceberg_table", _read_iceberg),
}


class Place:
    def __init__(self, url, read, out):
        self.url, self._read = url, read
        self.sink = parse_sink(self.url).for_run(out)

    def rows(self):
        return sorted(self._read(self.sink), key=lambda r: (r["transaction_id"], r["model_id"]))

    def run(self, run_id, *batches):
        self.sink.check()
        self.sink.begin(run_id)
        for batch in batches:
            # One writer a batch, unpickled as in a worker.
            writer = pickle.loads(pickle.dumps(self.sink)).open(run_id)
            writer.write(batch)
            writer.close()
        self.sink.commit(run_id)


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    form, read = KINDS[request.param]
    url = form.format(tmp_path) if "{}" in form else request.getfixturevalue(form)
    return Place(url, read, tmp_path / "out")


@pytest.fixture(params=[kind for kind, (form, _) in KINDS.items() if "{}" in form])
def place_of_files(request, tmp_path):
    form, read = KINDS[request.param]
    return Place(form.format(tmp_path), read, tmp_path / "out")


def test_a_flagged_row_comes_back_as_it_was_written(place):
    batch = flagged_batch(["t0"])
    place.run("r1", batch)
    [row] = place.rows()
    assert row == {name: batch.to_pylist()[0][name] for name in row}
    assert row["event_time"] == START


def test_rows_of_several_workers_are_complete(place):
    place.run("r1", flagged_batch(["a", "b"]), flagged_batch(["c"]))
    assert [row["transaction_id"] for row in place.rows()] == ["a", "b", "c"]


def test_the_same_run_again_changes_nothing(place):
    place.run("r1", flagged_batch())
    before = place.rows()
    place.run("r2", flagged_batch())
    assert place.rows() == before


def test_a_new_scoring_by_the_same_model_replaces_the_old(place):
    place.run("r1", flagged_batch(score=0.8))
    place.run("r2", flagged_batch(score=0.95))
    assert [row["score"] for row in place.rows()] == [0.95] * 3


def test_hostile_names_are_only_text(place):
    name = "x'); DROP TABLE flagged_transactions;--\n\x1b[2J\"ü"
    place.run("r1", flagged_batch([name], account=name))
    assert [(r["transaction_id"], r["account_id"]) for r in place.rows()] == [(name, name)]


def test_a_writer_without_rows_is_no_harm(place):
    place.run("r1", flagged_batch([]))
    assert place.rows() == []


def test_a_run_without_any_writer_can_be_read(place):
    place.run("r1")
    assert place.rows() == []


def test_a_failed_run_leaves_the_rows_of_the_one_before(place):
    place.run("r1", flagged_batch())
    before = place.rows()
    place.sink.begin("r2")
    place.sink.open("r2").write(flagged_batch())
    place.sink.discard("r2")
    assert place.rows() == before


def test_discard_after_commit_removes_nothing(place):
    place.run("r1", flagged_batch())
    place.sink.discard("r1")
    assert len(place.rows()) == 3


def test_a_file_in_the_way_is_refused_in_one_line_that_names_it(place_of_files, tmp_path):
    (tmp_path / "new").write_text("a file")
    with pytest.raises(FraudError, match=r"new is a file") as refused:
        place_of_files.sink.check()
    assert "\n" not in str(refused.value)


def test_check_can_be_repeated(place):
    place.sink.check()
    place.sink.check()
    place.run("r1", flagged_batch())
    place.sink.check()


def test_it_describes_itself_by_its_place_and_shows_no_password(place):
    shown = place.sink.describe()
    assert place.url.rpartition("/")[2] in shown
    hidden = re.search("//fraud:(.*)@", place.url)
    assert hidden is None or hidden[1] not in shown + repr(place.sink)


def test_many_rows_at_once_are_complete(place):
    ids = [f"t{number:05}" for number in range(12_000)]
    place.run("r1", flagged_batch(ids))
    assert [row["transaction_id"] for row in place.rows()] == ids


def test_a_place_exists_once_a_run_has_begun(place):
    place.sink.begin("r1")
    assert place.sink.exists()


def test_a_place_of_files_does_not_exist_before_the_first_run(place_of_files):
    assert not place_of_files.sink.exists()


def test_each_worker_connects_to_it(place):
    connected = []
    created = place.sink.transform("r1", lambda sink: connected.append(sink) or "the transform")
    assert (created, connected) == ("the transform", [place.sink])


def test_it_declares_the_eraser_of_its_rows(place):
    if place.sink.database is None and place.sink.archive is None:
        place.run("r1", flagged_batch())
        assert sum(place.sink.erase(["a"]).rows.values()) == 3
        assert place.rows() == []
        return
    # `erase` deletes from a database or a directory of Parquet files by itself.
    assert (place.sink.database is None) != (place.sink.archive is None)
    with fails(Code.SINK_UNSUITED, "--sink .*erase") as refused:
        place.sink.erase(["a"])
    assert place.sink.describe() in str(refused.value)


def test_a_writer_counts_no_stored_row_as_undelivered(place):
    place.sink.begin("r1")
    writer = place.sink.open("r1")
    writer.write(flagged_batch())
    writer.close()
    assert writer.undelivered == 0
