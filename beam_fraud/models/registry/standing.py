"""The standing of a registry after its log: champion, challengers, target of a rollback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from beam_fraud.models.registry.log import Entry, Kind

#: State of a model or rule set.
State = Literal["champion", "challenger", "former", "retired"]


@dataclass(frozen=True)
class Promotion:
    """A promotion that is in effect."""

    kind: Kind
    #: What was promoted.
    id: str
    #: What decided before; None for nothing.
    former: str | None
    #: Whether it was a challenger before.
    challenged: bool


@dataclass(frozen=True)
class Standing:
    """The result of all entries of a log."""

    #: Id to the latest entry that added it, in the order of their addition.
    members: Mapping[str, Entry] = field(default_factory=dict)
    #: The model that decides.
    champion: str | None = None
    #: The rule set beside it.
    rules: str | None = None
    #: Models and rule sets that wait for their promotion.
    challengers: tuple[str, ...] = ()
    retired: frozenset[str] = frozenset()
    #: Promotions in effect, the latest last.
    promotions: tuple[Promotion, ...] = ()

    def in_force(self, kind: Kind) -> str | None:
        """Return the id of the champion, or of the rule set beside it."""
        return self.champion if kind == "model" else self.rules

    def state_of(self, member: str) -> State:
        """Return the state of a model or rule set."""
        if member in (self.champion, self.rules):
            return "champion"
        if member in self.challengers:
            return "challenger"
        return "retired" if member in self.retired else "former"

    @property
    def decisive(self) -> tuple[object, ...]:
        """The facts on which a promotion, rollback or retirement is decided."""
        return self.champion, self.rules, self.challengers, self.retired, self.promotions

    def named(self, name: str) -> list[str]:
        """Return the ids that a name or id means: the latest one of each kind that is not retired.

        Example:
          >>> Standing().named("forest")
          []
        """
        if name in self.members:
            return [name]
        latest: dict[Kind, str] = {}
        for member, entry in self.members.items():
            if member.rpartition("@")[0] == name and member not in self.retired:
                latest[entry.kind] = member
        return list(latest.values())


class ImpossibleError(Exception):
    """A change that does not fit the standing: the reason and the fix."""


def after(standing: Standing, entry: Entry) -> Standing:
    """Return the standing after a change.

    Raises:
      ImpossibleError: the change does not fit.
    """
    if entry.action == "add":
        return _added(standing, entry)
    if entry.id not in standing.members or standing.members[entry.id].kind != entry.kind:
        raise ImpossibleError(f"{entry.id} is not in the registry; add it first")
    if entry.action == "promote":
        return _promoted(standing, entry)
    if entry.action == "retire":
        return _retired(standing, entry)
    return _rolled_back(standing, entry)


def _added(standing: Standing, entry: Entry) -> Standing:
    known = standing.members.get(entry.id)
    if known is not None and (known.digest, known.kind) != (entry.digest, entry.kind):
        raise ImpossibleError(f"another {entry.id} is in the registry; give it another name")
    if known is not None and entry.id not in standing.retired:
        raise ImpossibleError(f"{entry.id} is in the registry already")
    members = {member: old for member, old in standing.members.items() if member != entry.id}
    return replace(
        standing,
        members={**members, entry.id: entry},
        challengers=(*standing.challengers, entry.id),
        retired=standing.retired - {entry.id},
    )


def _promoted(standing: Standing, entry: Entry) -> Standing:
    former = standing.in_force(entry.kind)
    if former == entry.id:
        raise ImpossibleError(f"{entry.id} is the champion already")
    if entry.id in standing.retired:
        raise ImpossibleError(f"{entry.id} is retired; add it again, then promote it")
    if entry.in_force != entry.id:
        raise ImpossibleError(f"{entry.id} is promoted, and {entry.in_force} would decide")
    promotion = Promotion(entry.kind, entry.id, former, entry.id in standing.challengers)
    return replace(
        _deciding(standing, entry.kind, entry.id),
        challengers=tuple(one for one in standing.challengers if one != entry.id),
        promotions=(*standing.promotions, promotion),
    )


def _rolled_back(standing: Standing, entry: Entry) -> Standing:
    last = last_promotion(standing)
    if (last.id, last.kind, last.former) != (entry.id, entry.kind, entry.in_force):
        raise ImpossibleError(f"the last promotion was that of {last.id}")
    back = (last.id,) if last.challenged else ()
    return replace(
        _deciding(standing, last.kind, last.former),
        challengers=(*standing.challengers, *back),
        promotions=standing.promotions[:-1],
    )


def last_promotion(standing: Standing) -> Promotion:
    """Return the promotion that a rollback undoes.

    Raises:
      ImpossibleError: there is none, nothing decided before it, or that was retired since.
    """
    if not standing.promotions:
        raise ImpossibleError("no promotion is in effect; there is nothing to go back to")
    last = standing.promotions[-1]
    if last.kind == "model" and last.former is None:
        raise ImpossibleError(f"{last.id} is the first champion; promote another model instead")
    if last.former in standing.retired:
        raise ImpossibleError(
            f"{last.former}, which decided before {last.id}, was retired since; add it again, "
            "then promote it"
        )
    return last


def _retired(standing: Standing, entry: Entry) -> Standing:
    state = standing.state_of(entry.id)
    if state == "champion":
        raise ImpossibleError(f"{entry.id} decides; promote another one, or roll back, first")
    if state == "retired":
        raise ImpossibleError(f"{entry.id} is retired already")
    return replace(
        standing,
        challengers=tuple(one for one in standing.challengers if one != entry.id),
        retired=standing.retired | {entry.id},
    )


def _deciding(standing: Standing, kind: Kind, member: str | None) -> Standing:
    if kind == "model":
        return replace(standing, champion=member)
    return replace(standing, rules=member)
