"""Settings of the review from a TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.errors import Code
from beam_fraud.review.settings import DEFAULT_REASONS, ReasonCode, read_settings
from tests.failing import fails

TEXT = """
claim = "5m"
sla = "1h"
second_person = ["block"]
[[reason]]
code = "stolen"
text = "Card stolen"
verdict = "fraud"
[[reason]]
code = "other"
text = "Another reason"
[lists.account]
block = "bad_cards"
"""


def test_settings(tmp_path: Path) -> None:
    file = tmp_path / "review.toml"
    file.write_text(TEXT)
    settings = read_settings(file)
    assert settings.reasons == (
        ReasonCode("stolen", "Card stolen", "fraud"),
        ReasonCode("other", "Another reason", None),
    )
    assert settings.lists["account", "block"] == "bad_cards"
    assert settings.lists["merchant", "block"] == "blocked_merchants"
    assert settings.second_person == {"block"}
    assert (settings.claim_seconds, settings.sla_seconds) == (300.0, 3600.0)
    file.write_text("")
    assert read_settings(file).reasons == DEFAULT_REASONS


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("claims = 1", "claims"),
        ('claim = "soon"', "claim"),
        ('second_person = ["eat"]', "second_person"),
        ('[[reason]]\ntext = "x"', "code is missing"),
        ('[[reason]]\ncode = "a b"\ntext = "x"', "code must be"),
        ('[[reason]]\ncode = "a"\ntext = "x"\nverdict = "maybe"', "verdict"),
        (2 * '[[reason]]\ncode = "a"\ntext = "x"\n', "twice"),
        ('[lists.card]\nblock = "x"', "lists"),
    ],
)
def test_wrong_settings(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "review.toml"
    file.write_text(text)
    with fails(Code.REVIEW_SETTINGS, match):
        read_settings(file)


def test_a_missing_file_and_a_wrong_list(tmp_path: Path) -> None:
    with fails(Code.REVIEW_SETTINGS, "cannot be read"):
        read_settings(tmp_path / "nowhere.toml")
    file = tmp_path / "review.toml"
    file.write_text('[lists.account]\nblock = "../x"')
    with fails(Code.LIST_INVALID, r"\.\./x"):
        read_settings(file)
