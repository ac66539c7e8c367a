"""Map old module paths of persisted classes to the current ones.

A bundle's model and the sources in a Flink savepoint are pickled, and a pickle names each class by
its module. Add an entry here for each class that moves, or older bundles and savepoints do not
open.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

#: Old to new path, each of a module and a name inside it. Never remove an entry.
OLD_PATHS: Mapping[str, str] = {
    "beam_fraud.kafka.settings.KafkaSettings": "beam_fraud.sources.kafka.settings.KafkaSettings",
    "beam_fraud.models.estimators.calibrated.Calibrated": (
        "beam_fraud.models.calibration.Calibrated"
    ),
    "beam_fraud.models.estimators.category_shares.CategoryShares": (
        "beam_fraud.models.estimators.anomalies.CategoryShares"
    ),
    "beam_fraud.models.estimators.empirical_rank.EmpiricalRank": (
        "beam_fraud.models.estimators.anomalies.EmpiricalRank"
    ),
    "beam_fraud.models.estimators.logit_average.LogitAverage": (
        "beam_fraud.models.estimators.ensemble.LogitAverage"
    ),
    "beam_fraud.models.estimators.member.Member": "beam_fraud.models.estimators.ensemble.Member",
    "beam_fraud.models.estimators.rank_average.RankAverage": (
        "beam_fraud.models.estimators.ensemble.RankAverage"
    ),
    "beam_fraud.models.estimators.ranked_anomalies.RankedAnomalies": (
        "beam_fraud.models.estimators.anomalies.RankedAnomalies"
    ),
    "beam_fraud.models.estimators.stacked_logits.StackedLogits": (
        "beam_fraud.models.estimators.ensemble.StackedLogits"
    ),
    "beam_fraud.models.kinds.extra_trees.ExtraTrees": "beam_fraud.models.kinds.forest.ExtraTrees",
    "beam_fraud.models.network.dense.DenseNetwork": (
        "beam_fraud.models.network.fitting.DenseNetwork"
    ),
    "beam_fraud.models.resampling.adasyn.Adasyn": "beam_fraud.models.resampling.smote.Adasyn",
    "beam_fraud.models.resampling.bagged.Bagged": "beam_fraud.models.resampling.bagging.Bagged",
    "beam_fraud.models.resampling.prior.PriorCorrected": (
        "beam_fraud.models.resampling.under.PriorCorrected"
    ),
    "beam_fraud.models.resampling.resampled.Resampled": (
        "beam_fraud.models.resampling.base.Resampled"
    ),
    "beam_fraud.models.resampling.smote_enn.SmoteEnn": (
        "beam_fraud.models.resampling.smote.SmoteEnn"
    ),
    "beam_fraud.models.resampling.tomek.Tomek": "beam_fraud.models.resampling.under.Tomek",
    "beam_fraud.models.space.Choice": "beam_fraud.models.kinds.base.Choice",
    "beam_fraud.models.space.Real": "beam_fraud.models.kinds.base.Real",
    "beam_fraud.models.space.Whole": "beam_fraud.models.kinds.base.Whole",
    "beam_fraud.records.newest_event.NewestEvent": "beam_fraud.records.json_records.NewestEvent",
    "beam_fraud.sources.kafka.start.Start": "beam_fraud.sources.kafka.topic.Start",
}


class _OldModule(ModuleType):
    """A removed module whose names resolve to their current places."""

    def __getattr__(self, name: str) -> Any:
        path = OLD_PATHS.get(f"{self.__name__}.{name}")
        if path is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, attribute = path.rpartition(".")
        return getattr(import_module(module), attribute)


class _OldModules:
    """Find the modules of `OLD_PATHS`, and their packages, if no other finder does.

    A finder and a loader of `importlib.abc` but for the base classes, whose import would take a
    fifth of the time of `--help`.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if any(old.startswith(f"{fullname}.") for old in OLD_PATHS):
            return ModuleSpec(fullname, cast(Any, self), is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing: names resolve on access."""


def register() -> None:
    """Let imports find the modules of `OLD_PATHS`, after all that exist."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(cast(Any, _OldModules()))
