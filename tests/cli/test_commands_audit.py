"""`audit`: every decision is found, shown as it was, and computed again bit for bit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.alerts.pseudonym import KEY_VARIABLE, Pseudonyms
from beam_fraud.cli import main
from beam_fraud.cli.commands import audit, erase, rescore, score, stream, train
from beam_fraud.cli.options import (
    AuditOptions,
    EraseOptions,
    ReplayOptions,
    RescoreOptions,
    ScoreOptions,
    StreamOptions,
    TrainOptions,
)
from beam_fraud.decisions.inputs import FEATURES, KEPT
from beam_fraud.decisions.lists.changes import Change, append_changes
from beam_fraud.decisions.rules.toml import read_rule_files
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.registry.registry import add_model, add_rules, open_registry
from beam_fraud.operations.audit.archive import Archive
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.models.registering import ANN
from tests.object_store import KeptObjects
from tests.shop import SHOP

KINDS = {"hist_gradient_boosting": ("trees=10",), "forest": ("trees=5",), "logistic": ()}
#: Windows of the account alone, so that a stream's are those of a file.
SCHEMA = f"""{SHOP}
[[feature]]
column = "mcc"
kind = "categorical"
missing = "allow"
[[feature]]
column = "age"
missing = "allow"
[[velocity]]
key = "account_id"
windows = ["1d", "2d"]
aggregates = ["count", "mean", "std"]
"""
RULES = """
[[rule]]
name = "large"
when = "amount > 100 and mcc != 'm1'"
decision = "review"

[[rule]]
name = "blocked"
when = "account_id in @blocked"
decision = "decline"
priority = 5

[[rule]]
name = "tried"
when = "amount > 20"
decision = "decline"
mode = "shadow"

[[rule]]
name = "some accounts"
when = "amount > 60"
decision = "review"
rollout = 50

[[rule]]
name = "unknown shop"
when = "merchant_id not in @shops and is_night == 1 and account_count_2d > 1"
decision = "review"
"""
#: Ids that a shell, a glob, SQL, JSON or a terminal may take for something else.
HOSTILE = (
    "a*[b]?.parquet",
    "../../etc/passwd",
    "'; DROP TABLE alerts; --",
    'quo"te\\n',
    "line\nbreak\ttab",
    "\x1b[31mred\x1b[0m",
    "-ü-\u202e-😀",
    "--json",
    " ",
)


@dataclass(frozen=True)
class Shop:
    """Transactions, a model of each kind, rules and lists."""

    directory: Path
    rows: pa.Table

    @property
    def file(self) -> str:
        return str(self.directory / "days" / "later.parquet")

    @property
    def rules(self) -> str:
        return str(self.directory / "rules.toml")

    @property
    def lists(self) -> str:
        return str(self.directory / "lists")

    def model(self, kind: str) -> str:
        return str(self.directory / kind)

    def options(self, out: Path, kind: str = "hist_gradient_boosting") -> ScoreOptions:
        return ScoreOptions(
            files=(self.file,),
            model=self.model(kind),
            rules=self.rules,
            lists=self.lists,
            keep_features=True,
            out=str(out),
        )

    def audited(self, name: str, out: Path, **options: Any) -> dict[str, Any]:
        """Audit with the rules and lists, and the model of boosting unless others are given."""
        if "registry" not in options:
            options.setdefault("model", self.model("hist_gradient_boosting"))
            options.setdefault("rules", self.rules)
            options.setdefault("lists", self.lists)
        result: dict[str, Any] = audit.run(
            AuditOptions(transaction_id=name, out=str(out), **options)
        )
        assert audit.render(result)
        json.dumps(result, allow_nan=False)
        return result


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    directory = tmp_path_factory.mktemp("shop")
    random, rows = np.random.default_rng(1), 900
    seconds = np.sort(random.integers(6 * 86_400, size=rows))
    price = random.lognormal(3.5, 1, rows).round(2)
    names = [*HOSTILE, *(f"x{row}" for row in range(len(HOSTILE), rows))]
    table = pa.table(
        {
            "id": names[::-1],
            "t": pa.array(np.datetime64("2024-01-01T00:00:00", "us") + seconds.astype("m8[s]")),
            "card": [f"c{n}" for n in random.integers(25, size=rows)],
            "shop": [f"s{n}" for n in random.integers(20, size=rows)],
            "price": price,
            "fraud": ((random.random(rows) < 0.05) | (price > 200)).astype(np.int8),
            "mcc": pa.array(
                random.choice(["m1", "m2", "m3"], rows), mask=random.random(rows) < 0.1
            ),
            "age": pa.array(random.normal(40, 9, rows), mask=random.random(rows) < 0.2),
        }
    )
    (directory / "days").mkdir()
    pq.write_table(table.slice(0, 600), directory / "earlier.parquet")
    pq.write_table(table.slice(600), directory / "days" / "later.parquet")
    (directory / "shop.toml").write_text(SCHEMA)
    (directory / "rules.toml").write_text(RULES)
    made = Shop(directory, table.slice(600))
    for kind, settings in KINDS.items():
        train.run(
            TrainOptions(
                files=(str(directory / "earlier.parquet"),),
                schema=str(directory / "shop.toml"),
                model=kind,
                out=made.model(kind),
                settings=settings,
            )
        )
    now, lists = datetime.now(UTC), Path(made.lists)
    append_changes(
        lists, "blocked", [Change(f"c{n}", "add", now, "ann", reason="stolen") for n in (1, 2)]
    )
    append_changes(lists, "shops", [Change(f"s{n}", "add", now, "bob") for n in range(5, 20)])
    return made


@pytest.fixture(scope="module")
def out(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `score` left, for tests that change nothing there."""
    directory = tmp_path_factory.mktemp("scored") / "out"
    score.run(shop.options(directory))
    return directory


