"""Where it is written what decides, and what is written there now."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from beam_fraud.decisions.decider import Decider, Pair
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import FilesOf, load_rules, read_rule_files
from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.registry.registry import Registry, open_registry
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.urls import Place


def rules_for_model(path: str, bundle: Bundle, schema: Schema, lists: Path | None) -> RuleSet:
    """Return the rules of a file, which may use features of the model and the schema.

    Args:
      path: the file.
      bundle: the model.
      schema: the schema of the transactions.
      lists: directory of the lists that rules name as `@name`, or None.

    Raises:
      UsageError: the file is invalid.
      FraudError: it cannot be read.
    """
    return load_rules(path, vocabulary(schema, bundle.velocity_names(), scored=True), lists)


def rules_beside(
    bundle: Bundle,
    schema: Schema,
    registry: Registry | None,
    rules: str | None,
    file: str | None,
    lists: Path | None,
) -> RuleSet | None:
    """Return the rules beside a model: those of a file, or else a rule set of the registry.

    Args:
      bundle: the model.
      schema: the schema of the transactions.
      registry: the registry, or None.
      rules: id of the rule set there, or None.
      file: a rules file, or None.
      lists: directory of the lists that rules name as `@name`, in place of the registry's own.

    Raises:
      UsageError: the rules are invalid, or use what the model and the schema lack.
      FraudError: a file is missing, unreadable or was changed.
    """
    if file is not None:
        own = None if registry is None else registry.lists
        return rules_for_model(file, bundle, schema, lists or own)
    if registry is None or rules is None:
        return None
    return registry.rules(rules, bundle, schema, lists)


def rules_id(path: str, files_of: FilesOf | None = None) -> str | None:
    """Return the id of a rules file and the files of its lists; None if one is unreadable.

    Raises:
      FraudError: the process that `files_of` asks has ended, which says nothing about the files.
    """
    try:
        return read_rule_files(path, files_of).id
    except FraudError as error:
        if error.code == Code.WORKER_ENDED:
            raise
        return None


@dataclass(frozen=True)
class Choice:
    """Where it is written what decides: a registry, a file of rules, or both."""

    #: The registry whose champion decides, or None for a model that stays.
    registry: Place | None
    #: The file of the rules, in place of those in force in the registry; or None.
    rules_file: str | None = None
    #: Whether the rules of the start stay, because the workers do not have their file.
    keeps_rules: bool = False
    #: Directory of the lists that rules name as `@name`, in place of the registry's own.
    lists: Path | None = None
    #: Schema of the transactions; None for that of the model.
    schema: Schema | None = None

    def look(self, known: Decider, files_of: FilesOf | None = None) -> Chosen:
        """Return what is written there now.

        Args:
          known: what decides now.
          files_of: as of `read_rule_files`.

        Raises:
          FraudError: the registry cannot be read, was changed, or has no champion.
        """
        registry = None if self.registry is None else open_registry(self.registry)
        model = known.bundle.model_id if registry is None else registry.champion_id()
        if self.keeps_rules:
            rules = known.pair[1]
        elif self.rules_file is not None:
            rules = rules_id(self.rules_file, files_of)
        else:
            rules = None if registry is None else registry.standing.rules
        return Chosen(self, registry, model, rules)

    def named(self, pair: Pair, known: Decider) -> Decider:
        """Return what decided once, by its ids.

        Raises:
          FraudError: it is no longer there, or was changed.
        """
        registry = None if self.registry is None else open_registry(self.registry)
        return Chosen(self, registry, *pair).decider(known)


@dataclass(frozen=True)
class Chosen:
    """The model and rules that a place of choice names at one moment."""

    choice: Choice
    #: The registry as it was read.
    registry: Registry | None
    #: Ids of the model and the rules; None for no rules, or for a rules file that is unreadable.
    model_id: str
    rules_id: str | None

    @property
    def pair(self) -> Pair:
        """Ids of the model and the rules."""
        return self.model_id, self.rules_id

    @property
    def version(self) -> str:
        """A text that changes with each write there, equal for all readers."""
        entries = 0 if self.registry is None else len(self.registry.log.entries)
        written = 0
        with suppress(OSError):
            if self.choice.rules_file is not None and not self.choice.keeps_rules:
                written = Path(self.choice.rules_file).expanduser().stat().st_mtime_ns
        return f"{entries} {written}"

    def decider(self, known: Decider) -> Decider:
        """Open what is chosen; parts that `known` has are not read again.

        Raises:
          UsageError: the rules are invalid, or use what the model and the schema lack.
          FraudError: a file is missing or was changed, or the schema lacks a feature.
        """
        bundle = known.bundle
        if self.model_id != bundle.model_id:
            assert self.registry is not None, "without a registry, the model stays"
            bundle = self.registry.bundle(self.model_id)
        schema = self.choice.schema or bundle.schema
        rules = known.rules if self.choice.keeps_rules else self._rules(bundle, schema)
        features = bundle.features_in(schema, () if rules is None else rules.columns)
        return replace(known, bundle=bundle, features=features, rules=rules)

    def _rules(self, bundle: Bundle, schema: Schema) -> RuleSet | None:
        choice = self.choice
        return rules_beside(
            bundle, schema, self.registry, self.rules_id, choice.rules_file, choice.lists
        )
