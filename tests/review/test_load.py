"""Many people at once: no error, and no case that two of them decide."""

from __future__ import annotations

from collections import Counter

import pytest

from beam_fraud.review.audit_log import entries, verify
from benchmarks.review_load import Users, fill
from tests.reviewing import queued, read


@pytest.mark.parametrize(
    ("alerts", "people", "seconds"),
    [(400, 12, 1.5), pytest.param(20_000, 50, 60.0, marks=pytest.mark.soak)],
)
def test_people_at_one_queue(database: str, alerts: int, people: int, seconds: float) -> None:
    fill(database, alerts, alerts // 4)
    users = Users(database, alerts // 4, think=0.05)
    users.run(people, seconds)
    assert users.errors == []
    assert users.pages
    assert len(users.decided) == len(set(users.decided)) > 0
    log = read(database, entries, limit=1_000_000)
    decided = Counter(one.case_id for one in log if one.action == "decided")
    assert decided == Counter(users.decided)
    assert read(database, verify) == len(log)
    closed = queued(database, state="closed")
    assert {case.case_id for case in closed} <= set(users.decided)
