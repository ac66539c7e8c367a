"""The supported runners and their capabilities."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from beam_fraud.errors import Code, UsageError
from beam_fraud.wording import did_you_mean


class Capability(Enum):
    """A capability; the value is its name in messages."""

    #: An unbounded splittable DoFn, as Kafka's.
    ENDLESS_SOURCE = "a source without an end"
    #: State per key: bags and values.
    STATE = "state by key"
    #: Processing-time timers, which wake a key even without input.
    CLOCK_TIMERS = "timers by the clock"
    #: Groups that are emitted before the source ends.
    GROUPS_IN_A_STREAM = "groups by key before a source ends"


#: Alternatives to a runner that lacks one.
INSTEAD = "leave --runner out, or give PrismRunner, FlinkRunner or DataflowRunner"
_ALL = frozenset(Capability)
_IN_PROCESS = frozenset({Capability.ENDLESS_SOURCE, Capability.STATE})
#: What a runner can do that runs pipelines over files alone.
ONLY_FILES = frozenset({Capability.STATE})


@dataclass(frozen=True)
class Runner:
    """A Beam runner and its properties.

    Every property of a runner that this package needs is a field here; a `Submission` holds the
    runner of a call.
    """

    #: Value of `--runner`.
    name: str
    #: Its capabilities.
    can: frozenset[Capability] = _ALL
    #: Reason why it runs no pipeline of this package, or "".
    unusable: str = ""
    #: Whether it was tested with this package's pipelines.
    tried: bool = True
    #: Whether a job server takes the pipeline and starts workers in an environment.
    portable: bool = False
    #: Whether it runs on this machine, in processes that see its files.
    local: bool = False
    #: Whether a stream is known to end with its sources. Flink's sources may stay up for its
    #: checkpoints, so its streams have to be cancelled.
    ends_streams: bool = False
    #: Whether some or all of its pipelines run on Prism.
    on_prism: bool = False
    #: Whether it may be Prism; another runner ignores Prism's experiments.
    may_be_prism: bool = False
    #: Whether it may be Flink; a job server of another runner drops unknown options.
    may_be_flink: bool = False
    #: Whether it is Dataflow.
    dataflow: bool = False
    #: Its option for the number of workers, or "".
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
    Runner("DirectRunner", ONLY_FILES, on_prism=True),
    # Names that Beam maps to `DirectRunner`.
    Runner("SwitchingDirectRunner", ONLY_FILES, on_prism=True),
    Runner("BundleBasedDirectRunner", ONLY_FILES),
    Runner("PrismRunner", portable=True, ends_streams=True, on_prism=True, may_be_prism=True),
    Runner("FlinkRunner", portable=True, may_be_flink=True, workers_option="--parallelism"),
    Runner(
        "PortableRunner",
        portable=True,
        may_be_prism=True,
        may_be_flink=True,
        workers_option="--parallelism",
    ),
    Runner("SparkRunner", ONLY_FILES, tried=False, portable=True),
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
    """Return the runner of a name: any case, without `Runner`, or a dotted path.

    >>> runner_named("flink").name
    'FlinkRunner'
    >>> runner_named("mine.MyRunner").tried
    False
    """
    last = name.rpartition(".")[2].lower()
    known = _BY_NAME.get(last) or _BY_NAME.get(f"{last}runner")
    # A custom runner with unknown capabilities.
    return known or Runner(name, tried=False)


def refuse_unusable(name: str) -> None:
    """Refuse a runner that runs no pipeline of this package.

    Args:
      name: value of `--runner`.

    Raises:
      UsageError: it runs none, or does not exist.
    """
    runner = runner_named(name)
    if runner not in RUNNERS and "." not in name:
        fix = did_you_mean(name, [known.name for known in RUNNERS], INSTEAD, form=str)
        raise UsageError(f"--runner {name}: there is no such runner; {fix}", Code.RUNNER_UNUSABLE)
    if runner.unusable:
        raise UsageError(
            f"--runner {runner.name}: {runner.unusable}; {INSTEAD}", Code.RUNNER_UNUSABLE
        )
