"""A registry in a directory: models and rule sets by digest, and a log of who put which to work.

DIR/bundles/<model_id>/     a bundle
DIR/rules/<digest>/         rules.toml, and the files of its lists
DIR/reports/<digest>/       comparison reports of promotions
DIR/lists/<name>.jsonl      lists that rules name as @name, or <name>.toml (`decisions/lists/`)
DIR/log.jsonl               every change; the standing is what its entries result in
DIR/state.json              the standing, for other programs, and the head of the log
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from beam_fraud.decisions.rules import condition
from beam_fraud.decisions.rules.files import RULES_FILE, RuleFiles
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import rules_from_toml
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import MANIFEST_FILE, Bundle, open_bundle
from beam_fraud.models.registry.log import EMPTY, Entry, Kind, Log, damaged, read_log
from beam_fraud.models.registry.standing import (
    ImpossibleError,
    Standing,
    after,
    last_promotion,
)
from beam_fraud.models.storage import read_bytes
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.lock import lock_current
from beam_fraud.storage.store import Directory, Store, check_output, store_at
from beam_fraud.storage.urls import Place
from beam_fraud.wording import did_you_mean, own_call, reason_of

LOG_FILE = "log.jsonl"
STATE_FILE = "state.json"
#: Held while a change is written.
_LOCK_FILE = ".registry.lock"


@dataclass(frozen=True)
class Registry:
    """A registry as it was read at one moment."""

    place: Place
    log: Log
    standing: Standing

    def find(self, name: str, kind: Kind | None = None) -> Entry:
        """Return the latest entry that added a model or rule set.

        Args:
          name: its id, or its name for the latest one of that name that is not retired.
          kind: what it must be; None for either.

        Raises:
          FraudError: there is none, or a model and a rule set have that name.
        """
        members = self.standing.members
        ids = [
            member
            for member in self.standing.named(name)
            if kind is None or members[member].kind == kind
        ]
        if len(ids) > 1:
            raise FraudError(
                f"{self.place.shown}: {name} is the name of a model and of a rule set; give the id "
                f"({' or '.join(ids)})",
                Code.REGISTRY_UNKNOWN,
            )
        if not ids:
            names = [*members, *(member.rpartition("@")[0] for member in members)]
            hint = did_you_mean(name, names, f"see `{own_call()} registry list`")
            raise FraudError(
                f"{self.place.shown}: has no {kind or 'model or rule set'} {name!r}; {hint}",
                Code.REGISTRY_UNKNOWN,
            )
        return members[ids[0]]

    def champion(self) -> Bundle:
        """Return the bundle of the champion.

        Raises:
          FraudError: there is no champion, or its bundle was changed.
        """
        return self.bundle(self.champion_id())

    def champion_id(self) -> str:
        """Return the id of the champion.

        Raises:
          FraudError: there is none.
        """
        if self.standing.champion is None:
            raise FraudError(
                f"{self.place.shown}: has no champion; `{own_call()} registry promote` makes a "
                "model the champion",
                Code.REGISTRY_UNKNOWN,
            )
        return self.standing.champion

    def bundle(self, model: str) -> Bundle:
        """Return the bundle of a model by its id, compared with the log.

        Raises:
          FraudError: it is missing or was changed.
        """
        entry = self.standing.members[model]
        bundle = open_bundle(self.bundle_place(model))
        data = read_bytes(self.bundle_place(model), MANIFEST_FILE)
        if bundle.model_id != model or _sha256(data) != entry.digest:
            raise damaged(bundle.path, f"{MANIFEST_FILE} is not the one that the log names")
        return bundle

    def bundle_place(self, model: str) -> Place:
        """Return the directory of a model's bundle."""
        return _below(self.place, "bundles", _directory_of(model))

    @property
    def lists(self) -> Path | None:
        """Directory of the lists that rules name as `@name`; None at a URL."""
        return None if self.place.local is None else self.place.local / "lists"

    def rules(
        self, rule_set: str, bundle: Bundle, schema: Schema, lists: Path | None = None
    ) -> RuleSet:
        """Return a rule set by its id, compared with the log.

        Args:
          rule_set: its id.
          bundle: the model beside which it decides.
          schema: the schema of the transactions.
          lists: directory of the lists, in place of the registry's own.

        Raises:
          UsageError: it uses what the model and the schema lack.
          FraudError: a file is missing or was changed.
        """
        names = condition.vocabulary(schema, bundle.velocity_names(), scored=True)
        return self.rules_by(rule_set, names, lists)

    def rules_by(
        self, rule_set: str, names: Mapping[str, condition.Kind], lists: Path | None = None
    ) -> RuleSet:
        """Return the same by the names that conditions may use (`condition.vocabulary`)."""
        files = self.rule_files(rule_set)
        text = files[RULES_FILE].decode("utf-8-sig")
        live = lists or self.lists
        return rules_from_toml(
            text, names, where=rule_set, files=files, live=live, rules_id=rule_set
        )

    def rule_files(self, rule_set: str) -> dict[str, bytes]:
        """Return the files of a rule set by its id, compared with the log.

        Raises:
          FraudError: a file is missing or was changed.
        """
        entry, place = self.standing.members[rule_set], self.rules_place(rule_set)
        files = {}
        for name, digest in entry.files.items():
            files[name] = _read(place, name)
            if _sha256(files[name]) != digest:
                raise damaged(f"{place.shown}/{name}", "it is not the file that the log names")
        return files

    def rules_place(self, rule_set: str) -> Place:
        """Return the directory of a rule set."""
        return _below(self.place, "rules", rule_set.rpartition("@")[2])

    def verify(self) -> dict[str, int]:
        """Compare every model, rule set and report with the log, retired ones too.

        Returns:
          Counts of `entries`, `models`, `rule_sets` and `reports`.

        Raises:
          FraudError: one is missing or was changed.
        """
        members = self.standing.members
        models = [member for member, entry in members.items() if entry.kind == "model"]
        for model in models:
            self.bundle(model)
        rule_sets = [member for member in members if members[member].kind == "rules"]
        for rule_set in rule_sets:
            self.rule_files(rule_set)
        reports = [entry.report for entry in self.log.entries if entry.report is not None]
        for report in reports:
            if _sha256(_read(self.place, report["place"])) != report["sha256"]:
                raise damaged(f"{self.place.shown}/{report['place']}", "it is not the report")
        return {
            "entries": len(self.log.entries),
            "models": len(models),
            "rule_sets": len(rule_sets),
            "reports": len(reports),
        }


