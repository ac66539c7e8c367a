"""Jobs over files for Dataflow, sent to stand-ins of Dataflow and Cloud Storage."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import FraudError
from beam_fraud.runners import launch
from beam_fraud.runners.call import Call
from beam_fraud.runners.checks import checks_of, enforce
from beam_fraud.runners.dataflow.job import DataflowDraining
from beam_fraud.runners.submission import Submission
from beam_fraud.runners.worker_place import WorkerPlace
from beam_fraud.storage.urls import Place
from tests.dataflow_fixtures import (  # noqa: F401  the servers start once for the module
    IMAGE,
    call,
    held,
    runner,
    servers,
)

#: What has to be there at least.
WHOLE = ["--runner=DataflowRunner", "--project=p-1", "--region=r", "--temp_location=gs://bucket/t"]
WHOLE = [*WHOLE, f"--sdk_container_image={IMAGE}"]

#: How the service counts.
BATCH, BASIC, PRIVATE, COST_OPTIMIZED, CANCELLED, DRAINING = 1, 2, 2, 2, 5, 7


@pytest.fixture
def score(held: Any) -> list[str]:  # noqa: F811
    command = ["score", "gs://bucket/days/*.csv", "--model", "gs://bucket/model"]
    return [*command, "--out", "gs://bucket/out", *runner("nightly")]


def rows(held: Any, branch: str) -> list[dict[str, Any]]:  # noqa: F811
    parts = [data for key, data in held.objects.items() if key.startswith(f"bucket/out/{branch}/")]
    return [row for part in parts for row in pq.read_table(io.BytesIO(part)).to_pylist()]


def test_the_graph_that_is_staged_scores_and_publishes(
    held: Any,  # noqa: F811
    score: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.dataflow_job import run_staged, staged_graph, steps

    held.objects["bucket/out/scores/part-of-yesterday.parquet"] = b"replaced"
    held.work = lambda job: run_staged(held, job)
    assert call([*score, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows_in"], summary["rows_scored"], summary["rows_dead"]) == (41, 40, 1)
    assert json.loads(held.objects["bucket/out/summary.json"]) == summary
    assert {row["transaction_id"] for row in rows(held, "scores")} == {f"x{i}" for i in range(40)}
    assert [row["reason"] for row in rows(held, "dead_letters")] == ["unparseable_time"]
    assert [key for key in held.objects if ".incoming" in key] == []
    (job,) = held.jobs.values()
    known = "Segments Read Parse Validate Deduplicate Features Infer Decide Explain Flagged Scores"
    assert {*known.split(), "DeadLetters", "Publish"} <= steps(staged_graph(held, job))


@pytest.fixture
def rescore(held: Any, tmp_path: Path) -> list[str]:  # noqa: F811
    """A call over three days in the bucket; the same days are in a directory."""
    for day in (1, 2, 3):
        rows = [f"x{day}-{i},2024-01-0{day}T00:{i:02}:00Z,{i}\n" for i in range(20)]
        name = f"archive/date=2024-01-0{day}/a.csv"
        data = ("id,t,a\n" + "".join(rows) + f"y{day},no time,1\n").encode()
        held.objects[f"bucket/{name}"] = data
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(data)
    command = ["rescore", "gs://bucket/archive", "--model", "gs://bucket/model"]
    return [*command, "--out", "gs://bucket/rescored", *runner("yearly"), "--max_num_workers", "2"]


def partitions(held: Any) -> dict[str, bytes]:  # noqa: F811
    """Return the files that the records of partitions name, by the names of a directory."""
    found = {}
    root = "bucket/rescored/partitions/"
    for key in [key for key in held.objects if key.endswith("/partition.json")]:
        folder = key.removesuffix("partition.json")
        for name in json.loads(held.objects[key])["outputs"]:
            plain = f"{name.partition('-2')[0]}.parquet"
            found[f"{folder.removeprefix(root)}{plain}"] = held.objects[f"{folder}{name}"]
    return found


def test_ranges_of_an_archive_are_rescored_at_a_url(
    held: Any,  # noqa: F811
    rescore: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.dataflow_job import run_staged, staged_graph, steps

    held.work = lambda job: run_staged(held, job)
    assert call([*rescore, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows_in"], summary["rows_scored"], summary["rows_dead"]) == (63, 60, 3)
    assert json.loads(held.objects["bucket/rescored/summary.json"]) == summary
    assert [key for key in held.objects if "/.rescoring-" in key] == []
    (job,) = held.jobs.values()
    assert steps(staged_graph(held, job)) == {"Rescore"}
    (pool,) = job["environment"]["workerPools"]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 2
    here = tmp_path / "rescored"
    local = ["rescore", str(tmp_path / "archive"), "--model", str(tmp_path / "model")]
    assert call([*local, "--out", str(here)]) == 0
    root = here / "partitions"
    expected = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.parquet")}
    assert partitions(held) == expected
    # What is complete is not sent again.
    capsys.readouterr()
    assert call([*rescore, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["partitions"]["scored"] == 0
    assert len(held.jobs) == 1


def test_a_job_that_fails_leaves_complete_partitions(
    held: Any,  # noqa: F811
    rescore: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.dataflow_job import run_staged

    held.objects["bucket/archive/date=2024-01-02/a.csv"] = b"no,such,columns\n1,2,3\n"
    held.work = lambda job: run_staged(held, job)
    held.state = "JOB_STATE_FAILED"
    held.say("JOB_MESSAGE_ERROR", "Workflow failed. Causes: the zone has no such machines.")
    assert call(rescore) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("no such machines. [BF809]")
    assert {name.partition("/")[0] for name in partitions(held)} == {
        "date=2024-01-01",
        "date=2024-01-03",
    }
    held.state = "JOB_STATE_DONE"
    held.messages.clear()
    assert call([*rescore, "--json"]) == 1
    assert "date=2024-01-02: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--out": "out"}, "--out out: Dataflow's workers do not see this machine's disk"),
        ({"--model": "m"}, "--model m: Dataflow's workers do not see"),
        ({"--against": "m"}, "--against m: Dataflow's workers do not see"),
        ({"rescore": "days"}, "days: Dataflow's workers do not see"),
        ({"--history": "old"}, "--history old: Dataflow's workers do not see"),
        ({"--project": None}, "--project: Dataflow needs the id of a project"),
        ({"--template_location": "gs://bucket/t"}, "the comparison: needs this command to be"),
        ({"--alert": "console:"}, "--alert: alerts wait in a database"),
    ],
)
def test_an_archive_that_workers_do_not_see_is_refused(
    rescore: list[str],
    change: dict[str, str | None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option, value in change.items():
        if option in rescore:
            at = rescore.index(option)
            rescore[at : at + 2] = [] if value is None else [option, value]
        elif value is not None:
            rescore += [option, value]
    assert call(rescore) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_request_has_all_options_of_the_user(held: Any, score: list[str]) -> None:  # noqa: F811
    from tests.dataflow_job import run_staged

    account = "scorer@my-project.iam.gserviceaccount.com"
    value = f"""
        --machine_type n2-standard-4 --num_workers 2 --max_num_workers 20
        --autoscaling_algorithm THROUGHPUT_BASED --service_account_email {account}
        --disk_size_gb 50 --disk_type pd-ssd --network net --subnetwork regions/r/subnetworks/s
        --no_use_public_ips --worker_zone europe-west1-b --label team=fraud
        --dataflow_service_option enable_prime --experiment shuffle_mode=service
        --staging_location gs://bucket/staging --number_of_worker_harness_threads 4
        --dataflow_kms_key projects/p/locations/l/keyRings/r/cryptoKeys/k
        --flexrs_goal COST_OPTIMIZED
    """
    held.work = lambda job: run_staged(held, job)
    assert call([*score, *value.split()]) == 0
    (job,) = held.jobs.values()
    environment = job["environment"]
    (pool,) = environment["workerPools"]
    assert (job["name"], job["type"], job["labels"]) == ("nightly", BATCH, {"team": "fraud"})
    assert environment["serviceAccountEmail"] == account
    assert environment["workerZone"] == "europe-west1-b"
    assert environment["serviceKmsKeyName"].endswith("cryptoKeys/k")
    assert environment["flexResourceSchedulingGoal"] == COST_OPTIMIZED
    assert environment["tempStoragePrefix"].startswith("storage.googleapis.com/bucket/temp/nightly")
    assert "enable_prime" in environment["serviceOptions"]
    assert {"use_runner_v2", "shuffle_mode=service"} <= set(environment["experiments"])
    assert environment["version"] == {"major": "8", "job_type": "FNAPI_BATCH"}
    assert environment["userAgent"]["name"] == "Apache Beam Python 3.11 SDK"
    assert pool["machineType"] == "n2-standard-4"
    assert (pool["numWorkers"], pool["numThreadsPerWorker"]) == (2, 4)
    assert pool["autoscalingSettings"] == {"algorithm": BASIC, "maxNumWorkers": 20}
    assert (pool["diskSizeGb"], pool["diskType"]) == (50, "pd-ssd")
    assert (pool["network"], pool["subnetwork"]) == ("net", "regions/r/subnetworks/s")
    assert pool["ipConfiguration"] == PRIVATE
    assert pool["workerHarnessContainerImage"] == IMAGE
    assert [each["containerImage"] for each in pool["sdkHarnessContainerImages"]] == [IMAGE]
    # Everything that it names was put there.
    packages = [package["location"].partition("/")[2] for package in pool["packages"]]
    pipeline = environment["sdkPipelineOptions"]["options"]["pipelineUrl"].removeprefix("gs://")
    assert {*packages, pipeline} <= held.objects.keys()
    assert pipeline.startswith("bucket/staging/nightly")


def test_a_failed_job_leaves_the_earlier_outputs(
    held: Any,  # noqa: F811
    score: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    held.objects["bucket/out/scores/part-of-yesterday.parquet"] = b"stays"
    held.state = "JOB_STATE_FAILED"
    held.say("JOB_MESSAGE_ERROR", "Workflow failed. Causes: the zone has no such machines.")
    assert call(score) == 1
    message = capsys.readouterr().err.splitlines()
    last = "beam-fraud: Dataflow: Workflow failed. Causes: the zone has no such machines. [BF809]"
    assert message[-1] == last
    assert [key for key in held.objects if key.startswith("bucket/out/")] == [
        "bucket/out/scores/part-of-yesterday.parquet"
    ]


def test_a_refusal_of_the_service_is_one_line(
    held: Any,  # noqa: F811
    score: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    held.refuse("POST /v1b3/", 403, times=100)
    assert call(score) == 1
    assert "beam-fraud: Dataflow: 403 POST" in capsys.readouterr().err.splitlines()[-1]
    assert [key for key in held.objects if key.startswith("bucket/out/")] == []


def test_a_templates_launcher_describes_the_job_and_starts_none(
    held: Any,  # noqa: F811
    score: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from deploy.dataflow.main import launch as launch_template

    place = "gs://bucket/templates/job_object"
    options = runner("nightly")
    arguments = [f"{name}={value}" for name, value in zip(options[::2], options[1::2], strict=True)]
    arguments += ["--command=score", "--files=gs://bucket/days/*.csv", "--model=gs://bucket/model"]
    arguments += ["--out=gs://bucket/out", f"--template_location={place}", "--json=true"]
    assert launch_template(arguments) == 0
    assert json.loads(capsys.readouterr().out)["template"] == place
    described = json.loads(held.objects["bucket/templates/job_object"])
    assert described["environment"]["workerPools"][0]["workerHarnessContainerImage"] == IMAGE
    assert held.jobs == {}
    assert call([*score, "--template_location", place, "--sink", "bigquery:my-project.fraud"]) == 2
    assert "needs this command to be there when the job ends" in capsys.readouterr().err


@pytest.mark.parametrize(("streaming", "requested"), [(False, [CANCELLED]), (True, [])])
def test_a_command_that_is_interrupted_cancels_its_job_but_no_stream(
    held: Any,  # noqa: F811
    streaming: bool,
    requested: list[int],
) -> None:
    import apache_beam as beam

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    def build(root: beam.Pipeline) -> None:
        root | beam.Create([1])

    submission = Submission.of(runner("stopped"), workers=1, streaming=streaming)
    held.state = "JOB_STATE_RUNNING"
    with pytest.raises(KeyboardInterrupt):
        launch.run(submission, build, interrupted)
    assert [job["requestedState"] for job in held.asked("^PUT /v1b3/")] == requested


def test_a_stopped_stream_is_drained(held: Any) -> None:  # noqa: F811
    import apache_beam as beam

    def build(root: beam.Pipeline) -> None:
        root | beam.Create([1])

    held.state = "JOB_STATE_RUNNING"
    draining = DataflowDraining()
    draining.ask()
    submission = Submission.of(runner("live"), workers=1, streaming=True)
    assert launch.run(submission, build, draining.wait).state == "DRAINED"
    assert [job["requestedState"] for job in held.asked("^PUT /v1b3/")] == [DRAINING]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--project": None}, "--project: Dataflow needs the id of a project"),
        ({"--region": None}, "--region: Dataflow needs one"),
        ({"--temp_location": None}, "--temp_location: Dataflow needs a place for its files"),
        ({"--temp_location": "/tmp"}, "--temp_location /tmp: Dataflow sees Cloud Storage alone"),
        ({"--sdk_container_image": None}, "--sdk_container_image: Dataflow's workers lack this"),
        ({"--job_name": "Nightly_1"}, "--job_name Nightly_1: small letters, digits and dashes"),
        ({"--out": "out"}, "--out out: Dataflow's workers do not see this machine's disk; put"),
        ({"--model": "models/m"}, "--model models/m: Dataflow's workers do not see this"),
        ({"score": "day.csv"}, "day.csv: Dataflow's workers do not see this machine's disk"),
        ({"--history": "old"}, "--history old: Dataflow's workers do not see"),
        ({"--sink": "sqlite:///a.db"}, "a.db: Dataflow's workers do not see .*; give postgresql"),
        ({"--sink": "parquet:flagged"}, "flagged: Dataflow's workers do not see"),
        ({"--alert": "console:"}, "--alert: alerts wait in a database, and --out gs://bucket/out"),
        ({"--update": ""}, "--update: only a stream can be updated"),
    ],
)
def test_inputs_that_workers_lack_are_refused_before_anything_is_sent(
    held: Any,  # noqa: F811
    score: list[str],
    change: dict[str, str | None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option, value in change.items():
        if option in score:
            at = score.index(option)
            score[at : at + 2] = [] if value is None else [option, value]
        elif value is not None:
            score += [option, value] if value else [option]
    assert call(score) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert [path for method, path, _ in held.requests if method != "GET" and path != "/token"] == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--kafka-properties", "kafka.properties", "--kafka-properties kafka.properties: "),
        ("--kafka-config", "sasl.password=file:/etc/secret", "--kafka-config sasl.password /etc/"),
        ("--sink", "postgresql://a@h/d?password_file=/etc/p", "--sink password_file /etc/p: "),
        ("--watch", "inbox", "--watch inbox: .*; give --kafka"),
        ("--out", "out", "--out out: "),
    ],
)
def test_files_that_workers_of_a_stream_read_are_in_the_image(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["stream", "--model", "gs://bucket/model", *WHOLE]
    command += [] if option == "--out" else ["--out", "gs://bucket/out"]
    source = [] if option == "--watch" else ["--kafka", "broker:9092", "--topic", "t"]
    assert call([*command, *source, option, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"{message}.*", line)
    assert "do not see this machine's disk" in line


def test_options_are_checked_without_requests(held: Any) -> None:  # noqa: F811
    submission = Submission.of(runner("nightly"), 1)
    enforce(Call(submission, streaming=False))
    assert held.requests == []
    assert "dry_run" not in submission.options.get_all_options(drop_default=True)


def problems_of(given: Sequence[str], *places: WorkerPlace) -> list[str]:
    """Return the obstacles that a runner's checks report for a job over files."""
    job = Call(Submission.of(given, 1), streaming=False, places=places)
    found = [finding for check in checks_of(job.runner) for finding in check.findings(job)]
    return [str(finding) for finding in found if isinstance(finding, FraudError)]


def test_paths_of_the_image_can_be_read_but_not_written() -> None:
    place = Place.parse("/opt/beam-fraud/model")
    assert problems_of(WHOLE, WorkerPlace("--model", place)) == []
    (problem,) = problems_of(WHOLE, WorkerPlace("--out", place, written=True))
    assert problem.startswith("--out /opt/beam-fraud/model: ")


def test_another_runner_has_no_such_problems() -> None:
    assert problems_of([], WorkerPlace("--out", Place.parse("out"))) == []


def test_all_problems_are_listed_once() -> None:
    job = Call(Submission.of(["--runner=DataflowRunner"], 1), streaming=False)
    (check,) = [check for check in checks_of(job.runner) if check.name == "job"]
    assert [str(problem).partition(":")[0] for problem in check.findings(job)] == [
        "--project",
        "--region",
        "--temp_location",
        "--sdk_container_image",
    ]
