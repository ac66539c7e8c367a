"""The options of every command: one frozen dataclass each, composed of groups that they share.

A name is imported at its first use: help of one command need not wait for all others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beam_fraud.cli.options.decisions import ScoringOptions as ScoringOptions
    from beam_fraud.cli.options.groups import BatchOptions as BatchOptions
    from beam_fraud.cli.options.groups import LoggingOptions as LoggingOptions
    from beam_fraud.cli.options.groups import RunnerOptions as RunnerOptions
    from beam_fraud.cli.options.modelling import CheckRulesOptions as CheckRulesOptions
    from beam_fraud.cli.options.modelling import CheckSchemaOptions as CheckSchemaOptions
    from beam_fraud.cli.options.modelling import DemoOptions as DemoOptions
    from beam_fraud.cli.options.modelling import DiffRulesOptions as DiffRulesOptions
    from beam_fraud.cli.options.modelling import EvaluateOptions as EvaluateOptions
    from beam_fraud.cli.options.modelling import ExploreOptions as ExploreOptions
    from beam_fraud.cli.options.modelling import InferSchemaOptions as InferSchemaOptions
    from beam_fraud.cli.options.modelling import RetrainOptions as RetrainOptions
    from beam_fraud.cli.options.modelling import SimulateOptions as SimulateOptions
    from beam_fraud.cli.options.modelling import TrainOptions as TrainOptions
    from beam_fraud.cli.options.models import CompareModelsOptions as CompareModelsOptions
    from beam_fraud.cli.options.models import ExportModelOptions as ExportModelOptions
    from beam_fraud.cli.options.models import ImportModelOptions as ImportModelOptions
    from beam_fraud.cli.options.models import ListModelsOptions as ListModelsOptions
    from beam_fraud.cli.options.models import ShowModelOptions as ShowModelOptions
    from beam_fraud.cli.options.monitoring import MonitorOptions as MonitorOptions
    from beam_fraud.cli.options.monitoring import SkewOptions as SkewOptions
    from beam_fraud.cli.options.pipelines import DoctorOptions as DoctorOptions
    from beam_fraud.cli.options.pipelines import (
        ExportDeadLettersOptions as ExportDeadLettersOptions,
    )
    from beam_fraud.cli.options.pipelines import FeaturesOptions as FeaturesOptions
    from beam_fraud.cli.options.pipelines import ListDeadLettersOptions as ListDeadLettersOptions
    from beam_fraud.cli.options.pipelines import ReplayOptions as ReplayOptions
    from beam_fraud.cli.options.pipelines import RescoreOptions as RescoreOptions
    from beam_fraud.cli.options.pipelines import ScoreOptions as ScoreOptions
    from beam_fraud.cli.options.pipelines import StoredDeadLetterOptions as StoredDeadLetterOptions
    from beam_fraud.cli.options.pipelines import StreamOptions as StreamOptions
    from beam_fraud.cli.options.pipelines import WorkersOptions as WorkersOptions
    from beam_fraud.cli.options.records import AlertTestOptions as AlertTestOptions
    from beam_fraud.cli.options.records import AuditOptions as AuditOptions
    from beam_fraud.cli.options.records import EraseOptions as EraseOptions
    from beam_fraud.cli.options.records import ExportLabelsOptions as ExportLabelsOptions
    from beam_fraud.cli.options.records import ImportLabelsOptions as ImportLabelsOptions
    from beam_fraud.cli.options.records import ListAlertsOptions as ListAlertsOptions
    from beam_fraud.cli.options.records import ResendAlertsOptions as ResendAlertsOptions
    from beam_fraud.cli.options.records import SnoozeAlertsOptions as SnoozeAlertsOptions
    from beam_fraud.cli.options.registry import ListAddOptions as ListAddOptions
    from beam_fraud.cli.options.registry import ListImportOptions as ListImportOptions
    from beam_fraud.cli.options.registry import ListRemoveOptions as ListRemoveOptions
    from beam_fraud.cli.options.registry import ListShowOptions as ListShowOptions
    from beam_fraud.cli.options.registry import RegistryAddOptions as RegistryAddOptions
    from beam_fraud.cli.options.registry import RegistryListOptions as RegistryListOptions
    from beam_fraud.cli.options.registry import RegistryLogOptions as RegistryLogOptions
    from beam_fraud.cli.options.registry import RegistryPromoteOptions as RegistryPromoteOptions
    from beam_fraud.cli.options.registry import RegistryRetireOptions as RegistryRetireOptions
    from beam_fraud.cli.options.registry import RegistryRollbackOptions as RegistryRollbackOptions
    from beam_fraud.cli.options.registry import RegistryShowOptions as RegistryShowOptions
    from beam_fraud.cli.options.registry import RegistryVerifyOptions as RegistryVerifyOptions
    from beam_fraud.cli.options.review import ReviewOptions as ReviewOptions
    from beam_fraud.cli.options.review import UsersAddOptions as UsersAddOptions
    from beam_fraud.cli.options.review import UsersDisableOptions as UsersDisableOptions
    from beam_fraud.cli.options.review import UsersListOptions as UsersListOptions
    from beam_fraud.cli.options.review import UsersResetOptions as UsersResetOptions
    from beam_fraud.cli.options.serving import ServeOptions as ServeOptions

#: Name to the module that declares it.
_MODULES = {
    "ScoringOptions": "decisions",
    "BatchOptions": "groups",
    "LoggingOptions": "groups",
    "RunnerOptions": "groups",
    "CheckRulesOptions": "modelling",
    "CheckSchemaOptions": "modelling",
    "DemoOptions": "modelling",
    "DiffRulesOptions": "modelling",
    "EvaluateOptions": "modelling",
    "ExploreOptions": "modelling",
    "InferSchemaOptions": "modelling",
    "RetrainOptions": "modelling",
    "SimulateOptions": "modelling",
    "TrainOptions": "modelling",
    "CompareModelsOptions": "models",
    "ExportModelOptions": "models",
    "ImportModelOptions": "models",
    "ListModelsOptions": "models",
    "ShowModelOptions": "models",
    "MonitorOptions": "monitoring",
    "SkewOptions": "monitoring",
    "DoctorOptions": "pipelines",
    "ExportDeadLettersOptions": "pipelines",
    "FeaturesOptions": "pipelines",
    "ListDeadLettersOptions": "pipelines",
    "ReplayOptions": "pipelines",
    "RescoreOptions": "pipelines",
    "ScoreOptions": "pipelines",
    "StoredDeadLetterOptions": "pipelines",
    "StreamOptions": "pipelines",
    "WorkersOptions": "pipelines",
    "AlertTestOptions": "records",
    "AuditOptions": "records",
    "EraseOptions": "records",
    "ExportLabelsOptions": "records",
    "ImportLabelsOptions": "records",
    "ListAlertsOptions": "records",
    "ResendAlertsOptions": "records",
    "SnoozeAlertsOptions": "records",
    "ListAddOptions": "registry",
    "ListImportOptions": "registry",
    "ListRemoveOptions": "registry",
    "ListShowOptions": "registry",
    "RegistryAddOptions": "registry",
    "RegistryListOptions": "registry",
    "RegistryLogOptions": "registry",
    "RegistryPromoteOptions": "registry",
    "RegistryRetireOptions": "registry",
    "RegistryRollbackOptions": "registry",
    "RegistryShowOptions": "registry",
    "RegistryVerifyOptions": "registry",
    "ReviewOptions": "review",
    "UsersAddOptions": "review",
    "UsersDisableOptions": "review",
    "UsersListOptions": "review",
    "UsersResetOptions": "review",
    "ServeOptions": "serving",
}


def __getattr__(name: str) -> Any:
    """Import the options of a command at their first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
