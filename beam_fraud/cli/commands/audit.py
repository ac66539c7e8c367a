"""`beam-fraud audit`: show a decision as it was recorded, and compute it again."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from beam_fraud.alerts.pseudonym import KEY_VARIABLE, Pseudonyms
from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.options import AuditOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.decisions.inputs import DECIDED_AT, FEATURES
from beam_fraud.decisions.rules.toml import read_rule_files
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.registry.registry import open_registry
from beam_fraud.operations.audit.archive import Archive, ArchivedRow
from beam_fraud.operations.audit.list_entries import LookUp, lists_check, look_ups
from beam_fraud.operations.audit.recomputation import Check, KeptInputs, recompute
from beam_fraud.operations.audit.versions import Missing, Versions
from beam_fraud.storage.urls import Place
from beam_fraud.wording import printable

#: Form of a pseudonym.
_PSEUDONYM = re.compile(r"[0-9a-f]{16}")
#: Columns of a row that are shown as they are.
_SHOWN = (
    *("transaction_id", "event_time", "account_id", "merchant_id", "amount"),
    *("score", "flagged", "decision", "rules", "shadow_rules", "reasons"),
    *("model_id", "rules_id", "shadow", "degraded", DECIDED_AT, "features_as_of", "muted_rules"),
)


def call(options: AuditOptions, *, as_json: bool) -> Outcome:
    """Run the command; the exit code is 1 unless every row agrees."""
    result = run(options)
    return Outcome(result, render, 0 if result["agrees"] else 1)


def run(options: AuditOptions) -> dict[str, object]:
    """Find a transaction, and compute each of its decisions again.

    Returns:
      `transaction_id`, `out`, `rows` with their `checks` and what is `missing`, `dead_letters`,
      and whether all `agrees`.

    Raises:
      UsageError: an option is invalid.
      FraudError: the archive has no such transaction, or a file cannot be read.
    """
    if options.model is not None and options.registry is not None:
        raise UsageError("--registry: not together with --model", Code.OPTION_CONFLICT)
    archive = Archive(Place.parse(options.out))
    archive.check()
    versions = Versions(
        archive,
        None if options.model is None else open_bundle(Place.parse(options.model)),
        None if options.registry is None else open_registry(Place.parse(options.registry)),
        None if options.rules is None else read_rule_files(options.rules),
    )
    lists = lists_directory(options.lists)
    if lists is None and versions.registry is not None:
        lists = versions.registry.lists
    transaction_id = options.transaction_id
    found = archive.find(transaction_id)
    if not found and (plain := _plain_id(archive, transaction_id)) is not None:
        transaction_id = plain
        found = archive.find(transaction_id)
    dead = archive.dead_letters(transaction_id, _id_column(versions))
    if not found and not dead:
        raise _unknown(options)
    rows = [_audited(one, versions, lists) for one in found]
    return {
        "transaction_id": transaction_id,
        "out": archive.place.shown,
        "rows": rows,
        "dead_letters": dead,
        "agrees": bool(rows) and all(row["agrees"] for row in rows),
    }


def _plain_id(archive: Archive, text: str) -> str | None:
    """Return the id of a pseudonym, if the text may be one and its key is set."""
    if _PSEUDONYM.fullmatch(text) is None or not os.environ.get(KEY_VARIABLE):
        return None
    return archive.plain_id(text, Pseudonyms.from_environment())


def _id_column(versions: Versions) -> str | None:
    """Return the column of ids in records, by a model at hand."""
    bundle, registry = versions.bundle, versions.registry
    if bundle is None and registry is not None and registry.standing.champion is not None:
        found = versions.bundle_of(registry.standing.champion)
        bundle = None if isinstance(found, Missing) else found
    return None if bundle is None else bundle.schema.roles.get("transaction_id")


def _unknown(options: AuditOptions) -> FraudError:
    hint = "a running stream or server shows its newest rows after --roll-seconds"
    if _PSEUDONYM.fullmatch(options.transaction_id) is not None:
        hint += f"; the pseudonym of an alert needs its key in {KEY_VARIABLE}"
    shown = printable(options.transaction_id, escaped=True)
    return FraudError(
        f"{options.out}: has no transaction {shown} ({hint})", Code.TRANSACTION_UNKNOWN
    )


def _audited(archived: ArchivedRow, versions: Versions, lists: Path | None) -> dict[str, Any]:
    """Return a row as it was recorded, with what its recomputation shows."""
    inputs = KeptInputs.of(archived.row)
    checks: list[Check] = []
    missing: list[str] = []
    looked_up: list[LookUp] = []
    if inputs is None:
        missing.append("features: the run kept none, which --keep-features does")
    else:
        looked_up = look_ups(archived, inputs, lists)
        checks, missing = _checked(archived, inputs, versions)
        if (check := lists_check(looked_up)) is not None:
            checks.append(check)
    shown = {
        name: _plain(archived.value(name)) for name in _SHOWN if name in archived.row.schema.names
    }
    return {
        "file": archived.file,
        **shown,
        FEATURES: None if inputs is None else _plain(dict(inputs.features)),
        "rule_inputs": {}
        if inputs is None
        else {name: _plain(column[0].as_py()) for name, column in inputs.rule_inputs.items()},
        "lists": [_plain(msgspec.to_builtins(one)) for one in looked_up],
        "checks": [_plain(msgspec.to_builtins(check)) for check in checks],
        "missing": missing,
        "agrees": not missing and all(check.agrees for check in checks),
    }


def _checked(
    archived: ArchivedRow, inputs: KeptInputs, versions: Versions
) -> tuple[list[Check], list[str]]:
    """Compute a row again; return the checks, and what is missing for that."""
    bundle = versions.bundle_of(archived.value("model_id"))
    if isinstance(bundle, Missing):
        return [], [bundle.why]
    rules_id, rules = archived.value("rules_id"), None
    if rules_id is not None:
        found = versions.rules_of(rules_id, inputs.vocabulary(bundle.features), inputs.lists)
        if isinstance(found, Missing):
            return [], [found.why]
        rules = found
    block = inputs.block(bundle.features)
    if block is None:
        return [], [f"features: they are not those of {bundle.model_id}"]
    try:
        return recompute(archived, inputs, block, bundle, rules), []
    except FraudError as error:
        return [], [f"model: {error}"]


def _plain(value: Any) -> Any:
    """Return JSON-compatible values; absent numbers are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return msgspec.to_builtins(value)


