"""Which fields of an alert a channel shows."""

from __future__ import annotations

from dataclasses import fields

from beam_fraud.alert import Alert

#: All fields of an alert.
FIELDS = tuple(field.name for field in fields(Alert))


def chosen_fields(alert: Alert, names: tuple[str, ...] = FIELDS) -> dict[str, object]:
    """The fields `names` of an alert, in that order."""
    return {name: getattr(alert, name) for name in names}
