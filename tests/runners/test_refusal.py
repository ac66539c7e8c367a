"""A call that its runner cannot carry out is one line and an exit code; nothing is written."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli import main
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import open_bundle
from beam_fraud.operations.doctor.check import refused as refused_line
from beam_fraud.operations.doctor.runner import check_runner
from beam_fraud.pipeline.batch import Inputs, Scoring, build_features, build_score
from beam_fraud.runners.address import Address
from beam_fraud.runners.call import Call
from beam_fraud.runners.checks import checks_of, enforce
from beam_fraud.runners.runner import RUNNERS, Capability
from beam_fraud.runners.submission import Submission
from beam_fraud.runners.worker_place import WorkerPlace
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.schema.toml import load_schema
from beam_fraud.sinks.url import parse_sink
from beam_fraud.sources.watch.source import WatchSource
from beam_fraud.storage.batch_outputs import FEATURES, SCORE_BRANCHES, batch_outputs
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.read_stream import ReadStream
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.flink_stand_in import flink_stand_in
from tests.graph_needs import needs_of
from tests.job_server import job_server

Refused = Callable[..., str]
EXTERNAL = ("--environment_type=EXTERNAL", "--environment_config=127.0.0.1:50000")
LOOPBACK = ("--environment_type=LOOPBACK",)


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Return a function that makes a failing call and returns its line."""
    monkeypatch.chdir(tmp_path)

    def call(command: str, code: int, *options: str) -> str:
        read = ["--watch", "inbox"] if command == "stream" else ["day.parquet"]
        capsys.readouterr()
        assert main([command, *read, "--model", "model", "--out", "out", *options]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        lines = [line for line in printed.err.splitlines() if " warning " not in line]
        assert len(lines) == 1, printed.err
        assert "internal error" not in lines[0]
        assert list(tmp_path.iterdir()) == []
        return lines[0].removeprefix("beam-fraud: ")

    return call


@pytest.fixture
def silent() -> str:
    """An address without a server."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("name", [runner.name for runner in RUNNERS if runner.unusable])
def test_a_runner_that_cannot_run_the_pipelines_is_refused(refused: Refused, name: str) -> None:
    line = refused("score", 2, "--runner", name)
    assert line.startswith(f"--runner {name}: ")
    assert line.endswith(
        "; leave --runner out, or give PrismRunner, FlinkRunner or DataflowRunner [BF801]"
    )


@pytest.mark.parametrize("name", ["DirectRunner", "direct", "BundleBasedDirectRunner", "Spark"])
def test_a_runner_without_endless_sources_runs_no_stream(refused: Refused, name: str) -> None:
    line = refused("stream", 2, "--runner", name)
    assert "cannot run this, which needs a source without an end; leave --runner out" in line


def test_a_job_server_of_this_process_runs_no_stream(refused: Refused) -> None:
    options = ("--runner=PortableRunner", "--job_endpoint=embed", *LOOPBACK)
    assert "cannot run this, which needs" in refused("stream", 2, *options)


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (
            "score",
            ("--workers=2", "--runner=FlinkRunner"),
            "--workers 2: shares the work of this machine's own runner; with --runner FlinkRunner "
            "give --parallelism=N",
        ),
        (
            "score",
            ("--workers=2", "--runner=PrismRunner"),
            "--runner PrismRunner leave it out",
        ),
        (
            "score",
            ("--flink_master=127.0.0.1:1",),
            "--flink_master: without --runner nothing looks at it; leave it out, or give --runner "
            "FlinkRunner or PortableRunner",
        ),
        (
            "stream",
            ("--checkpointing_interval=1000",),
            "--checkpointing_interval: without --runner nothing looks at it",
        ),
        (
            "stream",
            ("--environment_type=LOOPBACK",),
            "--environment_type: without --runner nothing looks at it",
        ),
        (
            "score",
            ("--runner=FlinkRunner", "--direct_running_mode=multi_threading"),
            "--direct_running_mode: --runner FlinkRunner does not look at it; leave it out, or "
            "give --runner FnApiRunner or DirectRunner",
        ),
        (
            "score",
            ("--runner=PortableRunner", *LOOPBACK),
            "--runner PortableRunner: say which job server takes the pipeline, as in "
            "--job_endpoint=127.0.0.1:8099, or give FlinkRunner or PrismRunner",
        ),
        (
            "score",
            ("--runner=PortableRunner", "--job_endpoint=rubbish", *LOOPBACK),
            "--job_endpoint rubbish: an address is written HOST:PORT",
        ),
        (
            "score",
            ("--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=KITCHEN"),
            "--environment_type KITCHEN: must be one of DOCKER, PROCESS, EXTERNAL, LOOPBACK",
        ),
        (
            "score",
            ("--runner=PortableRunner", "--job_endpoint=127.0.0.1:1"),
            "--environment_type not given, so DOCKER: Beam's own image has no beam-fraud; give "
            "--environment_config=IMAGE that has it, or --environment_type=EXTERNAL "
            "--environment_config=HOST:PORT, a pool of workers, or LOOPBACK: workers in this "
            "process",
        ),
        (
            "score",
            ("--runner=FlinkRunner", "--flink_master=flink.example:8081"),
            "--environment_type not given, so DOCKER: Beam's own image has no beam-fraud; give "
            "--environment_config=IMAGE that has it, or --environment_type=EXTERNAL "
            "--environment_config=HOST:PORT, a pool of workers",
        ),
        (
            "score",
            ("--runner=FlinkRunner", "--flink_master=127.0.0.1:1", "--environment_type=EXTERNAL"),
            "--environment_type EXTERNAL: say where the pool of workers listens, as in "
            "--environment_config=127.0.0.1:50000",
        ),
        (
            "score",
            ("--runner=FlinkRunner", "--flink_master=127.0.0.1:1", "--environment_type=PROCESS"),
            "--environment_type PROCESS: say which program starts a worker",
        ),
        (
            "stream",
            ("--runner=FlinkRunner", "--flink_master=flink.example", *LOOPBACK),
            "--environment_type LOOPBACK: workers would run in this process, which task managers "
            "at flink.example:8081 do not reach; give --environment_type=EXTERNAL",
        ),
        (
            "score",
            ("--runner=PrismRunner", "--prism_location=nowhere"),
            "--prism_location nowhere: no such file; give Prism's program or zip",
        ),
        (
            "score",
            ("--runner=FlinkRunner", "--parallelism=0"),
            "--parallelism 0: must be at least 1",
        ),
        (
            "score",
            ("--runner=FlinkRunner", "--job_server_java_launcher=nojava"),
            "--runner FlinkRunner: its job server needs Java, and there is no program 'nojava'",
        ),
        (
            "score",
            ("--runner=FlinkRunner", "--flink_job_server_jar=no"),
            "_jar no: no such file",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(
    refused: Refused, command: str, options: tuple[str, ...], message: str
) -> None:
    assert message in refused(command, 2, *options)


def test_dataflow_needs_its_options(refused: Refused) -> None:
    for name in ("DataflowRunner", "dataflow"):
        line = refused("score", 2, f"--runner={name}")
        assert line.startswith("--project: Dataflow needs the id of a project")


def test_the_services_of_a_runner_must_respond(refused: Refused, silent: str) -> None:
    server = ("--runner=PortableRunner", f"--job_endpoint={silent}", *EXTERNAL)
    assert f"--job_endpoint {silent}: no job server answers there (" in refused("score", 1, *server)
    flink = ("--runner=FlinkRunner", f"--flink_master={silent}", *EXTERNAL)
    assert f"--flink_master {silent}: no Flink answers there (" in refused("score", 1, *flink)


def test_the_services_of_a_runner_must_be_of_the_right_kind(refused: Refused) -> None:
    with flink_stand_in("1.19.3") as flink, job_server("spark_master") as spark:
        server = ("--runner=PortableRunner", f"--job_endpoint={flink.address}", *EXTERNAL)
        assert "is no job server of Beam (UNAVAILABLE)" in refused("score", 1, *server)
        options = ("--runner=FlinkRunner", *EXTERNAL)
        line = refused("score", 2, *options, f"--job_endpoint={spark}")
        assert f"--job_endpoint {spark}: the job server there is SparkRunner's; give --run" in line
        at = f"--flink_master={flink.address}"
        line = refused("score", 2, *options, at, "--flink_version=2.0")
        assert line.endswith(f"{flink.address} is Flink 1.19.3; give --flink_version=1.19 [BF804]")
        flink.answers.clear()
        assert "does not answer as Flink's REST API does" in refused("score", 1, *options, at)


def test_a_flink_must_have_the_slots_of_a_pipeline(refused: Refused) -> None:
    with flink_stand_in(slots=2) as flink, job_server("flink_master") as endpoint:
        flink.configure()
        at = (f"--flink_master={flink.address}", f"--job_endpoint={endpoint}", *EXTERNAL)
        line = refused("score", 2, "--runner=PortableRunner", *at, "--parallelism=3")
        assert line == (
            f"--parallelism 3: Flink at {flink.address} has 2 task slots; give at most 2, or start "
            "more task managers [BF807]"
        )


def test_a_savepoint_must_exist_and_is_for_streams(refused: Refused, tmp_path: Path) -> None:
    with job_server("flink_master") as endpoint:
        options = ("--runner=PortableRunner", f"--job_endpoint={endpoint}", *EXTERNAL)
        arguments = f"--savepoint_path={tmp_path.as_uri()}/gone"
        assert "only a stream can resume from" in refused("score", 2, *options, arguments)
        assert "no savepoint or checkpoint is there" in refused("stream", 2, *options, arguments)
        arguments = "--savepoint_path=gone"
        assert "must be absolute" in refused("stream", 2, *options, arguments)


def test_a_file_that_is_no_program_is_no_prism(
    refused: Refused, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = tmp_path_factory.mktemp("prism") / "prism"
    program.write_text("no program")
    for mode in (0o644, 0o755):
        program.chmod(mode)
        line = refused("score", 2, "--runner=PrismRunner", f"--prism_location={program}")
        assert line.startswith(f"--prism_location {program}: is no program of this machine (")


def test_a_stream_through_sparks_job_server_is_refused(refused: Refused) -> None:
    with job_server("spark_master") as endpoint:
        options = ("--runner=PortableRunner", f"--job_endpoint={endpoint}", *EXTERNAL)
        assert "--runner SparkRunner: cannot run this, which" in refused("stream", 2, *options)


def test_flink_never_ends_a_stream_by_itself(
    refused: Refused, caplog: pytest.LogCaptureFixture
) -> None:
    with job_server("flink_master") as endpoint:
        options = ("--runner=PortableRunner", f"--job_endpoint={endpoint}", *EXTERNAL)
        line = refused("stream", 2, *options, "--until-idle=1")
        assert line.startswith(
            "--until-idle: on Flink a stream continues after its source has ended"
        )
        # It goes on as far as the model, which is not there.
        assert "model: not a model bundle" in refused("stream", 1, *options)


class _Waking(beam.DoFn):
    SEEN = ReadModifyWriteStateSpec("seen", BytesCoder())
    WAKE = TimerSpec("wake", TimeDomain.REAL_TIME)

    def process(  # type: ignore[no-untyped-def]
        self,
        element,
        seen=beam.DoFn.StateParam(SEEN),
        wake=beam.DoFn.TimerParam(WAKE),
    ):
        yield element

    @on_timer(WAKE)
    def wake(self):  # type: ignore[no-untyped-def]
        yield b""


def _waking(root: beam.Pipeline) -> None:
    keyed = root | "Make" >> beam.Create([("a", 1)])
    _ = keyed | "Wake" >> beam.ParDo(_Waking())


def _endless(inbox: Path, root: beam.Pipeline) -> None:
    source = WatchSource(
        directory=str(inbox),
        schema=load_schema("handbook"),
        labels="ignored",
        stop_file=str(inbox / "stop"),
        until_idle=None,
        checkpoint=None,
    )
    rows = root | "Read" >> ReadStream(source, "live") | beam.Map(lambda batch: (1, batch.num_rows))
    _ = rows | beam.WindowInto(FixedWindows(1)) | "Group" >> beam.GroupByKey()


def test_needs_are_read_from_a_graph(inbox: Path) -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _waking(pipeline)
    assert needs_of(pipeline) == dict.fromkeys((Capability.STATE, Capability.CLOCK_TIMERS), "Wake")
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _endless(inbox, pipeline)
    needs = needs_of(pipeline)
    assert set(needs) == {Capability.ENDLESS_SOURCE, Capability.GROUPS_IN_A_STREAM}
    assert needs[Capability.GROUPS_IN_A_STREAM] == "Group"


@pytest.mark.parametrize("out", ["gs://bucket/out", "out"])
def test_every_runner_can_do_what_graphs_over_files_need(out: str, tmp_path: Path) -> None:
    model = open_bundle(bundle(tmp_path / "model"))
    sink, outbox = parse_sink(f"sqlite:///{tmp_path}/f.db"), Outbox(f"sqlite:///{tmp_path}/a.db")
    scoring = Scoring(model, sink, ("console:",), outbox)
    outputs = batch_outputs(Place.parse(out), SCORE_BRANCHES | {FEATURES: DEAD_LETTER})
    plain, windows = FeatureSet(model.schema), FeatureSet(load_schema("handbook"))
    assert windows.velocity
    can = frozenset[Capability].intersection(*(each.can for each in RUNNERS if not each.unusable))
    for build in (
        lambda root: build_score(root, Inputs((), plain, outputs), scoring),
        lambda root: build_features(root, Inputs((), windows, outputs)),
    ):
        pipeline = beam.Pipeline(runner="FnApiRunner")
        build(pipeline)
        assert needs_of(pipeline).keys() <= can


def test_places_that_workers_may_not_see_are_named() -> None:
    disk = Place.of("/data/flagged.db")
    places = [
        WorkerPlace("--out", Place.parse("gs://bucket/out"), written=True),
        WorkerPlace("", Place.parse("/data/day.csv")),
        WorkerPlace("--sink", replace(disk, text="sqlite:///flagged.db"), on_disk=True),
    ]

    def cautions(cluster: str) -> list[str]:
        submission = Submission.of(["--runner=flink", f"--flink_master={cluster}"], 1)
        call = Call(submission, streaming=False, places=places)
        (check,) = [check for check in checks_of(call.runner) if check.name == "places"]
        return [str(finding) for finding in check.findings(call)]

    assert cautions("127.0.0.1:8081") == []
    assert cautions("flink.example:8081") == [
        "workers at flink.example:8081 must see the same files there: /data/day.csv, "
        "--sink sqlite:///flagged.db"
    ]


def test_doctor_prints_whatever_a_launch_refuses(tmp_path: Path, silent: str) -> None:
    """Each call is of another check: the first obstacle of a launch is a line of `doctor`."""
    local = WorkerPlace("--out", Place.of(tmp_path), written=True)
    jobs = ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://bucket/t"]
    jobs.append("--sdk_container_image=image")
    savepoint = [f"--savepoint_path={tmp_path.as_uri()}/gone", *EXTERNAL]
    with flink_stand_in("1.19.3", slots=2) as flink, job_server("flink_master") as endpoint:
        flink.configure()
        at = [f"--flink_master={flink.address}", *EXTERNAL]
        served = ["--runner=PortableRunner", f"--job_endpoint={endpoint}"]
        calls: list[tuple[str, list[str], dict[str, object]]] = [
            ("options", ["--runner=DaskRunner"], {}),
            ("options", ["--runner=PrismRunner"], {"workers": 2}),
            ("options", ["--direct_num_workers=2"], {"streaming": True}),
            ("options", ["--runner=SparkRunner"], {"streaming": True}),
            ("environment", [*served, "--environment_type=PROCESS"], {}),
            ("Flink", ["--runner=FlinkRunner", f"--flink_master={silent}", *EXTERNAL], {}),
            ("Flink", ["--runner=FlinkRunner", *at, "--flink_version=2.0"], {}),
            ("task slots", [*served, *at, "--parallelism=3"], {}),
            ("job server", ["--runner=FlinkRunner", "--job_server_java_launcher=nojava"], {}),
            ("job server", ["--runner=SparkRunner", f"--job_endpoint={endpoint}", *EXTERNAL], {}),
            ("Prism", ["--runner=PrismRunner", "--prism_location=nowhere"], {}),
            ("stream", [*served, *EXTERNAL], {"streaming": True, "until_idle": True}),
            ("savepoint", [*served, *savepoint], {"streaming": True}),
            ("template", [*jobs, "--template_location=gs://bucket/t"], {"attended": ["--alert"]}),
            ("job", jobs[:1], {}),
            ("places", jobs, {"places": [local]}),
        ]
        for name, given, more in calls:
            how: dict[str, Any] = {"streaming": False, **more}
            submission = Submission.of(given, 1, streaming=how["streaming"])
            with pytest.raises(FraudError) as refused:
                enforce(Call(submission, **how))
            lines = list(check_runner(Call(submission, **how, thorough=True)))
            assert refused_line(name, refused.value) in lines, given


def test_every_runner_has_its_checks_once() -> None:
    for runner in RUNNERS:
        names = [check.name for check in checks_of(runner)]
        assert len(names) == len(set(names))
        # What a check needs comes before it, or is a check of other runners.
        for at, check in enumerate(checks_of(runner)):
            assert names[0] == "options"
            assert not set(check.needs) & set(names[at:])


@pytest.mark.parametrize(
    ("options", "result"),
    [
        ("flink:8081", "flink:8081"),
        ("http://flink:80/", "flink:80"),
        ("flink", "flink:8081"),
        ("[::1]:8081", "[::1]:8081"),
    ],
)
def test_addresses_are_read_as_people_write_them(options: str, result: str) -> None:
    assert str(Address.parse("--flink_master", options, 8081)) == result


@pytest.mark.parametrize("options", ["", ":8081", "flink:", "flink:99999", "flink:x"])
def test_invalid_addresses_are_refused(options: str) -> None:
    with fails(Code.OPTION_VALUE, "HOST:PORT", kind=UsageError):
        Address.parse("--job_endpoint", options)
