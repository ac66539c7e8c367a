"""`beam-fraud registry`: add, promote, roll back and retire models and rule sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options.registry import (
    AuthorOptions,
    RegistryAddOptions,
    RegistryListOptions,
    RegistryLogOptions,
    RegistryPromoteOptions,
    RegistryRetireOptions,
    RegistryRollbackOptions,
    RegistryShowOptions,
    RegistryVerifyOptions,
)
from beam_fraud.cli.terminal.columns import table
from beam_fraud.decisions.rules.toml import list_files, read_rule_files
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.candidate import candidate_of
from beam_fraud.evaluation.holdout import evaluated_rows
from beam_fraud.features.dataset import digest_of_rows
from beam_fraud.models.bundle import Bundle, check_packages, open_bundle
from beam_fraud.models.fitting import Rows
from beam_fraud.models.manifest import model_name
from beam_fraud.models.metrics import measure
from beam_fraud.models.registry import registry as registries
from beam_fraud.models.registry.log import Entry
from beam_fraud.models.registry.registry import Author, Registry, open_registry
from beam_fraud.models.registry.requirement import FIGURES, Requirement
from beam_fraud.storage.urls import Place
from beam_fraud.wording import printable, reason_of

_LOG = logging.getLogger(__name__)


def run_add(options: RegistryAddOptions) -> dict[str, object]:
    """Copy a bundle or a rule set into the registry.

    Raises:
      FraudError: it is neither, it is damaged, or it is there already.
    """
    place, author = Place.parse(options.registry), _author(options, options.why)
    what = Place.parse(options.what)
    if what.local is not None and what.local.suffix == ".toml":
        files = read_rule_files(str(what.local))
        # Invalid rules are refused.
        list_files(files.text, what.shown)
        name = model_name(options.name, files.name)
        registry = registries.add_rules(place, name, files.contents, author)
    elif options.name is not None:
        raise UsageError(
            "--name: a model has its name in its bundle; give it to `train`", Code.OPTION_CONFLICT
        )
    else:
        registry = registries.add_model(place, open_bundle(what), author)
    return _changed(registry)


def run_promote(options: RegistryPromoteOptions) -> dict[str, object]:
    """Measure if rows are given, then promote.

    Raises:
      UsageError: an option is invalid.
      FraudError: a requirement is not met, the model cannot be promoted, or somebody was first.
    """
    requirements = [Requirement.parse(text) for text in options.require]
    if not options.on:
        given = {
            "require": bool(options.require),
            "schema": options.schema,
            "from": options.since,
            "until": options.until,
            "history": options.history,
        }
        for name, value in given.items():
            if value:
                raise UsageError(
                    f"--{name}: needs --on FILE, the labelled rows to measure on",
                    Code.OPTION_CONFLICT,
                )
    registry = open_registry(Place.parse(options.registry))
    member = registry.find(options.what)
    report = None if options.report is None else _report(options.report)
    evidence = None
    if options.on:
        if member.kind == "rules":
            raise UsageError(
                f"--on: {member.id} is a rule set; measure it by `rules check`",
                Code.OPTION_CONFLICT,
            )
        evidence = _measured(registry, member, options)
        champion = evidence["champion"]
        for requirement in requirements:
            unmet = requirement.unmet(evidence["model"], champion)
            if unmet is not None:
                against = "" if champion is None else f" (champion: {champion['model_id']})"
                raise FraudError(
                    f"--require {requirement.text!r}: not met by {member.id}{against}: {unmet}",
                    Code.REQUIREMENT_UNMET,
                )
        evidence["required"] = list(options.require)
    author = _author(options, options.why)
    return _changed(
        registries.promote(registry, member.id, author, evidence=evidence, report=report)
    )


def run_rollback(options: RegistryRollbackOptions) -> dict[str, object]:
    """Undo the last promotion.

    Raises:
      FraudError: there is none to undo, or somebody was first.
    """
    registry = open_registry(Place.parse(options.registry))
    return _changed(registries.rollback(registry, _author(options, options.why)))


def run_retire(options: RegistryRetireOptions) -> dict[str, object]:
    """Retire a model or rule set.

    Raises:
      FraudError: it decides, or somebody was first.
    """
    registry = open_registry(Place.parse(options.registry))
    member = registry.find(options.what)
    return _changed(registries.retire(registry, member.id, _author(options, options.why)))


def run_list(options: RegistryListOptions) -> dict[str, object]:
    """Return the models and rule sets, the newest first.

    Raises:
      FraudError: there is no registry, or its log was changed.
    """
    registry = open_registry(Place.parse(options.registry))
    standing = registry.standing
    members = [
        {
            "id": member,
            "kind": entry.kind,
            "state": standing.state_of(member),
            "added": entry.at,
            "added_by": entry.who,
            "why": entry.why,
        }
        for member, entry in reversed(list(standing.members.items()))
    ]
    return {"registry": registry.place.name, "members": members}


def render_list(result: dict[str, object]) -> str:
    """Return a line per model or rule set."""
    rows: list[tuple[str, ...]] = [("id", "kind", "state", "added", "by", "why")]
    for one in cast(list[dict[str, Any]], result["members"]):
        values = (one["id"], one["kind"], one["state"], one["added"][:16], one["added_by"])
        rows.append(tuple(printable(value) for value in (*values, one["why"] or "-")))
    return "\n".join(table(rows))


def run_show(options: RegistryShowOptions) -> dict[str, object]:
    """Return what decides, or a model or rule set with its entries of the log.

    Raises:
      FraudError: there is no such model, or it was changed.
    """
    registry = open_registry(Place.parse(options.registry))
    standing = registry.standing
    if options.what is None:
        decisive = {standing.champion, standing.rules}
        entries = [
            entry
            for entry in registry.log.entries
            if entry.action in ("promote", "rollback") and decisive & {entry.id, entry.in_force}
        ]
        return {**_standing(registry), "entries": [_entry(entry) for entry in entries]}
    member = registry.find(options.what)
    entries = [entry for entry in registry.log.entries if member.id in (entry.id, entry.in_force)]
    shown: dict[str, object] = {
        "id": member.id,
        "kind": member.kind,
        "state": standing.state_of(member.id),
        "sha256": member.digest,
    }
    if member.kind == "model":
        bundle = registry.bundle(member.id)
        shown |= {
            "path": bundle.path,
            "created": bundle.manifest.created,
            "trained_on": bundle.manifest.trained_on,
            "metrics": bundle.manifest.metrics,
            "microseconds_per_row": bundle.manifest.microseconds_per_row,
        }
    else:
        registry.rule_files(member.id)
        shown |= {"path": registry.rules_place(member.id).name, "files": member.files}
    return {**shown, "entries": [_entry(entry) for entry in entries]}


def render_show(result: dict[str, object]) -> str:
    """Return the facts as a list, then the history."""
    facts = [
        (name.replace("_", " "), _text(value))
        for name, value in result.items()
        if name not in ("entries", "metrics", "files")
    ]
    return "\n".join([*table(facts), "", render_log(result)])


def run_log(options: RegistryLogOptions) -> dict[str, object]:
    """Return the entries, the oldest first.

    Raises:
      FraudError: there is no registry, or its log was changed.
    """
    registry = open_registry(Place.parse(options.registry))
    entries = registry.log.entries[-(options.limit or 0) :]
    return {"entries": [_entry(entry) for entry in entries]}


def render_log(result: dict[str, object]) -> str:
    """Return a line per entry."""
    rows: list[tuple[str, ...]] = [("", "time", "who", "change", "why")]
    for entry in cast(list[dict[str, Any]], result["entries"]):
        change = f"{entry['action']} {entry['id']}"
        if entry["action"] == "rollback":
            change += f" to {entry['in_force'] or 'no rules'}"
        values = (str(entry["number"]), entry["at"][:19], entry["who"], change)
        rows.append(tuple(printable(value) for value in (*values, entry["why"] or "-")))
    return "\n".join(table(rows, right={0}))


def run_verify(options: RegistryVerifyOptions) -> dict[str, object]:
    """Check the log and all files.

    Raises:
      FraudError: something was changed.
    """
    registry = open_registry(Place.parse(options.registry))
    counts = registry.verify()
    return {**counts, "head": registry.log.head}


def render_verify(result: dict[str, object]) -> str:
    """Return what was checked; the head can be noted elsewhere."""
    return (
        f"intact: {result['entries']} entries, {result['models']} models, "
        f"{result['rule_sets']} rule sets, {result['reports']} reports\nhead: {result['head']}"
    )


def render_change(result: dict[str, object]) -> str:
    """Return what was done, and what decides now."""
    entry = cast(dict[str, Any], result["entry"])
    challengers = cast(list[str], result["challengers"])
    lines = [
        f"{entry['action']} {printable(entry['id'])} (entry {entry['number']})",
        f"champion: {_text(result['champion'])}, rules: {_text(result['rules'])}",
        f"challengers: {', '.join(map(printable, challengers)) or '-'}",
    ]
    return "\n".join(lines)


render_add = render_promote = render_rollback = render_retire = render_change


def _author(options: AuthorOptions, why: str | None) -> Author:
    if why is not None and not why.strip():
        raise UsageError("--why: say why, for the log", Code.OPTION_VALUE)
    return Author.of(options.who, why)


def _standing(registry: Registry) -> dict[str, object]:
    standing = registry.standing
    return {
        "registry": registry.place.name,
        "champion": standing.champion,
        "rules": standing.rules,
        "challengers": list(standing.challengers),
    }


def _changed(registry: Registry) -> dict[str, object]:
    return {**_standing(registry), "entry": _entry(registry.log.entries[-1])}


def _entry(entry: Entry) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(entry)
    return values


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(part) for part in value) or "-"
    return "-" if value is None else printable(str(value))


def _report(text: str) -> tuple[str, bytes]:
    path = Place.parse(text).local
    if path is None:
        raise UsageError(f"--report {text}: give a file of this machine", Code.OPTION_VALUE)
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise FraudError(
            f"--report {text}: cannot be read ({reason_of(error)})", Code.INPUT_UNREADABLE
        ) from None


def _measured(registry: Registry, member: Entry, options: RegistryPromoteOptions) -> dict[str, Any]:
    """Return figures of a model and of the champion on the same labelled rows."""
    bundles = [registry.bundle(member.id)]
    if registry.standing.champion is not None:
        bundles.append(registry.champion())
    for bundle in bundles:
        check_packages(bundle)
    evaluated = evaluated_rows(
        bundles,
        Rows(
            input_places(options.on),
            input_places(options.history),
            parse_moment("--from", options.since),
            parse_moment("--until", options.until),
        ),
        schema=options.schema,
        protocol=None,
        segments=(),
    )
    warnings = evaluated.warnings(bundles)
    for warning in warnings:
        _LOG.warning("%s", warning)
    labels = evaluated.rows.labels
    figures = []
    for number, bundle in enumerate(bundles):
        scored = candidate_of(bundle, evaluated.transactions[number], evaluated.features[number])
        measured = measure(labels, scored.scores, scored.threshold).to_dict()
        figures.append(_figures(bundle, measured))
    return {
        "rows": len(labels),
        "frauds": int(labels.sum()),
        "data_sha256": digest_of_rows(evaluated.transactions[0]),
        "files": [Path(file).name for file in options.on],
        "model": figures[0],
        "champion": figures[1] if len(figures) > 1 else None,
        "warnings": warnings,
    }


def _figures(bundle: Bundle, measured: Mapping[str, Any]) -> dict[str, Any]:
    known = {**measured, "microseconds_per_row": bundle.manifest.microseconds_per_row}
    return {"model_id": bundle.model_id, **{name: known[name] for name in FIGURES.values()}}
