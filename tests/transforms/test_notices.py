"""People are notified of a muted rule once, as soon as the database accepts the notice."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import select

from beam_fraud.sources.raw import origin_of
from beam_fraud.state.rule_share import MutedRule, muted_in, with_muted
from beam_fraud.storage.database import retry as persistence
from beam_fraud.storage.database.connection import prepare_database, transaction
from beam_fraud.storage.database.tables import DELIVERIES
from beam_fraud.transforms.alert import _Notices, notice_of
from deploy.postgres.server import Server
from tests.ruled import decided

HOUR = 3_600_000_000
CHANNELS = ("console", "file:a.jsonl")


def muted(window: int = 0) -> MutedRule:
    return MutedRule("wide", window, 0, 30, 100)


def texts(url: str) -> list[str]:
    with transaction(url) as connection:
        return sorted(row.text for row in connection.execute(select(DELIVERIES.c.text)))


def bundle(step: _Notices, *rules: MutedRule) -> None:
    batch = with_muted(decided([1], [[False] * 3]), rules)
    (passed,) = step.process(batch)
    assert muted_in(passed) == []
    assert origin_of(passed) == origin_of(batch)
    step.finish_bundle()


def test_a_repeated_bundle_sends_no_new_notice(database: str) -> None:
    prepare_database(database)
    for _ in range(2):
        step = _Notices(database, CHANNELS, 0.2, 1)
        step.setup()
        bundle(step, muted(), muted(HOUR))
        bundle(step)
    expected = sorted([notice_of(muted(w), 0.2).text for w in (0, HOUR)] * 2)
    assert texts(database) == expected


def test_without_channels_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    step = _Notices(None, (), 0.2, 1)
    step.setup()
    with caplog.at_level(logging.WARNING):
        bundle(step, muted())
    assert "Rule 'wide' fired on 30 of 100 transactions of 1970-01-01 00:00 to 01:00" in caplog.text


def test_notices_reach_a_database_when_it_is_back(
    own_postgres: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence.persistently, "__defaults__", (0.2,))
    url = own_postgres.create_database("notices")
    prepare_database(url)
    step = _Notices(url, CHANNELS, 0.2, 1)
    step.setup()
    own_postgres.stop()
    with caplog.at_level(logging.WARNING):
        bundle(step, muted())
    assert "no notice was sent yet of 1 muted rules" in caplog.text
    own_postgres.start()
    bundle(step, muted(HOUR))
    assert len(texts(url)) == 4
