"""Challengers in shadow: names of a registry, bundles and rules files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from beam_fraud.decisions.decider import Decider
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.shadow import Challenger
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import Bundle, check_packages, open_bundle
from beam_fraud.models.feature_union import velocity_union, with_columns_of
from beam_fraud.models.registry.choice import rules_for_model
from beam_fraud.models.registry.registry import Registry, open_registry
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.urls import Place

#: Name of all challengers of a registry.
ALL = "challengers"


@dataclass(frozen=True)
class ShadowNames:
    """Where it is written what scores in shadow."""

    #: `ALL`, ids and names in the registry, and others; each with the place that it is otherwise.
    names: Mapping[str, Place]
    #: The registry, or None.
    registry: Place | None = None
    #: Directory of the lists that rules name as `@name`, in place of the registry's own.
    lists: Path | None = None
    #: Schema of the transactions; None for that of the champion's model.
    schema: Schema | None = None
    #: Whether this machine scores, and so needs the packages of models.
    here: bool = True

    def read(self) -> Registry | None:
        """Read the registry, if there is one.

        Raises:
          FraudError: it cannot be read.
        """
        return None if self.registry is None else open_registry(self.registry)

    def ids(self, registry: Registry | None) -> list[str]:
        """Return ids of the registry, and paths, each once.

        Raises:
          UsageError: all challengers of no registry are asked for.
        """
        ids = dict[str, None]()
        for name in self.names:
            if name == ALL:
                if registry is None:
                    raise UsageError(
                        f"--shadow {ALL}: needs --registry, which has them", Code.OPTION_CONFLICT
                    )
                ids |= dict.fromkeys(registry.standing.challengers)
            elif registry is not None and registry.standing.named(name):
                ids[registry.find(name).id] = None
            else:
                ids[name] = None
        return list(ids)

    def bundles(self, registry: Registry | None) -> list[Place]:
        """Return the places of the models, which workers open.

        Raises:
          UsageError: as `ids`.
        """
        places = []
        for name in self.ids(registry):
            if registry is not None and name in registry.standing.members:
                if registry.standing.members[name].kind == "model":
                    places.append(registry.bundle_place(name))
            elif not _is_rules(self.names[name]):
                places.append(self.names[name])
        return places

    def challenger(
        self,
        name: str,
        champion: Decider,
        registry: Registry | None,
        known: Mapping[str, Challenger],
    ) -> Challenger:
        """Open a challenger.

        Args:
          name: one of `ids`.
          champion: what decides, with the columns and windows that are read.
          registry: as it was read.
          known: challengers by name, whose parts are not read again.

        Raises:
          UsageError: rules are invalid or use what the schema lacks.
          FraudError: it cannot be used.
        """
        opened = known.get(name)
        if opened is not None:
            if opened.of_rules:
                assert opened.decider.rules is not None
                return self._of_rules(name, opened.decider.rules, champion)
            return self._of_model(name, opened.decider.bundle, champion)
        if registry is not None and name in registry.standing.members:
            if registry.standing.members[name].kind == "model":
                return self._of_model(name, registry.bundle(name), champion)
            schema = self._schema_of(champion)
            rules = registry.rules(name, champion.bundle, schema, self.lists)
            return self._of_rules(name, rules, champion)
        place = self.names[name]
        if not _is_rules(place):
            if registry is not None and place.local is not None and not place.local.exists():
                # It says what the registry has instead.
                registry.find(name)
            return self._of_model(name, open_bundle(place), champion)
        live = self.lists or (None if registry is None else registry.lists)
        rules = rules_for_model(str(place.local), champion.bundle, self._schema_of(champion), live)
        return self._of_rules(name, rules, champion)

    def taken_anew(
        self, champion: Decider, read: Schema, known: Collection[Challenger]
    ) -> tuple[tuple[Challenger, ...], dict[str, str]]:
        """Take the challengers of a stream that goes on by another champion.

        Args:
          champion: the new one.
          read: the schema that the stream reads.
          known: the challengers at the start.

        Returns:
          The challengers, and the reason by name of those that cannot go on.
        """
        schema = replace(read, velocity=champion.features.schema.velocity)
        champion = replace(champion, features=replace(champion.features, schema=schema))
        challengers: dict[str, Challenger] = {}
        refused = dict[str, str]()
        opened = {one.name: one for one in known}
        try:
            registry = self.read()
            names = self.ids(registry)
        except FraudError as error:
            return (), {"--shadow": str(error)}
        for name in names:
            try:
                challenger = self.challenger(name, champion, registry, opened)
                refuse_other_windows(challenger, champion)
                if with_lenient_columns(schema, challenger) != schema:
                    raise FraudError(
                        "it needs columns that the stream does not read; start the stream again",
                        Code.STREAM_CHANGED,
                    )
            except FraudError as error:
                refused[name] = str(error)
                continue
            if challenger.key not in champion.pair:
                challengers[challenger.key] = challenger
        return tuple(challengers.values()), refused

    def _schema_of(self, champion: Decider) -> Schema:
        """Return the schema with all velocity features that rules may name."""
        return self.schema or champion.bundle.schema

    def _of_model(self, name: str, bundle: Bundle, champion: Decider) -> Challenger:
        """Return a model beside the rules in force."""
        if self.here:
            check_packages(bundle)
        rules = champion.rules
        # Its features may need columns of its own; those of the rules are computed anyway.
        read = with_columns_of(champion.features.schema, bundle, "lenient")
        features = bundle.features_in(read, () if rules is None else rules.columns)
        return Challenger(name, bundle.model_id, Decider(bundle, features, rules))

    def _of_rules(self, name: str, rules: RuleSet, champion: Decider) -> Challenger:
        """Return rules beside the champion's model."""
        assert rules.id is not None, "they were read from a file or a registry"
        features = champion.bundle.features_in(self._schema_of(champion), rules.columns)
        decider = Decider(champion.bundle, features, rules)
        return Challenger(name, rules.id, decider, of_rules=True)


def with_lenient_columns(schema: Schema, challenger: Challenger) -> Schema:
    """Return a schema that also reads the columns of a challenger, without its calendar.

    Raises:
      FraudError: the schema reads such a column as another kind.
    """
    read = with_columns_of(schema, challenger.decider.bundle, "lenient")
    return replace(read, calendar=schema.calendar)


def refuse_other_windows(challenger: Challenger, champion: Decider) -> None:
    """Check that a stream's windows are enough.

    Raises:
      FraudError: it needs others.
    """
    own, other = champion.features, challenger.decider.features
    known = {name for one in own.velocity for name in one.names}
    union = velocity_union(((champion.bundle.path, own), (challenger.key, other)))
    lacking = [name for one in union for name in one.names if name not in known]
    if lacking:
        raise FraudError(
            f"needs {lacking[0]}, which is in no window of the stream; compare it by `rescore`, or "
            "start a stream of a model with these windows, with another --out and --history",
            Code.STREAM_CHANGED,
        )


def _is_rules(place: Place) -> bool:
    """Return whether a name is that of a file, and so of no bundle."""
    return place.local is not None and place.local.is_file()
