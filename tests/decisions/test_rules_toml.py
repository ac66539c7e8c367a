"""The rules file: valid entries, and the errors of invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.decisions.rules.condition import Among, Kind
from beam_fraud.decisions.rules.files import RULES_FILE
from beam_fraud.decisions.rules.kept import keep_rules, kept_rules
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import (
    files_of_lists,
    load_rules,
    read_rule_files,
    rules_from_toml,
)
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.registry.registry import Author, add_rules
from beam_fraud.storage.store import store_at
from beam_fraud.storage.urls import Place
from tests.failing import fails

NAMES: dict[str, Kind] = {"amount": "number", "score": "number", "merchant_id": "text"}
GOOD = """
[[rule]]
name = "large"
when = "amount > 2000"
decision = "review"
"""


def test_rules_are_ordered_by_priority_then_as_in_the_file() -> None:
    text = GOOD + "".join(
        f'[[rule]]\nname = "{name}"\nwhen = "score > 0.5"\ndecision = "{decision}"\n{priority}\n'
        for name, decision, priority in (
            ("low", "decline", "priority = -1"),
            ("high", "approve", "priority = 7"),
            ("also high", "decline", "priority = 7"),
        )
    )
    rules = rules_from_toml(text, NAMES)
    assert rules.names == ("high", "also high", "large", "low")
    assert rules.raising == ("also high", "large", "low")
    assert rules.columns == ("score", "amount")


def test_a_list_comes_from_the_file_beside_the_rules(tmp_path: Path) -> None:
    (tmp_path / "trusted.txt").write_text("\ufeff# ours\n m1 \n\nm2#x\nm1\n", encoding="utf-8")
    (tmp_path / "rules.toml").write_text(
        '[[list]]\nname = "trusted"\nfile = "trusted.txt"\n'
        + GOOD.replace("amount > 2000", "merchant_id in trusted")
    )
    (rule,) = load_rules(str(tmp_path / "rules.toml"), NAMES).rules
    assert isinstance(rule.condition, Among)
    assert rule.condition.values == ("m1", "m2#x")


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("[[list]]\nname = 'profile'\nfile = 'a.txt'\n", ("a.txt",)),
        ('[[list]]\nname = "l"\n"\\u0066ile" = "ä.txt"\n', ("ä.txt",)),
        ("[[list]]\nname = 'l'\nvalues = ['profile']\n", ()),
        ("[[list]]\nname = 'l'\nvalues = ['a']\n", ()),
        ("[[list]]\nfile = 'a.txt'\n", ()),
        ("file = [", ()),
    ],
)
def test_the_files_of_lists_are_asked_for_once(
    tmp_path: Path, text: str, files: tuple[str, ...]
) -> None:
    rules, asked = tmp_path / "rules.toml", list[bytes]()
    rules.write_text(text + f"# {tmp_path}", "utf-8")
    for name in files:
        (tmp_path / name).write_text("m1")

    def files_of(data: bytes, where: str) -> tuple[str, ...]:
        asked.append(data)
        return files_of_lists(data, where)

    for _ in range(2):
        read = read_rule_files(str(rules), files_of)
        assert tuple(read.contents) == (RULES_FILE, *files)
    assert asked == [rules.read_bytes()]
    rules.write_text(text + "# changed")
    assert read_rule_files(str(rules), files_of).id != read.id
    assert len(asked) == 2


def test_files_of_lists_are_kept_as_they_were(tmp_path: Path) -> None:
    lists = {"a.txt": 'ü😀"\\\t\n'.encode() * 20_000, 'b".txt': b"\xef\xbb\xbfm1", "c": b""}
    contents = {RULES_FILE: GOOD.encode(), **lists}
    keep_rules(tmp_path, RuleSet((), id="night@0123456789ab", files=contents))
    kept = kept_rules(store_at(tmp_path), "", "night@0123456789ab")
    assert kept is not None
    assert kept.contents == contents


def test_a_list_of_another_kind_is_refused_however_long_it_is(tmp_path: Path) -> None:
    for size in (2, 5_000):
        values = ", ".join(f"{n}" for n in range(size))
        text = f"[[list]]\nname = 'l'\nvalues = [{values}]\n"
        rule = GOOD.replace("amount > 2000", "merchant_id in l")
        with fails(Code.RULE_CONDITION, "the list holds 0.0, which is a number"):
            rules_from_toml(text + rule, NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.replace("amount", "amout"),
            "r.toml: rule large (line 2): when, column 1: unknown name 'amout' (did you mean "
            "'amount'?)",
        ),
        (
            GOOD.replace('"amount > 2000"', '"""amount > 1\nand amout > 2"""'),
            "r.toml: rule large (line 2): when, line 2, column 5: unknown name 'amout'",
        ),
        (GOOD.replace("[[rule]]", "[rule]"), "r.toml: rule must be written as [[rule]]"),
        (GOOD.replace("rule", "rules"), "r.toml: unknown key 'rules' (did you mean 'rule'?)"),
        (GOOD.replace("when", "wen"), "r.toml: rule large (line 2): unknown key 'wen' (did you "),
        (GOOD.replace('name = "large"', ""), "r.toml: rule 1 (line 2): name is missing"),
        (GOOD.replace('"large"', "3"), "r.toml: rule 1 (line 2): name must be of letters"),
        (GOOD.replace('"large"', '"<b>"'), "r.toml: rule 1 (line 2): name must be of letters"),
        (GOOD + GOOD, "r.toml: rule large (line 7): there is one of that name; rename it"),
        (GOOD.replace("review", "deny"), "decision must be one of review, decline, approve, "),
        (GOOD.replace('decision = "review"', ""), "decision is missing (one of review, "),
        (GOOD + "priority = 1.5", "priority must be a whole number up to 1,000,000,000, not 1.5"),
        (GOOD + "priority = true", "priority must be a whole number"),
        (GOOD + "priority = 99999999999999999999", "priority must be a whole number"),
        (GOOD.replace('"amount > 2000"', "2000"), 'when must be text, as in when = "'),
        (GOOD.replace('when = "amount > 2000"', ""), "when is missing (text, as in when ="),
        ("", "r.toml: has no [[rule]]"),
        ("rule = [", "r.toml: not TOML"),
        ("a = " + "[" * 5_000, "r.toml: not TOML: it nests too deeply"),
        ("rule = 3", "r.toml: rule must be written as [[rule]]"),
        ("[[list]]\nvalues = ['a']\n" + GOOD, "r.toml: list 1: name is missing (one word"),
        ("[[list]]\nname = 'a b'\nvalues = ['a']\n" + GOOD, "list a b: name must be one word"),
        ("[[list]]\nname = 'in'\nvalues = ['a']\n" + GOOD, "list in: is a word of conditions"),
        ("[[list]]\nname = 'a'\n" + GOOD, "list a: needs either values = [..] or file = '..'"),
        ("[[list]]\nname = 'a'\nvalues = []\n" + GOOD, "list a: values must be texts, or numbers"),
        ("[[list]]\nname = 'a'\nvalues = ['a', 1]\n" + GOOD, "list a: values must be texts, or"),
        ("[[list]]\nname = 'a'\nvalues = [true]\n" + GOOD, "list a: values must be texts, or"),
        ("[[list]]\nname = 'a'\nvalues = [nan]\n" + GOOD, "list a: values must be texts, or"),
        ("[[list]]\nname = 'a'\nvalue = ['a']\n" + GOOD, "list a: unknown key 'value'"),
        ("[[list]]\nname = 'a'\nvalues = ['a']\n" * 2 + GOOD, "list a: there is one of that name"),
        ("[[list]]\nname = 'a'\nfile = 'empty.txt'\n" + GOOD, "list a: file empty.txt holds no "),
        ("[[list]]\nname = 'a'\nfile = 3\n" + GOOD, "list a: file must be the name of a file"),
    ],
)  # fmt: skip
def test_invalid_entries_are_a_usage_error_of_one_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(text, encoding="utf-8")
    Path("empty.txt").write_text("# nothing\n")
    with pytest.raises(UsageError) as refused:
        load_rules("r.toml", NAMES)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["absent.toml", "binary.toml", "."])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FraudError, match=r"rules file .* cannot be read: \w") as refused:
        load_rules(str(tmp_path / name), NAMES)
    assert len(str(refused.value).splitlines()) == 1


def test_a_missing_file_of_a_list_is_named() -> None:
    text = "[[list]]\nname = 'a'\nfile = 'absent.txt'\n" + GOOD
    with pytest.raises(FraudError, match=r"r: list a: file absent\.txt cannot be read: No such"):
        rules_from_toml(text, NAMES, where="r")


def test_a_rule_may_be_in_shadow_or_for_some_accounts() -> None:
    text = GOOD + 'mode = "shadow"\n' + GOOD.replace("large", "some") + "rollout = 12.5\n"
    shadow, some = rules_from_toml(text, {**NAMES, "account_id": "text"}).rules
    assert (shadow.shadow, shadow.rollout, shadow.staged) == (True, 100, {"mode": "shadow"})
    assert (some.shadow, some.rollout, some.staged) == (False, 12.5, {"rollout": 12.5})
    assert rules_from_toml(text, {**NAMES, "account_id": "text"}).raising == ("some",)
    # All accounts are no share of them.
    (rule,) = rules_from_toml(GOOD + "rollout = 100\n", NAMES).rules
    assert rule == rules_from_toml(GOOD, NAMES).rules[0]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('mode = "off"', "mode must be one of live, shadow"),
        *((f"rollout = {value}", "rollout must be a share") for value in ("0", "-1", "100.1")),
        *((f"rollout = {value}", "rollout must be a share") for value in ("nan", '"10"', "true")),
        ("rollout = 10", "the schema has none"),
    ],
)
def test_a_wrong_mode_or_share_is_refused(line: str, named: str) -> None:
    with fails(Code.RULES_INVALID, named, UsageError):
        rules_from_toml(GOOD + line, NAMES)


def test_the_id_of_rules_is_that_of_the_registry(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("17\n")
    path = tmp_path / "night.toml"
    path.write_text(
        '[[list]]\nname = "bad"\nfile = "bad.txt"\n'
        + GOOD.replace("amount > 2000", "merchant_id in bad")
    )
    before = load_rules(str(path), NAMES).id
    place = Place.at(tmp_path / "registry")
    added = add_rules(place, "night", read_rule_files(str(path)).contents, Author("ann"))
    assert before is not None
    assert before.startswith("night@")
    assert list(added.standing.members) == [before]
    (tmp_path / "bad.txt").write_text("18\n")
    assert load_rules(str(path), NAMES).id != before
