"""A due reminder is on the page of whoever set it, at the latest ten seconds after it is due."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from beam_fraud.review import kept_answers
from beam_fraud.review.teamwork import remind
from beam_fraud.storage.database.connection import writing
from tests.review.world import World, make_world, served

HEADING = ">Reminders<"


def set_due(world: World, account: str, who: str) -> None:
    """Set a reminder of a case that has been due for a minute."""
    case_id, version = world.cases[account]
    now, settings = datetime.now(UTC), world.site.settings
    with writing(world.site.url) as connection:
        due = now - timedelta(minutes=1)
        remind(connection, settings, case_id, version, who, now, at=due)


def test_a_due_reminder_is_shown_within_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(make_world(tmp_path, plain=True)) as world:
        assert HEADING not in world.get("/", "lena").text
        set_due(world, "acct-1", "lena")
        set_due(world, "acct-2", "anna")
        # Another's answer says nothing of hers.
        assert HEADING in world.get("/", "anna").text
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 10)
        monkeypatch.setattr(kept_answers, "time", later)
        assert HEADING in world.get("/", "lena").text
        assert HEADING not in world.get("/", "adam").text
