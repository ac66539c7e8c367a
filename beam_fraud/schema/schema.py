"""The schema of transactions: roles of columns, and features."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import pyarrow as pa

from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.notation import (
    ABSENT,
    ANY_TIME,
    PLAIN,
    PLAIN_TEXT,
    ZERO_OR_ONE,
    IdNotation,
    LabelNotation,
    NumberNotation,
    SourceNotation,
    TimeNotation,
)
from beam_fraud.schema.rates import Conversion
from beam_fraud.schema.velocity import Velocity
from beam_fraud.wording import did_you_mean

Kind = Literal["numeric", "categorical"]
Missing = Literal["allow", "reject"]
#: The same of a column that only a shadow reads: what it lacks, and what cannot be read, is absent.
Lenient = Literal["lenient"]
#: The same of a column that only links cases, whose values are cut if they are too long.
Linking = Literal["linking"]
#: Treatment of labels: ignored; read where present, as scoring does for features that count known
#: frauds; or required in every row, as for training.
Labels = Literal["ignored", "known", "required"]

#: The roles a column can play, in the order of a transaction's Arrow columns.
ROLES = (
    "transaction_id",
    "event_time",
    "account_id",
    "merchant_id",
    "amount",
    "currency",
    "label",
    "labelled_at",
)
#: Roles whose values are identifiers: UTF-8 strings, integers in decimal form.
ID_ROLES = ("transaction_id", "account_id", "merchant_id")
#: Roles that every schema must assign.
REQUIRED_ROLES = ("event_time", "amount")
#: Roles whose values may be joined from several columns.
COMPOSITE_ROLES = (*ID_ROLES, "event_time", "labelled_at")
#: Roles that can be absent in a row, if the schema says so.
OPTIONAL_ROLES = ("account_id", "merchant_id")
#: Rules by which values are read that no notation describes. By 1 the schemas of bundles without a
#: number are read: `12.0` is an id, and `nan` as well. By 2 they are the id 12 and no id. By 3
#: currencies are codes, trimmed and in upper case; before, they are as written.
Reading = Literal[1, 2, 3]
#: Roles of the label and its time.
LABEL_ROLES = ("label", "labelled_at")
#: Time of an event everywhere in the graph: microseconds, UTC.
EVENT_TIME = pa.timestamp("us", tz="UTC")
#: Names of the graph's own columns, which no feature may have.
RESERVED = frozenset(
    (
        *ROLES,
        *("position", "payload", "reason", "detail"),
        *("score", "flagged", "decision", "rules", "reasons", "model_id"),
        *("rules_id", "shadow_rules"),
        *("is_weekend", "is_night"),
    )
)
#: Names of internal columns of raw batches (`sources.raw`) and steps.
_RAW_NAMES = frozenset(
    (
        *("@position", "@payload", "@appended", "@source", "@reason", "@detail"),
        *("@row", "@order", "@features"),
    )
)
#: Roles whose column may be a categorical feature under the same name.
_CATEGORICAL_ROLES = ("account_id", "merchant_id", "currency")
#: Roles that can be keys of velocity features; so can any other column but a numeric feature.
_KEY_ROLES = _CATEGORICAL_ROLES


#: Fields of a schema that are notations in a manifest.
_NOTATIONS = ("time", "numbers", "ids", "labels", "absent", "optional", "composites", "source")
#: The same, if a manifest has them at all.
_OPTIONAL_NOTATIONS = ("conversion",)


@dataclass(frozen=True)
class FeatureColumn:
    """An input column that is a feature."""

    #: Name of the column in the input, and of the feature.
    column: str
    #: Numbers, or strings coded by the category list in the model bundle.
    kind: Kind = "numeric"
    #: Treatment of an absent value: NaN for the model, or a dead letter.
    missing: Missing | Lenient | Linking = "reject"

    @property
    def lenient(self) -> bool:
        """Return whether no value of it makes a row a dead letter."""
        return self.missing in ("lenient", "linking")


@dataclass(frozen=True)
class Schema:
    """Column roles, features and conventions of one kind of transaction data.

    Raises:
      UsageError: a role is missing, a name is used twice, a timezone is unknown or the key of a
        velocity feature is missing.
    """

    #: Name of the schema in presets and bundles.
    name: str
    #: Role to column; `event_time` and `amount` are required, the others optional.
    roles: dict[str, str]
    #: Features that are columns of the input, in order.
    features: tuple[FeatureColumn, ...] = ()
    #: Whether `is_weekend` and `is_night` are features.
    calendar: bool = True
    #: IANA time zone of weekends and nights.
    timezone: str = "UTC"
    #: Whether a negative amount (a refund) is a transaction or a dead letter.
    allow_negative: bool = False
    #: Definitions of velocity features.
    velocity: tuple[Velocity, ...] = ()
    #: How times are written.
    time: TimeNotation = ANY_TIME
    #: Column to how it writes numbers, where not plainly.
    numbers: dict[str, NumberNotation] = field(default_factory=dict)
    #: Role to how its identifiers are written, where not plainly.
    ids: dict[str, IdNotation] = field(default_factory=dict)
    #: How labels are spelled.
    labels: LabelNotation = ZERO_OR_ONE
    #: Spellings of an absent value.
    absent: tuple[str, ...] = ABSENT
    #: Roles that a row may lack.
    optional: tuple[str, ...] = ()
    #: Name of a role's column to the columns that are joined to it.
    composites: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: How files of text are written.
    source: SourceNotation = PLAIN_TEXT
    #: Conversion of amounts to one currency; None for amounts as paid.
    conversion: Conversion | None = None
    #: Rules for what no notation describes.
    reading: Reading = 3

    def __post_init__(self) -> None:
        """Check the schema, and decide whether amounts are aggregated by currency."""
        if "currency" in self.roles:
            separate = self.conversion is None
            decided = (
                replace(spec, by_currency=separate) if spec.by_currency is None else spec
                for spec in self.velocity
            )
            object.__setattr__(self, "velocity", tuple(decided))
        for role in self.roles:
            if role not in ROLES:
                raise UsageError(
                    f"schema {self.name}: unknown role {role!r} (roles: {', '.join(ROLES)})",
                    Code.SCHEMA_VALUE,
                )
        for role in REQUIRED_ROLES:
            if role not in self.roles:
                raise UsageError(
                    f"schema {self.name}: no column is given for the role {role!r}",
                    Code.ROLE_MISSING,
                )
        parts = (part for parts in self.composites.values() for part in parts)
        features = (feature.column for feature in self.features)
        for column in (*self.roles.values(), *features, *parts):
            if column in _RAW_NAMES or not column.isprintable() or set(column) & set('"\\'):
                raise UsageError(
                    f"schema {self.name}: {column!r} cannot be the name of a column",
                    Code.SCHEMA_VALUE,
                )
        self._check_notation()
        self._check_features()
        self._check_velocity()
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UsageError(
                f"schema {self.name}: unknown timezone {self.timezone!r} (as in 'Europe/Brussels')",
                Code.SCHEMA_VALUE,
            ) from None

    def _check_notation(self) -> None:
        if self.conversion is not None and "currency" not in self.roles:
            raise UsageError(
                f"schema {self.name}: amounts to convert need a column for the role 'currency'",
                Code.ROLE_MISSING,
            )
        for role in self.optional:
            if role not in OPTIONAL_ROLES or role not in self.roles:
                raise UsageError(
                    f"schema {self.name}: the role {role!r} cannot be missing "
                    f"(roles that can: {', '.join(OPTIONAL_ROLES)})",
                    Code.SCHEMA_VALUE,
                )
        for column in self.composites:
            (role,) = [role for role, named in self.roles.items() if named == column]
            if role not in COMPOSITE_ROLES:
                raise UsageError(
                    f"schema {self.name}: the role {role!r} is one column, not several "
                    f"(roles of several: {', '.join(COMPOSITE_ROLES)})",
                    Code.SCHEMA_VALUE,
                )

    def _check_features(self) -> None:
        names = [feature.column for feature in self.features]
        for feature in self.features:
            name = feature.column
            if names.count(name) > 1:
                raise UsageError(
                    f"schema {self.name}: feature {name!r} is listed twice", Code.SCHEMA_VALUE
                )
            if name in RESERVED and name != self.roles.get(name):
                raise UsageError(
                    f"schema {self.name}: {name!r} is a name of the output, rename that feature",
                    Code.SCHEMA_VALUE,
                )
            if name in ROLES and (name not in _CATEGORICAL_ROLES or feature.kind == "numeric"):
                raise UsageError(
                    f"schema {self.name}: {name!r} is a role, which cannot be a {feature.kind} "
                    "feature as well",
                    Code.SCHEMA_VALUE,
                )

    def _check_velocity(self) -> None:
        names = RESERVED | {feature.column for feature in self.features}
        for spec in self.velocity:
            where = f"schema {self.name}: velocity of {' and '.join(spec.key)}"
            for column in spec.key:
                self._check_key(column, where)
            if spec.needs_merchants and "merchant_id" not in self.roles:
                raise UsageError(
                    f"{where}: distinct_merchant needs a column for 'merchant_id'",
                    Code.SCHEMA_VELOCITY,
                )
            if spec.amounts_by_currency and "currency" not in self.roles:
                raise UsageError(
                    f"{where}: amounts by currency need a column for 'currency'",
                    Code.SCHEMA_VELOCITY,
                )
            for name in spec.names:
                if name in names:
                    raise UsageError(
                        f"{where}: there is a feature or column {name!r} already",
                        Code.SCHEMA_VELOCITY,
                    )
            names |= set(spec.names)

    def _check_key(self, column: str, where: str) -> None:
        if column in _KEY_ROLES and column in self.roles:
            return
        for role, played in self.roles.items():
            if column == played and role in _KEY_ROLES:
                raise UsageError(
                    f"{where}: {column!r} has a role; write {role!r}",
                    Code.SCHEMA_VELOCITY,
                )
        if column in RESERVED or column in _RAW_NAMES or column in self.roles.values():
            known = ", ".join(role for role in _KEY_ROLES if role in self.roles)
            raise UsageError(
                f"{where}: {column!r} cannot be a key; "
                f"{known or 'no role'} or a column of text can",
                Code.SCHEMA_VELOCITY,
            )
        if column in (feature.column for feature in self.features if feature.kind == "numeric"):
            raise UsageError(
                f"{where}: {column!r} is a numeric feature; a key is text, make it categorical",
                Code.SCHEMA_VELOCITY,
            )
        if hint := did_you_mean(column, set(_KEY_ROLES) & set(self.roles), likeness=0.9):
            raise UsageError(f"{where}: unknown key {column!r}, {hint}", Code.SCHEMA_VELOCITY)
        if not column or not column.isprintable() or set(column) & set('"\\'):
            raise UsageError(
                f"{where}: {column!r} cannot be the name of a column", Code.SCHEMA_VELOCITY
            )

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns read only as keys of velocity features, in order."""
        read = {*self.roles, *(feature.column for feature in self.features)}
        keys = (column for spec in self.velocity for column in spec.key)
        return tuple(dict.fromkeys(column for column in keys if column not in read))

    def role(self, role: str) -> str | None:
        """Return the column that plays `role`, or None."""
        return self.roles.get(role)

    def with_ids(self) -> Schema:
        """Return the schema itself, or one that reads ids from a column `transaction_id`."""
        if "transaction_id" in self.roles:
            return self
        return replace(self, roles={"transaction_id": "transaction_id", **self.roles})

    def with_labels(self) -> Schema:
        """Return the schema with roles for labels and their times, which rows may lack."""
        return replace(
            self, roles={**dict(zip(LABEL_ROLES, LABEL_ROLES, strict=True)), **self.roles}
        )

    def columns(self, *, labels: Labels) -> tuple[str, ...]:
        """Return every input column this schema reads, each once, roles first.

        Args:
          labels: treatment of labels.
        """
        left_out = LABEL_ROLES if labels == "ignored" else ()
        played = [self.roles[r] for r in ROLES if r in self.roles and r not in left_out]
        roles = (part for column in played for part in self.parts(column))
        features = (feature.column for feature in self.features)
        return tuple(dict.fromkeys((*roles, *features, *self.key_columns)))

    def parts(self, column: str) -> tuple[str, ...]:
        """Return the input columns of a role's column: itself, or those that are joined to it."""
        return self.composites.get(column, (column,))

    def notation_of(self, column: str) -> NumberNotation:
        """Return how a column writes numbers."""
        return self.numbers.get(column, PLAIN)

    @property
    def absent_ids(self) -> tuple[str, ...]:
        """Spellings of an absent id or category, beside the empty text."""
        return self.absent if self.reading >= 2 else ()

    def transactions(self, *, labels: Labels) -> pa.Schema:
        """Return the Arrow schema of validated transactions: roles, then feature columns.

        `account_id` and `merchant_id` always exist, null if the schema has none; `currency`,
        `label` (int8, 0 or 1) and `labelled_at` only if the schema has them, labels only if they
        are read; null labels are unknown. Numeric features are float64 with NaN for absent;
        categorical ones and further keys of velocity features are strings with null for absent.
        """
        fields = [
            pa.field("transaction_id", pa.string(), nullable=False),
            pa.field("event_time", EVENT_TIME, nullable=False),
            pa.field("account_id", pa.string()),
            pa.field("merchant_id", pa.string()),
            pa.field("amount", pa.float64(), nullable=False),
        ]
        if "currency" in self.roles:
            fields.append(pa.field("currency", pa.string()))
        if labels != "ignored" and "label" in self.roles:
            fields.append(pa.field("label", pa.int8(), nullable=labels == "known"))
            if "labelled_at" in self.roles:
                fields.append(pa.field("labelled_at", EVENT_TIME))
        names = {field.name for field in fields}
        for feature in self.features:
            if feature.column not in names:
                numeric = feature.kind == "numeric"
                fields.append(pa.field(feature.column, pa.float64() if numeric else pa.string()))
        fields += [pa.field(column, pa.string()) for column in self.key_columns]
        return pa.schema(fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as JSON-compatible values, the form in a manifest."""
        values = asdict(self)
        if self.reading == 1:
            # What a schema of that time held.
            for name in (*_NOTATIONS, "reading"):
                del values[name]
            values["time_origin"] = self.time.origin
        if self.conversion is None:
            del values["conversion"]
        values["features"] = [asdict(feature) for feature in self.features]
        values["velocity"] = [spec.to_dict() for spec in self.velocity]
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Schema:
        """Return the inverse of `to_dict`.

        Raises:
          UsageError: a key is unknown or a value invalid.
        """
        fields = dict(values)
        try:
            columns = cast(list[Any], fields.pop("features"))
            for column in columns:
                _check_types(FeatureColumn, column)
            features = tuple(FeatureColumn(**column) for column in columns)
            # Schemas of earlier versions have none.
            specs = cast(list[Any], fields.pop("velocity", []))
            # A definition that does not say so aggregates all currencies together.
            decided = {"by_currency": False} if "currency" in fields["roles"] else {}
            velocity = tuple(Velocity.from_dict({**decided, **spec}) for spec in specs)
            if "reading" not in fields:
                fields["time"] = {"origin": fields.pop("time_origin", None)}
                fields["reading"] = 1
            types = get_type_hints(cls)
            notations = (*_NOTATIONS, *_OPTIONAL_NOTATIONS)
            for name in notations:
                if name in fields:
                    fields[name] = msgspec.convert(fields[name], types[name])
            _check_types(cls, {n: v for n, v in fields.items() if n not in notations})
            return cls(features=features, velocity=velocity, **fields)
        except (TypeError, KeyError, ValueError, msgspec.ValidationError) as error:
            raise UsageError(
                f"schema: not one of this version's ({error})", Code.SCHEMA_VALUE
            ) from None


def _check_types(kind: type, values: dict[str, Any]) -> None:
    """Raise TypeError or ValueError for a value of another type than its field."""
    types = get_type_hints(kind)
    for name, value in dict(values).items():
        if name in types:
            try:
                msgspec.convert(value, types[name])
            except msgspec.ValidationError as error:
                raise ValueError(f"{name}: {error}") from None
