"""Which runners there are, and what each can do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions

from beam_fraud.errors import UsageError
from beam_fraud.wording import did_you_mean


class Capability(Enum):
    """One need; the value is how a message says it."""

    #: A splittable DoFn that never has read all, as Kafka's.
    ENDLESS_SOURCE = "a source without an end"
    #: Bags and values that a runner keeps for each key.
    STATE = "state by key"
    #: Timers that wake a key at a time of the clock, while nothing comes.
    CLOCK_TIMERS = "timers by the clock"
    #: Groups that are given on while the source still has more to come.
    GROUPS_IN_A_STREAM = "groups by key before a source ends"


#: What to give in the place of a runner that cannot.
INSTEAD = "leave --runner out, or give PrismRunner, FlinkRunner or DataflowRunner"
_ALL = frozenset(Capability)
_IN_PROCESS = frozenset({Capability.ENDLESS_SOURCE, Capability.STATE})
_ONLY_FILES = frozenset({Capability.STATE})


@dataclass(frozen=True)
class Runner:
    """A runner of Beam as this package sees it.

    What the rest of the package asks of a runner is a field here; it asks by `runner_of`.
    """

    #: As `--runner` has it.
    name: str
    #: What it can do.
    can: frozenset[Capability] = _ALL
    #: Why no pipeline of this package runs there, or "".
    unusable: str = ""
    #: Whether it has been tried with this package's pipelines.
    tried: bool = True
    #: Whether a job server takes the pipeline and starts workers in an environment.
    portable: bool = False
    #: Whether it is this machine's own: it works here, in processes that see its files.
    local: bool = False
    #: Whether it is known of it that a stream ends when its sources do. Flink's sources may stay up
    #: for its checkpoints, so that its streams have to be stopped.
    ends_streams: bool = False
    #: Whether its pipelines run on Prism, or those of them that can.
    on_prism: bool = False
    #: Whether it is Prism, or may be; another runner does not look at Prism's experiments.
    may_be_prism: bool = False
    #: Whether it is Flink, or may be; a job server of another runner drops what it does not know.
    may_be_flink: bool = False
    #: Whether it is Dataflow.
    dataflow: bool = False
    #: How it is told how many workers share its work, or "".
    workers_option: str = ""


#: Found out by running the same graphs on each of Beam 2.77:
#:
#: runner | capability        | how found out
#: -------|-------------------|--------------
#: FnApiRunner, ours | no clock timers, groups only at the end | a stream ends with "time-pending
#:   bundles did not execute"; a window of an endless source fires when the source ends
#: DirectRunner and its kin | only files | clock timers rule out both runners it would choose, and
#:   the one that is left has no splittable DoFn ("was not replaced as expected")
#: Prism, Flink, Dataflow | all | the tests of streams run there; Dataflow by its documentation
#: Spark | only files | its documentation: a stream there has no splittable DoFn and no state
RUNNERS = (
    Runner("FnApiRunner", _IN_PROCESS, local=True, ends_streams=True),
    Runner("EndlessRunner", _IN_PROCESS, local=True, ends_streams=True),
    Runner("DirectRunner", _ONLY_FILES, on_prism=True),
    # What Beam takes for `DirectRunner`.
    Runner("SwitchingDirectRunner", _ONLY_FILES, on_prism=True),
    Runner("BundleBasedDirectRunner", _ONLY_FILES),
    Runner("PrismRunner", portable=True, ends_streams=True, on_prism=True, may_be_prism=True),
    Runner("FlinkRunner", portable=True, may_be_flink=True, workers_option="--parallelism"),
    Runner(
        "PortableRunner",
        portable=True,
        may_be_prism=True,
        may_be_flink=True,
        workers_option="--parallelism",
    ),
    Runner("SparkRunner", _ONLY_FILES, tried=False, portable=True),
    Runner("DataflowRunner", dataflow=True, workers_option="--max_num_workers"),
    Runner("InteractiveRunner", unusable="is for notebooks"),
    Runner("KafkaStreamsRunner", unusable="is in no release of Beam"),
    Runner("TestDirectRunner", unusable="is for Beam's own tests"),
    Runner("TestDataflowRunner", unusable="is for Beam's own tests"),
    Runner("PythonRPCDirectRunner", unusable="is no longer part of Beam"),
    Runner("RenderRunner", unusable="draws pipelines and runs none"),
    Runner("DaskRunner", unusable="tells no counts of rows, which every summary needs"),
)
_BY_NAME = {runner.name.lower(): runner for runner in RUNNERS}


def runner_named(name: str) -> Runner:
    """Return the runner that Beam takes a name for: any case, `Runner` left off, or a dotted path.

    >>> runner_named("flink").name
    'FlinkRunner'
    >>> runner_named("mine.MyRunner").tried
    False
    """
    last = name.rpartition(".")[2].lower()
    known = _BY_NAME.get(last) or _BY_NAME.get(f"{last}runner")
    # One of somebody's own, of which nothing is known.
    return known or Runner(name, tried=False)


def refuse_unusable(name: str) -> None:
    """Refuse a runner that runs no pipeline of this package, whatever the pipeline.

    Args:
      name: as `--runner` gives it.

    Raises:
      UsageError: it is one, or there is no such runner.
    """
    runner = runner_named(name)
    if runner not in RUNNERS and "." not in name:
        fix = did_you_mean(name, [known.name for known in RUNNERS], INSTEAD, form=str)
        raise UsageError(f"--runner {name}: there is no such runner; {fix}")
    if runner.unusable:
        raise UsageError(f"--runner {runner.name}: {runner.unusable}; {INSTEAD}")


def runner_of(options: PipelineOptions) -> Runner:
    """Return the runner that the options ask for."""
    runner = runner_named(str(options.view_as(StandardOptions).runner or "DirectRunner"))
    if runner.portable and options.view_as(PortableOptions).job_endpoint == "embed":
        # Beam's local runner behind a job server.
        return replace(runner, can=_ONLY_FILES)
    return runner