def interesting(out: Path, pattern: str = "scores/*.parquet", most: int = 12) -> list[str]:
    """Return ids of rows of each decision, and of each combination of rules."""
    chosen: dict[tuple[object, ...], str] = {}
    for file in sorted(out.glob(pattern)):
        for row in pq.read_table(file).to_pylist():
            what = (row["decision"], *(row["rules"] or ()), *(row.get("muted_rules") or ()))
            chosen.setdefault(what, row["transaction_id"])
    return list(chosen.values())[:most]


def assert_agrees(result: dict[str, Any]) -> None:
    assert result["rows"]
    for row in result["rows"]:
        assert not row["missing"]
        assert {check["what"] for check in row["checks"]} >= {"score", "decision", "rules"}
        assert [check for check in row["checks"] if not check["agrees"]] == []
    assert result["agrees"]


def differing(result: dict[str, Any]) -> set[str]:
    [row] = result["rows"]
    assert not result["agrees"]
    return {check["what"] for check in row["checks"] if not check["agrees"]}


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_of_score_agree(shop: Shop, tmp_path: Path, kind: str) -> None:
    score.run(shop.options(tmp_path / "out", kind))
    chosen = interesting(tmp_path / "out")
    assert len(chosen) >= 5
    for name in chosen:
        assert_agrees(shop.audited(name, tmp_path / "out", model=shop.model(kind)))


def test_a_decision_is_shown_as_it_was(shop: Shop, out: Path) -> None:
    table = pq.read_table(out / "scores")
    row = table.filter(pc.equal(table["account_id"], "c1")).to_pylist()[0]
    shown = shop.audited(row["transaction_id"], out)["rows"][0]
    for name in ("score", "decision", "rules", "reasons", "model_id", "rules_id"):
        assert shown[name] == row[name]
    assert "blocked" in shown["rules"]
    [blocked] = [one for one in shown["lists"] if one["list"] == "blocked"]
    assert blocked["listed"]
    assert (blocked["change"]["who"], blocked["change"]["reason"]) == ("ann", "stolen")
    assert shown[FEATURES].keys() == row[FEATURES].keys()


def test_a_registry_has_what_decided(shop: Shop, out: Path, tmp_path: Path) -> None:
    registry = Place.at(tmp_path / "registry")
    files = read_rule_files(shop.rules)
    add_model(registry, load_bundle(shop.model("hist_gradient_boosting")), ANN)
    add_rules(registry, files.name, files.contents, ANN)
    [name, *_] = interesting(out)
    assert_agrees(shop.audited(name, out, registry=str(registry)))
    assert open_registry(registry).standing.champion is None


