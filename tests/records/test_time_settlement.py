"""Which form of several a file's times are in."""

from __future__ import annotations

from datetime import datetime

import apache_beam as beam
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.errors import Code, UsageError
from beam_fraud.records.read import read_transactions
from beam_fraud.records.time_settlement import (
    contested,
    refuse_contested,
    settled_forms,
    uncontested_forms,
)
from beam_fraud.records.times import as_times
from beam_fraud.schema.notation import TimeNotation
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.table import check_table, read_table
from beam_fraud.transforms.parse import ParseTransactions
from tests.failing import fails

FORMS = (
    *("iso8601", "rfc2822", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%d-%m-%Y %H:%M", "%Y%m%d%H%M"),
    *("%d/%m/%y %H:%M", "%m/%d/%y %H:%M", "%Y-%d-%m %H:%M", "%d.%m.%Y %H:%M", "%I:%M %p %d/%m/%Y"),
    *("%d %b %Y %H:%M", "%y%j %H:%M", "%H:%M %m/%d/%Y"),
)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)).map(
    lambda moment: moment.replace(second=0, microsecond=0)
)


def schema_of(*forms: str) -> Schema:
    return Schema("bank", {"event_time": "at", "amount": "value"}, time=TimeNotation(forms))


def settle(texts: list[str], *forms: str) -> tuple[str, ...]:
    schema = schema_of(*forms)
    table = check_table(
        "rows", pa.table({"at": texts, "value": [1.0] * len(texts)}), schema, labels="ignored"
    )
    settled = settled_forms(read_table(table, 3), schema, "rows", labels="ignored")
    return dict(settled).get("at", forms)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("%m/%d/%Y", "%d/%m/%Y"),
        ("%y%m%d", "%d%m%y"),
        ("iso8601", "%Y-%d-%m"),
        ("excel", "%y%j"),
        ("%d/%m/%Y %H:%M", "%d/%m/%Y %M:%H"),
    ],
)
def test_forms_that_read_a_text_differently_are_contested(one: str, other: str) -> None:
    assert contested((one, other)) == ((one, other),)
    assert contested((other, one)) == ((other, one),)


@pytest.mark.parametrize(
    "forms",
    [
        ("iso8601", "rfc2822", "excel", "%Y%m%d"),
        ("%d/%m/%Y", "%d-%m-%Y", "%d.%m.%Y"),
        ("%d/%m/%Y %H:%M", "%d/%m/%Y %I:%M %p"),
        ("%d/%m/%Y", "%d/%m/%y"),
    ],
)
def test_forms_without_a_common_text_are_tried_row_by_row(forms: tuple[str, ...]) -> None:
    assert contested(forms) == ()
    schema_of(*forms)
    refuse_contested(schema_of(*forms), "a message")


@given(moment=moments, pair=st.permutations(FORMS).map(lambda forms: forms[:2]))
def test_no_text_of_uncontested_forms_is_two_times(moment: datetime, pair: list[str]) -> None:
    one = pair[0]
    text = moment.strftime("%Y-%m-%d %H:%M" if one == "iso8601" else one)
    if one == "rfc2822":
        text = moment.strftime("%a, %d %b %Y %H:%M +0000")
    read = [as_times(pa.array([text]), TimeNotation((form,))) for form in pair]
    if any(times.unreadable[0] or times.impossible[0] for times in read):
        return
    assert read[0].micros[0] == read[1].micros[0] or contested(tuple(pair))


def test_one_row_settles_all() -> None:
    forms = ("%m/%d/%Y", "%d/%m/%Y", "iso8601")
    assert settle(["1/2/2019", "3/2/2019", "1/13/2019"], *forms) == ("%m/%d/%Y", "iso8601")
    assert settle(["1/2/2019"] * 9 + ["13/2/2019"], *forms) == ("%d/%m/%Y", "iso8601")
    # Nothing is contested in such a file, so nothing is decided.
    assert settle(["2019-02-01"] * 9, *forms) == forms


def test_times_that_mean_the_same_either_way_need_no_decision() -> None:
    forms = ("%m/%d/%Y", "%d/%m/%Y")
    assert settle(["2/2/2019", "3/3/2019"], *forms) == forms


def test_a_file_is_not_guessed() -> None:
    with fails(Code.TIMES_AMBIGUOUS, "'at'"):
        settle(["1/2/2019", "3/2/2019"], "%m/%d/%Y", "%d/%m/%Y")
    with fails(Code.TIMES_AMBIGUOUS, "'at'"):
        settle(["1/13/2019", "13/2/2019"], "%m/%d/%Y", "%d/%m/%Y")


def test_messages_have_no_file_to_settle_them() -> None:
    with fails(Code.TIMES_AMBIGUOUS, r"a message.*\[time\]|\[time\].*a message", UsageError):
        refuse_contested(schema_of("%m/%d/%Y", "%d/%m/%Y"), "a message")


def test_a_replay_reads_what_no_other_form_reads() -> None:
    schema = schema_of("%m/%d/%Y", "iso8601", "%d/%m/%Y")
    assert uncontested_forms(schema, "a replay", labels="known") == (("at", ("iso8601",)),)
    assert uncontested_forms(schema_of("%m/%d/%Y"), "a replay", labels="known") == ()
    with fails(Code.TIMES_AMBIGUOUS, "a replay", UsageError):
        uncontested_forms(schema_of("%m/%d/%Y", "%d/%m/%Y"), "a replay", labels="known")


def test_a_pipeline_refuses_forms_that_only_a_file_settles() -> None:
    schema = schema_of("%m/%d/%Y", "%d/%m/%Y")
    with fails(Code.TIMES_AMBIGUOUS, "a record"), beam.Pipeline() as pipeline:
        pipeline | beam.Create([{"at": "1/2/2019", "value": 1.0}]) | ParseTransactions(schema)


def test_the_label_time_is_settled_by_itself() -> None:
    schema = schema_from_toml(
        """
        [roles]
        event_time = "at"
        labelled_at = "seen"
        label = "fraud"
        amount = "value"
        [time]
        format = ["%m/%d/%Y", "%d/%m/%Y"]
        """
    )
    rows = {"at": ["1/13/2019"], "seen": ["14/1/2019"], "fraud": [1], "value": [1.0]}
    table = check_table("rows", pa.table(rows), schema, labels="known")
    settled = settled_forms(read_table(table, 3), schema, "rows", labels="known")
    assert dict(settled) == {"at": ("%m/%d/%Y",), "seen": ("%d/%m/%Y",)}
    (block,) = read_transactions([table], schema, labels="known")
    assert len(block.transactions) == 1


def test_a_number_of_days_beyond_all_calendars_is_no_day_of_1970() -> None:
    read = as_times(pa.array(["20240208", "45330"]), TimeNotation(("excel",)))
    assert read.impossible.tolist() == [True, False]