@dataclass(frozen=True)
class Author:
    """Who changes a registry, and why."""

    who: str
    why: str | None = None

    @classmethod
    def of(cls, who: str | None, why: str | None) -> Author:
        """Return the author; without a name, the user of this process and its host."""
        if who is None:
            try:
                user = getpass.getuser()
            except (OSError, KeyError, ImportError):
                # A container may run as a number without a name.
                user = str(os.getuid())
            who = f"{user}@{socket.gethostname()}"
        return cls(who, why)


def open_registry(place: Place) -> Registry:
    """Read a registry and check its log.

    Raises:
      FraudError: there is none, or its log was changed or cut.
    """
    registry = _read_registry(place)
    if not registry.log.entries:
        raise FraudError(
            f"{place.shown}: is no registry, it has no {LOG_FILE} "
            f"(`{own_call()} registry add` makes one)",
            Code.REGISTRY_MISSING,
        )
    return registry


def add_model(
    place: Place,
    bundle: Bundle,
    author: Author,
    *,
    evidence: dict[str, Any] | None = None,
    report: tuple[str, bytes] | None = None,
) -> Registry:
    """Add a bundle as a challenger; create the registry if it is missing.

    A bundle that is there already is written again if it was damaged.

    Args:
      place: the registry.
      bundle: the model, in a directory.
      author: who adds it, and why.
      evidence: figures to record.
      report: name and contents of a comparison report to keep.

    Raises:
      FraudError: the bundle or the registry was changed, or cannot be written.
    """
    assert bundle.place is not None
    data = read_bytes(bundle.place, MANIFEST_FILE)
    with _changing(place) as registry:
        target = registry.bundle_place(bundle.model_id)
        try:
            intact = open_bundle(target).model_id == bundle.model_id
        except FraudError:
            intact = False
        if not intact:
            bundle.save(target)
        entry = _entry(author, "add", "model", bundle.model_id, digest=_sha256(data))
        kept = _kept(registry, report)
        return _appended(registry, replace(entry, evidence=evidence, report=kept))


def add_rules(place: Place, name: str, files: Mapping[str, bytes], author: Author) -> Registry:
    """Add a rule set as a challenger; create the registry if it is missing.

    Args:
      place: the registry.
      name: the first half of its id.
      files: `RULES_FILE`, and the files of its lists, by their names in it.
      author: who adds it.

    Raises:
      UsageError: a list's file is not below the directory of the rules.
      FraudError: the registry was changed, or cannot be written.
    """
    for file in files:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise UsageError(
                f"list file {file}: must be beside the rules file or below it, to be kept with it",
                Code.RULES_INVALID,
            )
    rules = RuleFiles(name, files)
    with _changing(place) as registry:
        _write_files(registry.rules_place(rules.id), files)
        added = _entry(author, "add", "rules", rules.id, digest=rules.digest, files=rules.digests)
        return _appended(registry, added)


