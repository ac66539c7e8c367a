"""The text of an alert: the rule that raised it, and times in the schema's time zone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from beam_fraud.alerts.alert import Alert, AlertContext, FiredRule, RuleTerms
from beam_fraud.alerts.channels.console import alert_line
from beam_fraud.alerts.channels.slack import message_blocks
from beam_fraud.alerts.message import FIELDS
from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.alerts.samples import sample_alert
from beam_fraud.alerts.template import default_template
from beam_fraud.alerts.wording import clock_time, headline, shown
from beam_fraud.cli.commands import check_rules, score
from beam_fraud.cli.options import CheckRulesOptions, ScoreOptions
from beam_fraud.decisions.rules.toml import rules_from_toml
from beam_fraud.errors import Code, UsageError
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.flagged import message_of

CONDITION = "amount > 150 and account_count_1h > 3"
ROLES = {"transaction_id": "id", "event_time": "t", "account_id": "acc", "amount": "a"}


def alert(*rules: FiredRule, **changed: object) -> Alert:
    names = tuple(rule.rule for rule in rules)
    when = datetime(2024, 3, 1, 13, 5, 59, tzinfo=UTC)
    created = replace(
        sample_alert(when=when), decision="review", score=0.03, fired_rules=rules, rules=names
    )
    return replace(created, timezone="Europe/Brussels", **changed)  # type: ignore[arg-type]


FAST = FiredRule("large_and_fast", True, CONDITION)


def test_an_alert_of_a_rule_begins_with_the_rule() -> None:
    title = f"review by rule large_and_fast ({CONDITION}), score 0.03, amount 1,234.50"
    assert shown(alert(FAST)).title == title
    assert headline(message_of([alert(FAST)])) == f"Fraud alert: {title}"
    assert alert_line(alert(FAST)).startswith(
        f'ALERT review by="rule large_and_fast ({CONDITION})" score=0.0300 '
    )
    for text in (
        default_template("message.txt").render(message_of([alert(FAST)])),
        json.dumps(message_blocks(message_of([alert(FAST)]))),
    ):
        assert title in text


def test_a_rules_description_replaces_its_condition() -> None:
    described = replace(FAST, description="Many large amounts")
    assert "by rule large_and_fast (Many large amounts), " in shown(alert(described)).title


def test_a_rule_that_agrees_with_the_model_is_among_the_fields() -> None:
    agrees = shown(alert(replace(FAST, raised=False), score=0.97))
    assert agrees.title == "review, score 0.97, amount 1,234.50"
    assert ("Rules", f"large_and_fast ({CONDITION})") in agrees.rows


def test_a_long_condition_is_cut_and_a_hostile_one_is_escaped() -> None:
    long = shown(alert(replace(FAST, condition="amount > 1 or " * 14))).title
    assert "…), score" in long
    assert len(long) < 150
    assert "\x1b" not in shown(alert(replace(FAST, condition="amount > 1 \x1b[2J"))).title


def test_fields_that_are_not_shown_are_not_in_the_title() -> None:
    fields = tuple(name for name in FIELDS if name != "rules")
    assert "large_and_fast" not in shown(alert(FAST), fields).title
    assert "large_and_fast" not in alert_line(alert(FAST), fields)


TERMS = (
    RuleTerms("vip", "approve", 5),
    RuleTerms("strict", "review", 5),
    RuleTerms("wide", "review", 0),
    RuleTerms("worst", "decline", 0),
)


@pytest.mark.parametrize(
    ("score", "names", "decision", "raised"),
    [
        (0.1, ["wide"], "review", ["wide"]),
        (0.6, ["wide"], "review", []),
        (0.6, ["wide", "worst"], "decline", ["worst"]),
        (0.95, ["worst"], "decline", []),
        # What lets pass takes back the model's decision and that of lower rules.
        (0.6, ["vip", "strict", "wide"], "review", ["strict"]),
    ],
)
def test_a_rule_raises_a_milder_decision(
    score: float, names: list[str], decision: str, raised: list[str]
) -> None:
    context = AlertContext(review=0.5, decline=0.9, rules=TERMS)
    fired = context.fired(names, decision, context.model_decision(score))
    assert sorted(rule.rule for rule in fired) == sorted(names)
    assert [rule.rule for rule in fired if rule.raised] == raised
    assert [rule.raised for rule in fired] == sorted((r.raised for r in fired), reverse=True)


@pytest.mark.parametrize(
    ("timezone", "shown_as"),
    [
        ("UTC", "2024-07-01 23:30 +00:00"),
        ("Europe/Brussels", "2024-07-02 01:30 +02:00"),
        ("America/St_Johns", "2024-07-01 21:00 -02:30"),
        ("Nowhere/Unknown", "2024-07-01 23:30 +00:00"),
    ],
)
def test_times_are_those_of_the_readers_clock(timezone: str, shown_as: str) -> None:
    moment = datetime(2024, 7, 1, 23, 30, 5, tzinfo=UTC)
    assert clock_time(moment, timezone) == shown_as


def test_every_text_for_people_has_times_in_the_zone() -> None:
    message = message_of([alert(FAST)])
    texts = [
        alert_line(alert(FAST)),
        default_template("message.txt").render(message),
        default_template("message.html").render(message),
        json.dumps(message_blocks(message)),
    ]
    for text in texts:
        assert "2024-03-01 14:05 +01:00" in text
        assert "UTC" not in text


def test_pseudonyms_leave_no_id_in_the_words_of_a_rule() -> None:
    names = Pseudonyms(b"sixteen bytes or")
    named = replace(FAST, condition="merchant_id == 'of somebody else'", description="Rule 7")
    of_own = replace(
        FAST, rule="own", description="Card test-account again", condition="amount > 1"
    )
    [one, other] = names.alert(alert(named, of_own)).fired_rules
    assert (one.condition, one.description) == (None, "Rule 7")
    assert (other.condition, other.description) == ("amount > 1", None)


RULE = '[[rule]]\nname = "large"\nwhen = """amount\n > 2"""\ndecision = "decline"\n'


@pytest.mark.parametrize("value", ["7", '""', '"a\\u001bb"', f'"{"x" * 201}"'])
def test_a_description_is_text_that_can_be_shown(value: str) -> None:
    with fails(Code.RULES_INVALID, r"rule large \(line 1\): description must be", kind=UsageError):
        rules_from_toml(f"{RULE}description = {value}", {"amount": "number"})


def test_messages_of_a_run_have_rule_and_zone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.toml").write_text(RULE)
    (tmp_path / "s.toml").write_text(
        'name = "bank"\ntimezone = "Asia/Tokyo"\n[roles]\n'
        + "".join(f'{role} = "{column}"\n' for role, column in ROLES.items())
    )
    (tmp_path / "day.csv").write_text("id,t,acc,a\nt1,2024-01-01T00:00:00Z,c,9\n")
    options = ScoreOptions(
        files=(str(tmp_path / "day.csv"),),
        model=bundle(tmp_path / "model", ROLES),
        schema=str(tmp_path / "s.toml"),
        rules=str(tmp_path / "rules.toml"),
        out=str(tmp_path / "out"),
        alerts=("console:", f"file:{tmp_path}/alerts.jsonl"),
    )
    score.run(options)
    message = capsys.readouterr()
    [line] = [line for line in (message.out + message.err).splitlines() if line.startswith("ALERT")]
    assert line.startswith('ALERT decline by="rule large (amount > 2)" ')
    assert 'time="2024-01-01 09:00 +09:00"' in line
    decoded = json.loads((tmp_path / "alerts.jsonl").read_text())
    assert decoded["event_time"] == "2024-01-01T00:00:00Z"
    assert decoded["timezone"] == "Asia/Tokyo"
    assert decoded["fired_rules"] == [
        {"rule": "large", "raised": True, "condition": "amount > 2", "description": None}
    ]


def test_rules_check_shows_the_description(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(f'{RULE}description = "A large amount"\n')
    (tmp_path / "s.toml").write_text(
        'name = "bank"\n[roles]\n' + "".join(f'{r} = "{c}"\n' for r, c in ROLES.items())
    )
    (tmp_path / "day.csv").write_text("id,t,acc,a\nt1,2024-01-01T00:00:00Z,c,9\n")
    options = CheckRulesOptions(
        file=str(tmp_path / "rules.toml"),
        on=(str(tmp_path / "day.csv"),),
        schema=str(tmp_path / "s.toml"),
    )
    result = check_rules.run(options)
    assert result["rules"]["large"]["description"] == "A large amount"  # type: ignore[index]
    assert check_rules.render(result).endswith("large: A large amount")
