"""Messages of a broker: the effect of their time, and the values that are stored."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.records.labels import read_labels
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.schema.duration import LONGEST
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.sources.raw import Origin, with_origin
from tests.reading import BANK, GOOD

MESSAGES = pa.schema(
    [("@position", pa.int64()), ("@payload", pa.binary()), ("@appended", pa.int64())]
)


def messages(*rows: tuple[str, int], first: int = 0) -> pa.RecordBatch:
    """Return a raw batch of messages, each with an event time and a message time."""
    payloads = [json.dumps({**GOOD, "when": when}).encode() for when, _ in rows]
    times = [appended for _, appended in rows]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(range(first, first + len(rows)), pa.int64()),
            pa.array(payloads, pa.binary()),
            pa.array(times, pa.int64()),
        ],
        schema=with_origin(MESSAGES, Origin("payments:0", "jsonl", appended=min(times))),
    )


def test_a_byte_order_mark_before_a_record_is_no_part_of_it() -> None:
    plain = json.dumps(GOOD).encode()
    marked = b"\xef\xbb\xbf" + plain
    raw = pa.RecordBatch.from_arrays(
        [
            pa.array([0, 1, 2], pa.int64()),
            pa.array([plain, marked, b"\xef\xbb\xbf" + marked], pa.binary()),
            pa.array([0, 0, 0], pa.int64()),
        ],
        schema=with_origin(MESSAGES, Origin("payments:0", "jsonl")),
    )
    good, dead = validate(parse(raw, BANK, labels="required"), BANK, labels="required")
    assert good.column("@position").to_pylist() == [0, 1]
    assert good.slice(0, 1).drop_columns("@position").to_pylist() == (
        good.slice(1).drop_columns("@position").to_pylist()
    )
    assert dead.column("reason").to_pylist() == ["malformed"]


@settings(deadline=None)
@given(
    gaps=st.lists(st.integers(-3_000, 3_000), min_size=1, max_size=12),
    apart=st.integers(0, 5_000),
    cuts=st.sets(st.integers(1, 11)),
)
def test_whether_a_message_is_in_the_future_does_not_depend_on_its_neighbours(
    gaps: list[int], apart: int, cuts: set[int]
) -> None:
    noon = datetime(2024, 2, 29, 12, tzinfo=UTC)
    rows = []
    for number, gap in enumerate(gaps):
        event = noon + timedelta(milliseconds=apart * number)
        appended = int(event.timestamp() * 1000) - gap
        rows.append((event.isoformat(), appended))
    places = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    dead = []
    for begin, end in itertools.pairwise(places):
        parsed = parse(messages(*rows[begin:end], first=begin), BANK, labels="required")
        good, letters = validate(parsed, BANK, labels="required", ahead=1_000_000)
        assert set(letters["reason"].to_pylist()) <= {"future_time"}
        assert "@appended" not in good.schema.names
        assert len(good) + len(letters) == end - begin
        dead += letters["position"].to_pylist()
    assert dead == [number for number, gap in enumerate(gaps) if gap > 1_000]


@pytest.mark.parametrize("appended", [1, 2**63 - 1])
def test_any_time_of_a_message_can_be_compared(appended: int) -> None:
    parsed = parse(messages((GOOD["when"], appended)), BANK, labels="required")
    good, dead = validate(parsed, BANK, labels="required", ahead=LONGEST)
    assert (len(good), len(dead)) == (1, 0)


def test_a_dead_message_is_persisted_byte_for_byte() -> None:
    sent = [b"{\r\n", b"no\n\n", b"\n", b"", b"\xff\r"]
    whole = messages(*[(GOOD["when"], 0)] * len(sent)).set_column(1, "@payload", pa.array(sent))
    for raw, expected in (
        (whole, sent),
        (whole.drop_columns(["@appended"]), [b"{", b"no\n", b"", b"", b"\xff"]),
    ):
        _, dead = validate(parse(raw, BANK, labels="required"), BANK, labels="required")
        assert dead["payload"].to_pylist() == expected
        assert dead.schema == DEAD_LETTER
    _, dead = read_labels(whole)
    assert dead["payload"].to_pylist() == sent
