"""The model of a call: that of `--model`, or the champion of `--registry`."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.options import ScoringOptions
from beam_fraud.cli.options.groups import ModelOptions
from beam_fraud.decisions.rules.files import RULES_FILE
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import Bundle, open_bundle
from beam_fraud.models.registry.choice import Choice, rules_beside
from beam_fraud.models.registry.registry import Registry, open_registry
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place


@dataclass(frozen=True)
class ChosenModel:
    """The model that `--model` names, or the champion of `--registry`."""

    #: Directory of the bundle.
    place: Place
    #: The option that names it.
    option: str
    #: The registry, as it was read at the start.
    registry: Registry | None = None

    @classmethod
    def of(cls, options: ModelOptions) -> ChosenModel:
        """Return the model of a call.

        Raises:
          UsageError: neither option is given, or both.
          FraudError: the registry is damaged, or has no champion.
        """
        if options.model is not None and options.registry is not None:
            raise UsageError("--registry: not together with --model", Code.OPTION_CONFLICT)
        if options.model is not None:
            return cls(Place.parse(options.model), "--model")
        if options.registry is None:
            raise UsageError(
                "give --model BUNDLE, or --registry DIR with a champion", Code.OPTION_MISSING
            )
        registry = open_registry(Place.parse(options.registry))
        place = registry.bundle_place(registry.champion_id())
        return cls(place, "--registry", registry)

    def choice(self, options: ScoringOptions, *, here: bool) -> Choice | None:
        """Return what a running command follows; None if nothing may change.

        Args:
          options: options of the call.
          here: whether its workers have the rules file.
        """
        if self.registry is None and (options.rules is None or not here):
            return None
        return Choice(
            registry=None if self.registry is None else self.registry.place,
            rules_file=options.rules,
            keeps_rules=options.rules is not None and not here,
            lists=lists_directory(options.lists),
            schema=None if options.schema is None else load_schema(options.schema),
        )

    def open(self) -> Bundle:
        """Read and check the bundle.

        Raises:
          FraudError: it cannot be used.
        """
        return open_bundle(self.place) if self.registry is None else self.registry.champion()

    def rules_file(self) -> str | None:
        """Return the file of the rule set in force, compared with the log; None without one.

        Raises:
          UsageError: the registry is at a URL.
          FraudError: a file of the rule set is missing or changed.
        """
        rules = None if self.registry is None else self.registry.standing.rules
        if self.registry is None or rules is None:
            return None
        self.registry.rule_files(rules)
        place = self.registry.rules_place(rules)
        if place.local is None:
            raise UsageError(
                f"--registry {self.registry.place.shown}: its rules {rules} are at a URL; copy "
                "them here and give --rules",
                Code.URL_UNUSABLE,
            )
        return str(place.local / RULES_FILE)

    def rules(self, options: ScoringOptions, bundle: Bundle, schema: Schema) -> RuleSet | None:
        """Return the rules of a file, or those in force in the registry.

        Raises:
          UsageError, FraudError: as `rules_beside`.
        """
        file, lists, registry = options.rules, lists_directory(options.lists), self.registry
        rules = None if registry is None else registry.standing.rules
        return rules_beside(bundle, schema, registry, rules, file, lists)
