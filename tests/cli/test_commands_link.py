"""`--link` keeps the values of columns by which the review links cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from beam_fraud.cli.commands import review, score
from beam_fraud.cli.commands.stream_plan import _steps
from beam_fraud.cli.options import ReviewOptions, ScoreOptions
from beam_fraud.decisions.linked_values import LinkedColumns, reading
from beam_fraud.errors import Code, UsageError
from beam_fraud.pipeline.batch import Scoring
from beam_fraud.pipeline.stream import Stream
from beam_fraud.runners.runner import Runner
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.review_tables import LINKED_VALUES
from tests.cli.test_commands_audit_lane import audited
from tests.cli.test_commands_score import ROLES, bundle
from tests.failing import fails

#: The model flags everything; rules approve what is small.
RULES = '[[rule]]\nname = "small"\nwhen = "amount < 8"\ndecision = "approve"\n'


@pytest.fixture
def options(tmp_path: Path) -> ScoreOptions:
    file, rules = tmp_path / "day.csv", tmp_path / "rules.toml"
    rows = (
        f"x{i},2024-01-01T00:00:0{i % 10}Z,{i % 10},{f'd{i}' if i % 3 else ''},{i % 2}\n"
        for i in range(200)
    )
    file.write_text("id,t,a,device_id,branch\n" + "".join(rows))
    rules.write_text(RULES)
    return ScoreOptions(
        files=(str(file),),
        model=bundle(tmp_path / "model"),
        rules=str(rules),
        out=str(tmp_path / "out"),
        sink=f"sqlite:///{tmp_path}/flagged.db",
        audit_share="20%",
        links=("device_id", "branch"),
    )


def linked(url: str) -> dict[tuple[str, str], str]:
    with transaction(url) as connection:
        rows = connection.execute(select(LINKED_VALUES)).all()
    return {(row.transaction_id, row.name): row.value for row in rows}


def test_what_people_see_has_its_values(options: ScoreOptions, tmp_path: Path) -> None:
    score.run(options)
    assert options.sink is not None
    seen = {*audited(options.sink), *(f"x{i}" for i in range(200) if i % 10 >= 8)}
    assert 40 < len(seen) < 150
    expected = {(key, "branch"): str(int(key[1:]) % 2) for key in seen}
    expected |= {(key, "device_id"): f"d{key[1:]}" for key in seen if int(key[1:]) % 3}
    assert linked(options.sink) == expected
    # No archive has them, with the inputs of decisions or without.
    archived = pq.read_table(tmp_path / "out/scores").schema.names
    score.run(replace(options, keep_features=True))
    assert linked(options.sink) == expected
    kept = pq.read_table(tmp_path / "out/scores").schema.names
    assert kept[: len(archived)] == archived
    assert not {"linked", "device_id", "branch"} & {*archived, *kept}


def test_a_value_that_cannot_link_costs_no_transaction(options: ScoreOptions) -> None:
    row, (file,) = "{},2024-01-01T00:00:00Z,9,{},1\n", options.files
    with Path(file).open("a") as lines:
        lines.writelines(row.format(f"y{i}", text) for i, text in enumerate(["x" * 300, "a\0b"]))
    result = score.run(options)
    assert result["rows_dead"] == 0
    assert options.sink is not None
    values = linked(options.sink)
    assert values["y0", "device_id"] == "x" * 256
    assert ("y1", "device_id") not in values
    assert values["y1", "branch"] == "1"


def test_a_column_that_no_file_has_is_said(
    options: ScoreOptions, caplog: pytest.LogCaptureFixture
) -> None:
    score.run(replace(options, links=("devise_id",)))
    assert "no file has column 'devise_id'" in caplog.text
    assert options.sink is not None
    assert linked(options.sink) == {}


def test_a_savepoint_with_other_links_has_another_set_of_steps() -> None:
    def no(scoring: object) -> bool:
        return False

    stream = SimpleNamespace(here=False, following=None, limits_rules=no, shadows=no)
    runner = SimpleNamespace(dataflow=False)

    def steps(linked: LinkedColumns | None) -> dict[str, str]:
        scoring = SimpleNamespace(monitored=None, linked=linked)
        return _steps(cast(Stream, stream), cast(Scoring, scoring), cast(Runner, runner))

    assert steps(LinkedColumns(("ip",))) == {"set of steps": "links"}
    assert steps(None) != steps(LinkedColumns(("ip",)))


@pytest.mark.parametrize("sink", [None, "parquet:flagged"])
def test_without_a_database_it_is_refused(options: ScoreOptions, sink: str | None) -> None:
    with fails(Code.SINK_UNSUITED, "^--link: .* give --sink", UsageError):
        score.run(replace(options, sink=sink, audit_share=None))
    assert not Path(options.out).exists()


def test_only_text_links() -> None:
    features = (FeatureColumn("km"), FeatureColumn("mcc", "categorical"))
    schema = Schema("bank", {**ROLES, "account_id": "card", "label": "fraud"}, features)
    assert reading(schema, ("mcc",)) == schema
    wider = reading(schema, ("mcc", "device_id", "device_id"))
    assert wider.features == (*features, FeatureColumn("device_id", "categorical", "linking"))
    for column in ("km", "a", "amount", "t", "fraud"):
        with fails(Code.COLUMN_TYPE, f"^--link {column}: .* not as text", UsageError):
            reading(schema, (column,))
    for column in ("card", "account_id", "merchant_id", "id"):
        with fails(Code.OPTION_VALUE, f"^--link {column}: accounts are cases", UsageError):
            reading(schema, (column,))


def test_the_review_warns_of_what_the_database_does_not_have(
    options: ScoreOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    score.run(options)
    assert options.sink is not None
    settings = tmp_path / "review.toml"
    settings.write_text('links = ["branch", "ip"]\n')
    for given in (
        ReviewOptions(database=options.sink, links=("branch", "ip"), port=0),
        ReviewOptions(database=options.sink, settings=str(settings), port=0),
    ):
        caplog.clear()
        # The last value may have been erased: the pages are shown anyway.
        review.check(given, created=False)
        (said,) = [line for line in caplog.messages if line.startswith("--link")]
        assert said.startswith("--link ip: the database has no values of such a column yet; ")
        assert "it has those of branch, device_id" in said
    assert review.settings_of(ReviewOptions(database="", settings=str(settings))).links == (
        "branch",
        "ip",
    )
