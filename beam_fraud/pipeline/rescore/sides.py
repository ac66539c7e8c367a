"""The models and rule sets of a run, and what they all need of a transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.feature_union import velocity_union, with_columns_of
from beam_fraud.schema.schema import EVENT_TIME, FeatureColumn, Labels, Schema
from beam_fraud.schema.stages import SCORED
from beam_fraud.schema.velocity import Velocity

#: Digits of the digest of a rule file.
_DIGITS = 12


@dataclass(frozen=True)
class Challenge:
    """A model and a rule file of the call."""

    #: The model.
    bundle: Bundle
    #: A TOML file of rules, or None.
    rules: str | None
    #: Id of the rules in a registry, which they have under another name than their file.
    rules_id: str | None = None


@dataclass(frozen=True)
class Side:
    """A model with its rules."""

    #: `new`, `old`, `old2`, ..
    key: str
    bundle: Bundle
    #: The model's features in the schema of the transactions.
    features: FeatureSet
    #: Its rules, or None.
    rules: RuleSet | None
    #: Path of their file, or None.
    rules_file: str | None
    #: First digits of the SHA-256 of the file; empty without rules.
    rule_set: str

    @property
    def shadow(self) -> bool:
        """Return whether it is compared with, and not the new one."""
        return self.key != "new"

    @property
    def name(self) -> str:
        """Name for people: the model, and its rules if it has any."""
        model = self.bundle.model_id
        return f"{model} with {Path(self.rules_file).name}" if self.rules_file else model


@dataclass(frozen=True)
class Sides:
    """All sides of a run."""

    #: The new one first.
    all: tuple[Side, ...]
    #: The schema that the archive is read by.
    schema: Schema
    #: Treatment of labels.
    labels: Labels
    #: Definitions of the velocity features of all sides, each computed once.
    velocity: tuple[Velocity, ...]
    #: Columns of the transactions that are written beside every score.
    segments: tuple[str, ...]

    @property
    def written(self) -> pa.Schema:
        """Columns of the scored rows."""
        own = [
            pa.field("shadow", pa.bool_(), nullable=False),
            pa.field("rule_set", pa.string(), nullable=False),
        ]
        return pa.schema([*SCORED, *own, *self.beside])

    @property
    def beside(self) -> list[pa.Field]:
        """Columns of the transactions that are written beside every score."""
        described = self.schema.transactions(labels=self.labels)
        labels = [pa.field("label", pa.int8()), pa.field("labelled_at", EVENT_TIME)]
        return [*labels, *(described.field(name) for name in self.segments)]


def sides_of(
    new: Challenge, against: Sequence[Challenge], schema: Schema, segments: Sequence[str] = ()
) -> Sides:
    """Prepare the sides of a run.

    A feature that only a model of `against` reads may be missing: the rows that are scored are
    those of the new model.

    Args:
      new: the new model and rules.
      against: what it is compared with.
      schema: the schema of the archive.
      segments: columns to write beside every score.

    Raises:
      UsageError: two sides are the same, rules are invalid, or a segment is a velocity feature.
      FraudError: the schema lacks a feature of the new model, or models read a column differently.
    """
    read = schema
    for challenge in against:
        read = with_columns_of(read, challenge.bundle)
    read = _with_segments(read, segments)
    sides: list[Side] = []
    for number, challenge in enumerate((new, *against)):
        bundle, rules, rule_set = challenge.bundle, None, ""
        if challenge.rules is not None:
            names = vocabulary(read, bundle.velocity_names(), scored=True)
            rules, rule_set = load_rules(challenge.rules, names), _digest(challenge.rules)
            rules = replace(rules, id=challenge.rules_id or rules.id)
        features = bundle.features_in(read, () if rules is None else rules.columns)
        key = ("new", "old")[number] if number < 2 else f"old{number}"
        sides.append(Side(key, bundle, features, rules, challenge.rules, rule_set))
    same = [(side.bundle.model_id, side.rule_set) for side in sides]
    for number, one in enumerate(same):
        if one in same[:number]:
            raise UsageError(
                f"--against {sides[number].bundle.path}: the same model and rules are given twice",
                Code.OPTION_CONFLICT,
            )
    velocity = velocity_union((side.bundle.path, side.features) for side in sides)
    labels: Labels = "ignored" if schema.role("label") is None else "known"
    read = replace(read, velocity=velocity)
    return Sides(tuple(sides), read, labels, velocity, _written_segments(read, segments))


def _with_segments(schema: Schema, segments: Sequence[str]) -> Schema:
    """Return a schema that also reads the columns of segments, as text."""
    there = {feature.column for feature in schema.features}
    there |= {*schema.roles, *schema.roles.values()}
    new = [
        FeatureColumn(name, "categorical", "allow")
        for name in dict.fromkeys(segments)
        if name not in there
    ]
    return replace(schema, features=(*schema.features, *new)) if new else schema


def _written_segments(schema: Schema, segments: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of segments, of which those of roles are written under their role."""
    roles = {column: role for role, column in schema.roles.items()}
    names = dict.fromkeys(roles.get(name, name) for name in segments)
    return tuple(name for name in names if name not in SCORED.names)


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:_DIGITS]
