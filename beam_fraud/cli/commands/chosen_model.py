"""The model of a call: that of `--model`, or the champion of `--registry`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.options import ScoringOptions
from beam_fraud.cli.options.decisions import ModelOptions
from beam_fraud.decisions.decider import Pair
from beam_fraud.decisions.rules.files import RULES_FILE
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.definition_sets import covers
from beam_fraud.models.bundle import Bundle, open_bundle
from beam_fraud.models.registry.choice import Choice, rules_beside
from beam_fraud.models.registry.registry import Registry, open_registry
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.schema.velocity import Velocity
from beam_fraud.state.identity import DEFINITIONS, IN_FORCE
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
    #: What decides at the start though it is no longer in force there: what is in force waits for
    #: its windows.
    before: Pair | None = None

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

    def as_recorded(self, options: ScoringOptions, recorded: Mapping[str, str]) -> ChosenModel:
        """Return the model that goes on in a state.

        A champion that came meanwhile waits for its windows, as if the state had never stopped.

        Args:
          options: options of the call.
          recorded: the identity of the state (`state.identity`); empty for a new one.

        Raises:
          UsageError, FraudError: a model or its rules cannot be used.
        """
        if self.registry is None or DEFINITIONS not in recorded:
            return self
        standing = self.registry.standing
        if IN_FORCE not in recorded:
            # A runner's state, where the windows of the start stay.
            held = _definitions(recorded)
            promoted = [one.former for one in reversed(standing.promotions) if one.kind == "model"]
            formers = [self._before((model, standing.rules)) for model in promoted if model]
            # Without any, the identity says that the state has other windows.
            every = (one for one in (self, *formers) if covers(held, one._velocity(options)))
            return next(every, self)
        model, rules = msgspec.json.decode(recorded[IN_FORCE], type=tuple[str, str | None])
        if rules not in standing.members:
            rules = standing.rules
        before = self._before((model, rules))
        return self if covers(before._velocity(options), self._velocity(options)) else before

    def _before(self, pair: Pair) -> ChosenModel:
        assert self.registry is not None
        return replace(self, before=pair, place=self.registry.bundle_place(pair[0]))

    def _velocity(self, options: ScoringOptions) -> tuple[Velocity, ...]:
        """Return the velocity definitions of the model and its rules."""
        bundle = self.open()
        schema = bundle.schema if options.schema is None else load_schema(options.schema)
        rules = self.rules(options, bundle, schema)
        return bundle.features_in(schema, () if rules is None else rules.columns).velocity

    def windows(self, recorded: Mapping[str, str], features: FeatureSet) -> tuple[Velocity, ...]:
        """Return the velocity definitions that the state was, or is, made for.

        Args:
          recorded: the identity of the state; empty for a new one.
          features: the features of the start.
        """
        if self.registry is None or DEFINITIONS not in recorded:
            return features.velocity
        held = _definitions(recorded)
        known = IN_FORCE in recorded or covers(held, features.velocity)
        return held if known else features.velocity

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
        if self.registry is None:
            return open_bundle(self.place)
        if self.before is not None:
            return self.registry.bundle(self.before[0])
        return self.registry.champion()

    def rules_file(self) -> str | None:
        """Return the file of the rule set in force, compared with the log; None without one.

        Raises:
          UsageError: the registry is at a URL.
          FraudError: a file of the rule set is missing or changed.
        """
        rules = self._rules_id
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
        return rules_beside(bundle, schema, registry, self._rules_id, file, lists)

    @property
    def _rules_id(self) -> str | None:
        if self.before is not None:
            return self.before[1]
        return None if self.registry is None else self.registry.standing.rules


def _definitions(recorded: Mapping[str, str]) -> tuple[Velocity, ...]:
    return tuple(map(Velocity.from_dict, json.loads(recorded[DEFINITIONS])))