def promote(
    registry: Registry,
    member: str,
    author: Author,
    *,
    evidence: dict[str, Any] | None = None,
    report: tuple[str, bytes] | None = None,
) -> Registry:
    """Make a model the champion, or a rule set the one in force.

    Args:
      registry: as it was read when the promotion was decided on.
      member: the id.
      author: who promotes it, and why.
      evidence: figures to record.
      report: name and contents of a comparison report to keep.

    Raises:
      FraudError: it cannot be promoted, it was damaged, the rules do not fit the model, or somebody
        changed what decides since `registry` was read.
    """
    kind = registry.standing.members[member].kind
    with _changing(registry.place, registry) as current:
        _check_together(current, kind, member)
        kept = _kept(registry, report)
        entry = _entry(author, "promote", kind, member, in_force=member)
        return _appended(current, replace(entry, evidence=evidence, report=kept))


def _kept(registry: Registry, report: tuple[str, bytes] | None) -> dict[str, str] | None:
    """Write a report into the registry; return its place and digest for the log."""
    if report is None:
        return None
    name, data = report
    digest = _sha256(data)
    directory = f"reports/{digest[:12]}"
    _write_files(_below(registry.place, *directory.split("/")), {name: data})
    return {"place": f"{directory}/{name}", "sha256": digest}


def rollback(registry: Registry, author: Author) -> Registry:
    """Undo the last promotion that is in effect.

    Raises:
      FraudError: there is none, what decided before was damaged, or somebody changed what decides
        since `registry` was read.
    """
    with _changing(registry.place, registry) as current:
        try:
            last = last_promotion(current.standing)
        except ImpossibleError as error:
            raise _impossible(registry, error) from None
        if last.former is not None:
            _check_together(current, last.kind, last.former)
        entry = _entry(author, "rollback", last.kind, last.id, in_force=last.former)
        return _appended(current, entry)


def retire(registry: Registry, member: str, author: Author) -> Registry:
    """Retire a model or rule set that does not decide; its files stay for audits.

    Raises:
      FraudError: it decides, it is retired already, or somebody changed what decides since
        `registry` was read.
    """
    kind = registry.standing.members[member].kind
    with _changing(registry.place, registry) as current:
        return _appended(current, _entry(author, "retire", kind, member))


def _check_together(registry: Registry, kind: Kind, member: str) -> None:
    """Check that a model and the rules beside it are intact and fit each other."""
    champion = member if kind == "model" else registry.standing.champion
    rules = member if kind == "rules" else registry.standing.rules
    bundle = None if champion is None else registry.bundle(champion)
    if rules is not None:
        if bundle is None:
            registry.rule_files(rules)
        else:
            registry.rules(rules, bundle, bundle.schema)


def _entry(author: Author, action: Any, kind: Kind, member: str, **fields: Any) -> Entry:
    """Return an entry that `_appended` completes."""
    return Entry(
        number=0,
        previous="",
        at=datetime.now(UTC).isoformat(),
        who=author.who,
        why=author.why,
        action=action,
        kind=kind,
        id=member,
        **fields,
    )


def check_changeable(place: Place) -> Path:
    """Return the directory of a registry that is to be changed.

    Raises:
      UsageError: it is at a URL.
      FraudError: it is a model bundle, or cannot be written.
    """
    if place.local is None:
        raise UsageError(
            f"--registry {place.shown}: can be read but not changed, because object stores have no "
            "locks; change a registry in a directory, and copy it there",
            Code.URL_UNUSABLE,
        )
    check_output(Directory(place.local), f"--registry {place.shown}")
    return place.local


@contextmanager
def _changing(place: Place, seen: Registry | None = None) -> Iterator[Registry]:
    """Exclude other changes, and give the registry as it is now.

    Args:
      place: the registry.
      seen: what a decision was made on; None for a change that fits any standing.

    Raises:
      FraudError: it cannot be changed, or what decides was changed since `seen`.
    """
    directory = check_changeable(place)
    make_directory(directory)
    try:
        held = lock_current(directory / _LOCK_FILE, wait=True)
    except OSError as error:
        raise _unwritable(place, error) from None
    try:
        current = _read_registry(place)
        if seen is not None and current.standing.decisive != seen.standing.decisive:
            last = current.log.entries[-1]
            raise FraudError(
                f"{place.shown}: {last.who} was first ({last.action} {last.id}, entry "
                f"{last.number}, {last.at}); see `{own_call()} registry log` and decide again",
                Code.REGISTRY_CHANGED,
            )
        yield current
    finally:
        held.release()