def render(result: dict[str, Any]) -> str:
    """Return the decisions of a transaction, safe for a terminal."""
    lines = [f"transaction {printable(result['transaction_id'], escaped=True)}"]
    for row in result["rows"]:
        lines += ["", *_of_row(row)]
    for letter in result["dead_letters"]:
        place = f"{letter['source']}:{letter['position']}"
        text = f"dead letter {place}: {letter['reason']} {letter['detail'] or ''}"
        lines += ["", printable(text.rstrip(), escaped=True)]
    if len(result["rows"]) > 1:
        agree = sum(row["agrees"] for row in result["rows"])
        lines += ["", f"{agree} of {len(result['rows'])} rows agree"]
    return "\n".join(lines)


def _of_row(row: Mapping[str, Any]) -> Iterator[str]:
    yield printable(row["file"], escaped=True)
    yield from table(list(_facts(row)), margin=2)
    for look_up in row["lists"]:
        yield f"  {_looked_up(look_up)}"
    if row["reasons"]:
        yield "  reasons"
        texts = [
            (_cell(one["text"] or one["feature"]), f"{one['contribution']:+.4g}")
            for one in row["reasons"]
        ]
        yield from table(texts, right={1}, margin=4)
    yield from (f"  {_verdict(check)}" for check in row["checks"])
    yield from (f"  cannot be computed again: {_cell(why)}" for why in row["missing"])


def _facts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names = ("event_time", "account_id", "merchant_id", "amount", "score", "decision")
    for name in names:
        yield name.removesuffix("_id").replace("_", " "), _cell(row[name])
    by = [row["model_id"], row.get("rules_id")]
    yield "decided by", " with ".join(_cell(one) for one in by if one is not None)
    decided_at = row.get(DECIDED_AT) or row.get("features_as_of")
    if decided_at is not None:
        yield "decided at", decided_at
    for name in ("rules", "shadow_rules", "muted_rules"):
        if row.get(name):
            yield name.replace("_", " "), _cell(", ".join(row[name]))
    if row.get("degraded"):
        yield "degraded", _cell(row["degraded"])
    if row.get("shadow"):
        yield "shadow", "compared with, and not acted upon"


def _looked_up(one: Mapping[str, Any]) -> str:
    where = f"{one['column']} in @{one['list']}: {'yes' if one['listed'] else 'no'}"
    change = one["change"]
    if change is None:
        return where
    until = f" until {change['until']}" if change.get("until") else ""
    reason = f", {change['reason']}" if change.get("reason") else ""
    what = "added" if change["action"] == "add" else "removed"
    return _cell(f"{where}, {what} {change['at']} by {change['who']}{until}{reason}")


def _verdict(check: Mapping[str, Any]) -> str:
    if check["agrees"]:
        return f"{check['what']}: agrees bit for bit"
    recorded, recomputed = (_brief(check[name]) for name in ("recorded", "recomputed"))
    return _cell(f"{check['what']}: DIFFERS, recorded {recorded}, computed {recomputed}")


def _brief(value: Any) -> str:
    if isinstance(value, list):
        parts: Sequence[Any] = value
        if parts and isinstance(parts[0], dict):
            return ", ".join(f"{one['feature']} {one['contribution']!r}" for one in parts)
        return ", ".join(map(str, parts)) or "none"
    return repr(value) if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    return "-" if value is None else printable(str(value), escaped=True)
