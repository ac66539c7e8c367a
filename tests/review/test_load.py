"""Many people at once: no error, no case that two of them decide, no lost or double label."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest
from sqlalchemy import Connection, select

from beam_fraud.review.audit_log import entries, verify
from beam_fraud.review.http.site import Site
from beam_fraud.storage.database.review_tables import CASE_TRANSACTIONS, CASES
from beam_fraud.storage.database.tables import LABELS
from benchmarks.review_load import SETTINGS, Users, fill, log_in, serving
from tests.review.world import serving_site
from tests.reviewing import read


def _labels(connection: Connection) -> list[tuple[str, str]]:
    """Return each label's transaction and who gave it."""
    rows = connection.execute(select(LABELS.c.transaction_id, LABELS.c.labelled_by))
    return sorted((row.transaction_id, row.labelled_by) for row in rows)


def _decided(connection: Connection) -> list[tuple[str, str]]:
    """Return each transaction of a closed case, and who decided it."""
    table = CASE_TRANSACTIONS.c
    query = select(table.transaction_id, table.decided_by)
    query = query.join(CASES, CASES.c.case_id == table.case_id).where(CASES.c.state == "closed")
    return sorted((row.transaction_id, row.decided_by) for row in connection.execute(query))


@pytest.mark.parametrize(
    ("alerts", "people", "seconds"),
    [(400, 12, 1.5), pytest.param(20_000, 50, 60.0, marks=pytest.mark.soak)],
)
def test_people_at_one_queue(database: str, alerts: int, people: int, seconds: float) -> None:
    fill(database, alerts, alerts // 4)
    tokens = log_in(database, people)
    with ExitStack() as stack:
        if people > 12:
            addresses = [stack.enter_context(serving(database, 2))]
        else:
            site = Site(database, SETTINGS)
            addresses = [stack.enter_context(serving_site(site)) for _ in range(2)]
        users = Users(addresses, tokens, alerts // 4, think=0.02)
        users.run(seconds)
    assert users.errors == []
    assert users.pages
    assert len(users.decided) == len(set(users.decided)) > 0
    log = read(database, entries, limit=1_000_000)
    decided = Counter(one.case_id for one in log if one.action == "decided")
    assert decided == Counter(users.decided)
    assert read(database, verify) == len(log)
    labels = read(database, _labels)
    assert labels == read(database, _decided)
    assert len(labels) == len({transaction for transaction, _ in labels}) > 0


@pytest.mark.slow
def test_pages_under_load_write_nothing_into_the_result(
    database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(database, 4, 2)
    with serving(database, 1):
        pass
    assert capfd.readouterr().out == ""
