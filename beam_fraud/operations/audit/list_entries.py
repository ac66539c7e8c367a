"""The entries of lists that applied to a decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from beam_fraud.decisions.inputs import DECIDED_AT
from beam_fraud.decisions.lists.changes import Change, list_file, read_history
from beam_fraud.operations.audit.archive import ArchivedRow
from beam_fraud.operations.audit.recomputation import Check, KeptInputs

#: Time within which a process takes up a change (`decisions.lists.file_list`), with a margin.
_DELAY = timedelta(seconds=3)


@dataclass(frozen=True)
class LookUp:
    """A look-up of a list, as it was recorded."""

    #: The list, without the @.
    list: str
    column: str
    value: str | None
    #: Whether the value was in the list.
    listed: bool
    #: The last change of the value before the decision; None without any, or without the list.
    change: Change | None
    #: Whether the list's file says the same; None without the file.
    agrees: bool | None


def look_ups(archived: ArchivedRow, inputs: KeptInputs, lists: Path | None) -> list[LookUp]:
    """Return the look-ups of a decision with the entries that applied.

    Args:
      archived: the row.
      inputs: its kept inputs.
      lists: directory of the lists, or None.

    Raises:
      FraudError: a list is damaged.
    """
    found = []
    for name, listed in inputs.listed.items():
        column, _, of_list = name.rpartition(" in @")
        read = inputs.rule_inputs.get(column)
        value = archived.value(column) if read is None else read[0].as_py()
        change, agrees = None, None
        if lists is not None and list_file(lists, of_list).exists():
            changes = [one for one in read_history(lists, of_list) if one.value == value]
            decided_at, event = archived.value(DECIDED_AT), archived.value("event_time")
            before = [one for one in changes if one.at is not None and one.at <= decided_at]
            change = before[-1] if before else None
            agrees = listed in _possible(changes, decided_at, event)
        found.append(LookUp(of_list, column, value, listed, change, agrees))
    return found


def lists_check(found: Sequence[LookUp]) -> Check | None:
    """Return whether the lists say what was recorded; None without any to compare."""
    compared = [one for one in found if one.agrees is not None]
    if not compared:
        return None
    recorded = {f"{one.column} in @{one.list}": one.listed for one in compared}
    now = {name: one.listed == one.agrees for name, one in zip(recorded, compared, strict=True)}
    return Check("lists", recorded, now, all(one.agrees for one in compared))


def _possible(changes: Sequence[Change], decided_at: datetime, event: datetime) -> Iterator[bool]:
    """Yield what a process may have known, which took up recent changes or not yet."""
    last: Change | None = None
    for change in changes:
        if change.at is None or change.at > decided_at:
            break
        if change.at > decided_at - _DELAY:
            yield _holds(last, event)
        last = change
    yield _holds(last, event)


def _holds(change: Change | None, event: datetime) -> bool:
    if change is None or change.action == "remove":
        return False
    return change.until is None or change.until > event
