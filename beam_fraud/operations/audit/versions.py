"""The model and the rules that decided an archived row, found by the ids that it names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from beam_fraud.decisions.rules.condition import Kind
from beam_fraud.decisions.rules.files import RuleFiles
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import rules_from_toml
from beam_fraud.errors import FraudError
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.registry.registry import Registry
from beam_fraud.operations.audit.archive import Archive

#: Form of the id of a rule set: also a safe name of a file.
_RULES_ID = re.compile(r"[\w][\w .+-]*@[0-9a-f]{12}")


@dataclass(frozen=True)
class Missing:
    """Why something that decided is not at hand."""

    why: str


@dataclass(frozen=True)
class Versions:
    """The bundles and rules at hand to compute decisions again."""

    #: The archive, which has the rules of its runs.
    archive: Archive
    #: The bundle of `--model`, or None.
    bundle: Bundle | None = None
    #: The registry of `--registry`, or None.
    registry: Registry | None = None
    #: The rules of `--rules`, or None.
    rules: RuleFiles | None = None

    def bundle_of(self, model_id: str) -> Bundle | Missing:
        """Return the bundle that decided a row, by the id that the row names."""
        if self.bundle is not None:
            if self.bundle.model_id == model_id:
                return self.bundle
            return Missing(
                f"model: {model_id} decided, and {self.bundle.path} is {self.bundle.model_id}"
            )
        if self.registry is None:
            return Missing(f"model: give --registry or --model with {model_id}")
        if model_id not in self.registry.standing.members:
            return Missing(f"model: {self.registry.place.shown} has no {model_id}")
        try:
            return self.registry.bundle(model_id)
        except FraudError as error:
            return Missing(f"model: {error}")

    def rules_of(
        self, rules_id: str, names: Mapping[str, Kind], lists: Collection[str]
    ) -> RuleSet | Missing:
        """Return the rules that decided a row.

        Args:
          rules_id: the id that the row names.
          names: names whose values the row keeps.
          lists: lists whose look-ups the row keeps.
        """
        try:
            files = self._rule_files(rules_id)
            if isinstance(files, Missing):
                return files
            return rules_from_toml(
                files.text,
                names,
                where=f"rules {rules_id}",
                files=files.contents,
                looked_up=lists,
                rules_id=rules_id,
            )
        except FraudError as error:
            return Missing(f"rules: {error}")

    def _rule_files(self, rules_id: str) -> RuleFiles | Missing:
        if self.rules is not None:
            if _digest(self.rules.id) == _digest(rules_id):
                return self.rules
            return Missing(f"rules: {rules_id} decided, and --rules is {self.rules.id}")
        if self.registry is not None and rules_id in self.registry.standing.members:
            return RuleFiles(rules_id, self.registry.rule_files(rules_id))
        files = self.archive.rules(rules_id) if _RULES_ID.fullmatch(rules_id) else None
        if files is None:
            return Missing(
                f"rules: neither the archive nor a registry has {rules_id}; give --rules with it"
            )
        if files.id != rules_id:
            return Missing(f"rules: the archive's file of {rules_id} was changed, it is {files.id}")
        return files


def _digest(rules_id: str) -> str:
    return rules_id.rpartition("@")[2]