def test_a_run_keeps_its_rules_with_the_files_of_their_lists(shop: Shop, tmp_path: Path) -> None:
    rules = tmp_path / "desk" / "night shift.toml"
    rules.parent.mkdir()
    (rules.parent / "far.txt").write_text("s1\ns2\n")
    rules.write_text(
        '[[list]]\nname = "far"\nfile = "far.txt"\n'
        '[[rule]]\nname = "far"\nwhen = "merchant_id in far"\ndecision = "review"\n'
    )
    out = tmp_path / "out"
    score.run(replace(shop.options(out), rules=str(rules)))
    # As the desk goes on with other rules.
    rules.unlink()
    (rules.parent / "far.txt").write_text("s3\n")
    [name, *_] = interesting(out)
    result = shop.audited(name, out, rules=None)
    (found,) = result["rows"]
    assert found["rules_id"].startswith("night shift@")
    assert_agrees(result)
    kept = out / "rules" / f"{found['rules_id']}.lists.json"
    kept.write_text(kept.read_text().replace("s2", "s9"))
    (changed,) = shop.audited(name, out, rules=None)["rows"]
    assert "was changed" in changed["missing"][0]


def test_later_changes_of_a_list_change_no_earlier_decision(
    shop: Shop, out: Path, tmp_path: Path
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for file in Path(shop.lists).iterdir():
        (lists / file.name).write_bytes(file.read_bytes())
    table = pq.read_table(out / "scores")
    row = table.filter(pc.equal(table["account_id"], "c1")).to_pylist()[0]
    append_changes(lists, "blocked", [Change("c1", "remove", datetime.now(UTC), "eve")])
    assert_agrees(shop.audited(row["transaction_id"], out, lists=str(lists)))
    # A list that was written again has other values.
    (lists / "blocked.jsonl").write_text("")
    assert differing(shop.audited(row["transaction_id"], out, lists=str(lists))) == {"lists"}


def test_decisions_of_a_stream_agree_also_of_muted_rules(shop: Shop, tmp_path: Path) -> None:
    # Within an hour, in which a rule is muted.
    start = np.datetime64("2024-01-07T00:00:00", "us")
    times = pa.array(start + np.arange(len(shop.rows)) * np.timedelta64(10, "s"))
    (tmp_path / "inbox").mkdir()
    rows = shop.rows.set_column(1, "t", times)
    pq.write_table(rows, tmp_path / "inbox" / "day.parquet")
    (tmp_path / "out").mkdir()
    options = StreamOptions(
        watch=str(tmp_path / "inbox"),
        model=shop.model("logistic"),
        rules=shop.rules,
        lists=shop.lists,
        keep_features=True,
        out=str(tmp_path / "out"),
        until_idle=0.2,
        rule_limit=0.05,
    )
    stream.run(options)
    table = pq.read_table(tmp_path / "out" / "scores")
    assert len(table) == len(rows)
    muted = table["muted_rules"].combine_chunks().flatten()
    assert muted.unique().to_pylist()
    for name in interesting(tmp_path / "out"):
        assert_agrees(shop.audited(name, tmp_path / "out", model=shop.model("logistic")))


def test_every_side_of_a_rescore_agrees(shop: Shop, tmp_path: Path) -> None:
    rules = tmp_path / "few.toml"
    rules.write_text("[[rule]]" + RULES.split("[[rule]]")[1])
    options = RescoreOptions(
        files=(shop.file,),
        model=shop.model("forest"),
        against=(shop.model("logistic"),),
        rules=str(rules),
        keep_features=True,
        out=str(tmp_path / "out"),
    )
    rescore.run(options)
    registry, files = Place.at(tmp_path / "registry"), read_rule_files(str(rules))
    add_rules(registry, files.name, files.contents, ANN)
    for kind in ("forest", "logistic"):
        add_model(registry, load_bundle(shop.model(kind)), ANN)
    for name in interesting(tmp_path / "out", "partitions/*/scores/*.parquet", 4):
        result = shop.audited(name, tmp_path / "out", registry=str(registry))
        assert [row["shadow"] for row in result["rows"]] == [False, True]
        assert_agrees(result)


def changed(out: Path, copy: Path, name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy an archive with one row changed."""
    (copy / "scores").mkdir(parents=True)
    for file in (out / "scores").glob("*.parquet"):
        table = pq.read_table(file)
        rows = table.to_pylist()
        for row in rows:
            if row["transaction_id"] == name:
                change(row)
        schema = table.schema.remove_metadata()
        pq.write_table(pa.Table.from_pylist(rows, schema), copy / "scores" / file.name)
    return copy


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("score", 0.123456789, {"score"}),
        ("decision", "approve", {"decision"}),
        ("rules", [], {"rules"}),
        ("reasons", "less", {"reasons"}),
        (FEATURES, "less", {"score", "reasons", "rules", "decision"}),
    ],
)
def test_a_changed_row_is_told(
    shop: Shop, out: Path, tmp_path: Path, column: str, value: Any, what: set[str]
) -> None:
    rows = pq.read_table(out / "scores").to_pylist()
    name = next(row["transaction_id"] for row in rows if row["rules"] == ["large"])

    def change(row: dict[str, Any]) -> None:
        if value != "less":
            row[column] = value
        elif column == "reasons":
            row[column][0]["contribution"] = np.nextafter(row[column][0]["contribution"], 0)
        else:
            row[column]["amount"] = 1.0
            row["amount"] = 1.0

    told = differing(shop.audited(name, changed(out, tmp_path / "copy", name, change)))
    assert told
    assert told <= what


def test_one_bit_of_a_score_is_told(shop: Shop, out: Path, tmp_path: Path) -> None:
    [name, *_] = interesting(out)
    copy = changed(
        out, tmp_path / "copy", name, lambda row: row.update(score=np.nextafter(row["score"], 1))
    )
    assert differing(shop.audited(name, copy)) == {"score"}


def test_what_is_missing_is_named(shop: Shop, out: Path, tmp_path: Path) -> None:
    [name, *_] = interesting(out)
    other, rules = shop.model("forest"), tmp_path / "rules.toml"
    rules.write_text(RULES.replace("100", "101"))
    registry = Place.at(tmp_path / "registry")
    add_model(registry, load_bundle(other), ANN)
    for options, named in (
        ({"model": other}, f"model: .*{load_bundle(other).model_id}"),
        ({"rules": str(rules)}, f"rules: .*{read_rule_files(str(rules)).id}"),
        ({"registry": str(registry)}, "model: .*has no hist_gradient_boosting@"),
        ({"model": None}, "model: give --registry or --model"),
    ):
        [row] = shop.audited(name, out, **options)["rows"]
        assert not row["agrees"]
        [why] = row["missing"]
        assert pc.match_substring_regex(pa.array([why]), named)[0].as_py(), why


def test_the_archive_may_have_the_rules(shop: Shop, out: Path, tmp_path: Path) -> None:
    [name, *_] = interesting(out)
    copy = changed(out, tmp_path / "copy", name, lambda row: None)
    (copy / "rules").mkdir(exist_ok=True)
    kept = copy / "rules" / f"{read_rule_files(shop.rules).id}.toml"
    kept.write_text(RULES)
    assert_agrees(shop.audited(name, copy, rules=None))
    kept.write_text(RULES + "# changed")
    [row] = shop.audited(name, copy, rules=None)["rows"]
    assert "was changed" in row["missing"][0]


def test_without_kept_features_the_record_is_shown(shop: Shop, tmp_path: Path) -> None:
    score.run(replace(shop.options(tmp_path / "out"), keep_features=False))
    table = pq.read_table(tmp_path / "out" / "scores")
    assert not set(KEPT) & set(table.column_names)
    row = table.to_pylist()[0]
    result = shop.audited(row["transaction_id"], tmp_path / "out")
    assert not result["agrees"]
    assert result["rows"][0]["score"] == row["score"]
    assert "--keep-features" in result["rows"][0]["missing"][0]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ids_are_ids(shop: Shop, out: Path, name: str) -> None:
    assert_agrees(shop.audited(name, out))
    shown = audit.render(shop.audited(name, out))
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize("name", ["x1000", "", "*", "\udcff", "x1' OR '1'='1"])
def test_an_unknown_id_is_an_error(shop: Shop, out: Path, name: str) -> None:
    with fails(Code.TRANSACTION_UNKNOWN):
        shop.audited(name, out)


def test_wrong_calls(shop: Shop, out: Path, tmp_path: Path) -> None:
    with fails(Code.OPTION_CONFLICT, "--registry", UsageError):
        shop.audited("x20", out, registry=str(tmp_path), model=shop.model("forest"))
    with fails(Code.PLACE_EMPTY, str(tmp_path)):
        shop.audited("x20", tmp_path)
    clash = RescoreOptions(
        files=(shop.file,),
        model=shop.model("forest"),
        segments=(FEATURES,),
        keep_features=True,
        out=str(tmp_path / "out"),
    )
    with fails(Code.OPTION_CONFLICT, f"--segment {FEATURES}", UsageError):
        rescore.run(clash)


def test_a_dead_letter_is_shown_with_its_reason(shop: Shop, tmp_path: Path) -> None:
    table = shop.rows.slice(0, 20).to_pylist()
    file = tmp_path / "day.jsonl"
    good = json.dumps({**table[0], "t": "2024-01-02T00:00:00Z", "id": "twice"})
    bad = json.dumps({**table[1], "t": "2024-01-02T00:00:00Z", "price": None, "id": "twice"})
    other = json.dumps({**table[1], "t": "2024-01-02T00:00:00Z", "price": None, "card": "twice"})
    file.write_text(f"{good}\n{bad}\n{other}\n")
    score.run(replace(shop.options(tmp_path / "out"), files=(str(file),)))
    result = shop.audited("twice", tmp_path / "out")
    assert_agrees(result)
    [letter] = result["dead_letters"]
    assert letter["reason"] == "missing_amount"
    assert "missing_amount" in audit.render(result)


def test_the_pseudonym_of_an_alert_is_found_by_its_key(
    shop: Shop, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pq.read_table(out / "scores").to_pylist()
    name = next(row["transaction_id"] for row in rows if row["flagged"])
    pseudonym = Pseudonyms(b"sixteen bytes or more").of("transaction", name)
    with fails(Code.TRANSACTION_UNKNOWN, KEY_VARIABLE):
        shop.audited(pseudonym, out)
    monkeypatch.setenv(KEY_VARIABLE, "sixteen bytes or more")
    result = shop.audited(pseudonym, out)
    assert result["transaction_id"] == name
    assert_agrees(result)


def test_an_archive_at_a_url_answers(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "objects").mkdir()
    monkeypatch.setattr(KeptObjects, "root", tmp_path / "objects", raising=False)
    options = shop.options(tmp_path)
    score.run(replace(options, out="kept://bucket/out"))
    for name in HOSTILE[:2]:
        result = audit.run(
            AuditOptions(
                transaction_id=name, out="kept://bucket/out", model=options.model, rules=shop.rules
            )
        )
        assert_agrees(result)


def test_an_erased_account_leaves_no_inputs(shop: Shop, tmp_path: Path) -> None:
    score.run(shop.options(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out" / "scores")
    account = table["account_id"][0].as_py()
    gone = table.filter(pc.equal(table["account_id"], account))["transaction_id"].to_pylist()
    erase.run(EraseOptions(accounts=(account,), outs=(str(tmp_path / "out"),), yes=True))
    left = pq.read_table(tmp_path / "out" / "scores")
    assert left.schema.names == table.schema.names
    assert len(left) == len(table) - len(gone)
    with fails(Code.TRANSACTION_UNKNOWN):
        shop.audited(gone[0], tmp_path / "out")
    assert_agrees(shop.audited(left["transaction_id"][0].as_py(), tmp_path / "out"))


def test_an_id_may_look_like_an_option(
    shop: Shop, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["audit", "--out", str(out), "--json"]
    call += ["--model", shop.model("hist_gradient_boosting"), "--rules", shop.rules]
    assert main([*call, "--", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["transaction_id"] == "--json"
    assert main([*call, "--", "--jso"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert Code.TRANSACTION_UNKNOWN in printed.err


def test_a_replay_of_dead_letters_keeps_features_too() -> None:
    replayed = ReplayOptions(out="out", results="new", model="m", keep_features=True)
    assert replayed.scoring((), "new").keep_features


def test_the_command_says_by_its_exit_code_whether_all_agrees(shop: Shop, out: Path) -> None:
    [name, *_] = interesting(out)
    options = AuditOptions(
        transaction_id=name,
        out=str(out),
        model=shop.model("hist_gradient_boosting"),
        rules=shop.rules,
    )
    assert audit.call(options, as_json=True).exit_code == 0
    assert audit.call(replace(options, model=None), as_json=True).exit_code == 1


@pytest.mark.parametrize(
    "rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)], ids=["few", "million"]
)
def test_a_large_archive_answers_at_once(out: Path, tmp_path: Path, rows: int) -> None:
    """Random ids, which no statistics exclude."""
    scored = pq.read_table(out / "scores").combine_chunks()
    random = np.random.default_rng(0)
    table = scored.take(pa.array(random.integers(len(scored), size=rows)))
    names = [random.bytes(8).hex() for _ in range(rows)]
    table = table.set_column(0, table.schema.field(0), pa.array(names)).replace_schema_metadata()
    (tmp_path / "scores").mkdir()
    writer = ParquetBlockWriter(tmp_path / "scores" / "part-0.parquet", table.schema)
    for batch in table.to_batches(50_000):
        writer.write(batch)
    writer.close()
    archive = Archive(Place.at(tmp_path))
    begun = time.process_time()
    [found] = archive.find(names[rows // 2])
    assert time.process_time() - begun < 2
    assert found.value("transaction_id") == names[rows // 2]
    assert archive.find("no such") == []
