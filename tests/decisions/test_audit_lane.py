"""The audit lane chooses a share of the transactions by their ids, always the same ones."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.stages import SEEN
from tests.failing import fails
from tests.flagged import flagged_batch

IDS = pa.array([f"t{i}" for i in range(100_000)])


def unflagged(batch: pa.RecordBatch) -> pa.RecordBatch:
    place = batch.schema.get_field_index("flagged")
    column = pa.array([False] * len(batch))
    return batch.set_column(place, batch.schema.field(place), column)


@pytest.mark.parametrize("share", ["0.2%", "3%", ".5", "1"])
def test_a_share_of_all_transactions_is_chosen(share: str) -> None:
    lane = AuditLane.parse(share)
    chosen, p = int(lane.chosen(IDS).sum()), lane.probability
    assert abs(chosen - len(IDS) * p) <= 5 * math.sqrt(len(IDS) * p * (1 - p))


def test_a_larger_share_chooses_all_of_a_smaller() -> None:
    small, large = (AuditLane.parse(share).chosen(IDS) for share in ("1%", "2%"))
    assert (large & small).sum() == small.sum() < large.sum()


def test_blocks_processes_and_single_rows_choose_alike() -> None:
    lane = AuditLane.parse("2%")
    chosen = lane.chosen(IDS)
    again = pickle.loads(pickle.dumps(lane))
    parts = [again.chosen(IDS.slice(start, 777)) for start in range(0, len(IDS), 777)]
    assert np.array_equal(np.concatenate(parts), chosen)
    assert [lane.chosen_one(one) for one in IDS.slice(0, 500).to_pylist()] == chosen[:500].tolist()
    # These very ones, for as long as there are databases with audited rows.
    assert np.flatnonzero(chosen)[:5].tolist() == [53, 124, 125, 139, 168]


@pytest.mark.parametrize("text", ["0", "0%", "101%", "1.01", "-1%", "a", "", "nan", "1e-3", "5 %%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with fails(Code.OPTION_VALUE, "--audit-share", UsageError):
        AuditLane.parse(text)


def test_flagged_rows_are_seen_with_probability_1() -> None:
    flagged = flagged_batch(["a", "b"])
    rows = pa.concat_batches([flagged, unflagged(flagged_batch(["c", "d"]))])
    lane = AuditLane.parse("1")
    assert lane.seen(rows).all()
    seen = lane.with_probability(rows)
    assert seen.schema.equals(SEEN)
    half = AuditLane.parse("50%").with_probability(rows)
    assert half.column("probability").to_pylist() == [1.0, 1.0, 0.5, 0.5]
    assert lane.audited(rows).column("transaction_id").to_pylist() == ["c", "d"]
    assert not AuditLane.parse("0.000001%").audited(flagged).num_rows