def _appended(registry: Registry, entry: Entry) -> Registry:
    """Append an entry to the log, and write the state; call it within `_changing`."""
    log = registry.log
    entry = replace(entry, number=len(log.entries) + 1, previous=log.head)
    try:
        standing = after(registry.standing, entry)
    except ImpossibleError as error:
        raise _impossible(registry, error) from None
    log, store = log.with_entry(entry), _store(registry.place)
    try:
        # The log first: a state behind it is repaired by the next change.
        store.write(LOG_FILE, log.data)
        store.write(STATE_FILE, _state(log, standing))
    except OSError as error:
        raise _unwritable(registry.place, error) from None
    return Registry(registry.place, log, standing)


def _impossible(registry: Registry, error: ImpossibleError) -> FraudError:
    return FraudError(f"{registry.place.shown}: {error}", Code.CHANGE_IMPOSSIBLE)


def _state(log: Log, standing: Standing) -> bytes:
    state = {
        "entries": len(log.entries),
        "head": log.head,
        "champion": standing.champion,
        "rules": standing.rules,
        "challengers": list(standing.challengers),
        "members": {
            member: {"kind": entry.kind, "state": standing.state_of(member)}
            for member, entry in standing.members.items()
        },
    }
    return json.dumps(state, indent=2).encode() + b"\n"


def _read_registry(place: Place) -> Registry:
    # The state first: a change between the two reads leaves a log that is ahead, not behind.
    head = _head_of_state(place)
    where = f"{place.shown}/{LOG_FILE}"
    data = _read_or_none(place, LOG_FILE)
    log = EMPTY if data is None else read_log(data, where)
    if head is not None and head not in log.digests:
        raise damaged(where, f"it lacks the entry that {STATE_FILE} names as the last")
    standing = Standing()
    for entry in log.entries:
        try:
            standing = after(standing, entry)
        except ImpossibleError as error:
            raise damaged(where, f"line {entry.number}: {error}") from None
    return Registry(place, log, standing)


def _head_of_state(place: Place) -> str | None:
    data = _read_or_none(place, STATE_FILE)
    if data is None:
        return None
    try:
        return str(json.loads(data)["head"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(f"{place.shown}/{STATE_FILE}", f"it cannot be read ({error})") from None


def _read_or_none(place: Place, name: str) -> bytes | None:
    try:
        return _store(place).read(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FraudError(
            f"{place.shown}: {name} cannot be read ({reason_of(error)})", Code.REGISTRY_DAMAGED
        ) from None


def _read(place: Place, name: str) -> bytes:
    data = _read_or_none(place, name)
    if data is None:
        raise damaged(f"{place.shown}/{name}", "it is missing")
    return data


def _write_files(place: Place, files: Mapping[str, bytes]) -> None:
    """Write a directory of files, some of them in directories below it."""
    for name, data in files.items():
        path = PurePosixPath(name)
        directory = _below(place, *path.parts[:-1])
        assert directory.local is not None, "a URL is not changed"
        make_directory(directory.local)
        try:
            _store(directory).write(path.name, data)
        except OSError as error:
            raise _unwritable(place, error) from None


def _unwritable(place: Place, error: OSError) -> FraudError:
    return FraudError(
        f"{place.shown}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
    )


def _store(place: Place) -> Store:
    store = store_at(place.local or place.name)
    if place.local is None:
        store.check(f"--registry {place.shown}")
    return store


def _below(place: Place, *parts: str) -> Place:
    """Return a place in the registry."""
    end = "/".join(parts)
    name = f"{place.name.rstrip('/')}/{end}" if end else place.name
    shown = f"{place.shown.rstrip('/')}/{end}" if end else place.shown
    return Place(name, None if place.local is None else place.local.joinpath(*parts), shown)


def _directory_of(model: str) -> str:
    """Return a model's id as the name of a directory.

    Example:
      >>> _directory_of("forest@0123456789ab"), _directory_of("a/b@0123456789ab")
      ('forest@0123456789ab', 'a%2Fb@0123456789ab')
    """
    return model.replace("%", "%25").replace("/", "%2F")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
