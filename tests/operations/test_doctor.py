"""The findings of `doctor` and their fixes."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from beam_fraud.cli import main
from beam_fraud.errors import Code, FraudError
from beam_fraud.operations.doctor.check import Check
from beam_fraud.operations.doctor.machine import check_disk, check_packages
from beam_fraud.operations.doctor.probe import probe, report
from beam_fraud.operations.doctor.runner import check_runner, result_of
from beam_fraud.operations.doctor.workers import check_workers, compared
from beam_fraud.runners import prism
from beam_fraud.runners.address import Address
from beam_fraud.runners.call import Call
from beam_fraud.runners.check import Caution
from beam_fraud.runners.checks import checks_of, pool_findings
from beam_fraud.runners.flink.checks import CLUSTER, checkpoints_at
from beam_fraud.runners.submission import Submission
from beam_fraud.storage.urls import Place
from deploy.kafka.registry import schema_registry
from tests.flink_stand_in import FlinkStandIn, flink_stand_in
from tests.job_server import job_server, job_server_jar
from tests.requirements import need_job_server

GOOD = {
    "state__backend__type": "rocksdb",
    "state__backend__incremental": "true",
    "restart-strategy__type": "exponential-delay",
}


def looked(
    flink: FlinkStandIn, parallelism: int = 1, *, streaming: bool = True
) -> dict[str, Check]:
    """Return the results of the checks of a cluster."""
    at = ["--runner=FlinkRunner", f"--flink_master={flink.address}", "--flink_version=1.19"]
    at += [f"--parallelism={parallelism}", "--environment_type=LOOPBACK"]
    call = Call(Submission.of(at, 1, streaming=streaming), streaming=streaming, thorough=True)
    results = {}
    for check in CLUSTER:
        for finding in check.findings(call):
            results[check.name] = result_of(check.name, finding)
    return results


def test_a_cluster_without_faults(tmp_path: Path) -> None:
    with flink_stand_in(slots=4) as flink:
        place = (tmp_path / "a b" / "checkpoints").as_uri()
        flink.configure(**GOOD, state__checkpoints__dir=place)
        result = looked(flink, 4)
    assert {check.state for check in result.values()} == {"ok"}
    assert result["task slots"].found == "4 of 4 free, 1 task manager"
    assert result["checkpoints"].found == f"go to {tmp_path}/a b/checkpoints"


def test_a_cluster_with_faults() -> None:
    with flink_stand_in("1.16.0", slots=2) as flink:
        flink.configure(**{"restart-strategy": "none"})
        result = looked(flink, 3)
        files = looked(flink, streaming=False)
    assert result["Flink"].state == "failed"
    assert "is Flink 1.16.0, of which Beam has no job server" in result["Flink"].found
    assert result["task slots"] == Check(
        "task slots",
        "failed",
        f"--parallelism 3: Flink at {flink.address} has 2 task slots",
        "give at most 2, or start more task managers",
        Code.SLOTS_MISSING,
    )
    assert result["checkpoints"].state == "failed"
    assert files["checkpoints"].state == "warning"
    assert "job manager's memory" in result["checkpoints"].found
    assert (result["state"].state, result["restarts"].state) == ("warning", "warning")


def test_no_probe_runs_without_a_free_slot() -> None:
    with flink_stand_in() as flink:
        flink.answers["/overview"] = {"taskmanagers": 1, "slots-total": 2, "slots-available": 0}
        at = ["--runner=FlinkRunner", f"--flink_master={flink.address}"]
        [left_out] = check_workers(Submission.of(at, 1), model=None, out=None, seconds=120)
    assert (left_out.name, left_out.state) == ("workers", "warning")
    assert "no task slot of Flink is free" in left_out.found


def test_slots_of_other_jobs_lead_to_a_warning() -> None:
    with flink_stand_in() as flink:
        flink.configure(**GOOD)
        flink.answers["/overview"] = {"taskmanagers": 2, "slots-total": 4, "slots-available": 1}
        slots = looked(flink, 2)["task slots"]
    assert (slots.state, slots.found) == (
        "warning",
        "1 of 4 task slots of Flink are free and the job takes 2: it waits for the others",
    )


def test_another_server_is_one_failed_check() -> None:
    with flink_stand_in() as flink:
        flink.answers = {"/config": {"something": "else"}}
        at = ["--runner=FlinkRunner", f"--flink_master={flink.address}"]
        submission = Submission.of([*at, "--environment_type=LOOPBACK"], 1)
        found = check_runner(Call(submission, streaming=False, thorough=True))
        *_, last = [check for check in found if check.name in {one.name for one in CLUSTER}]
    assert (last.name, last.state) == ("Flink", "failed")
    assert last.found.endswith("what answers there is no Flink")


@pytest.mark.parametrize(
    ("place", "here", "state"),
    [
        ("file:///dev/null/nothing", True, "failed"),
        ("file:///mnt/checkpoints", False, "warning"),
        ("s3://bucket/checkpoints", False, "ok"),
    ],
)
def test_places_of_checkpoints(place: str, here: bool, state: str) -> None:
    check = result_of("checkpoints", checkpoints_at(place, {}, streaming=True, here=here))
    assert check.state == state
    assert place in check.found


@pytest.mark.parametrize(
    ("whose", "state", "result"),
    [
        ("ours", "ok", "none with {jar}"),
        ("Beam's", "warning", "{jar} is of Beam 2.75.0 or before: the state of a stream grows"),
        ("a file that is no jar", "warning", "unknown: {jar} does not show"),
    ],
)
def test_a_job_server_without_bounded_state(
    whose: str, state: str, result: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_job_server()
    jar = job_server_jar(whose, tmp_path)

    def growth(*given: str) -> list[dict[str, str]]:
        main(["doctor", "--json", "--no-probe", "--runner=FlinkRunner", *given])
        checks = json.loads(capsys.readouterr().out)["checks"]
        return [check for check in checks if check["name"] == "growth"]

    [check] = growth(f"--flink_job_server_jar={jar}", "--checkpointing_interval=1000")
    assert check["state"] == state
    assert check["found"].startswith(result.format(jar=jar))
    assert ("python -m deploy.flink.job_server_jar" in check["fix"]) is (state == "warning")
    assert growth(f"--flink_job_server_jar={jar}") == [], "only a stream is endless"


def growth_of(*options: str) -> Check:
    """Return the result of the check of a stream's growth."""
    call = Call(Submission.of(options, 1, streaming=True), streaming=True, thorough=True)
    (check,) = [check for check in checks_of(call.runner) if check.name == "growth"]
    (finding,) = check.findings(call)
    return result_of(check.name, finding)


def test_a_job_server_that_does_not_report_its_version() -> None:
    with job_server("flink_master") as endpoint:
        options = [f"--job_endpoint={endpoint}", "--runner=PortableRunner"]
        assert growth_of(*options).found.startswith(f"unknown: {endpoint} does not report")
    growth = growth_of("--runner=FlinkRunner")
    assert (growth.state, growth.fix) == ("ok", "")


def test_a_pool_of_workers_and_other_servers_are_distinguished() -> None:
    with job_server("flink_master") as endpoint:
        address = Address.parse("--environment_config", endpoint)
        with pytest.raises(FraudError, match=r"is no pool of workers \(UNIMPLEMENTED\); start one"):
            list(pool_findings(address, None))
    with pytest.raises(FraudError, match="no pool of workers answers there"):
        list(pool_findings(address, None))
    (elsewhere,) = pool_findings(address, Address("flink.example", 8081))
    assert isinstance(elsewhere, Caution)
    assert "each task manager's own machine" in elsewhere.found


def test_workers_with_other_versions_are_reported() -> None:
    here = replace(report(), model="forest@1", versions={"apache-beam": "2.77.0", "numpy": "2.4.0"})
    there = replace(here, host="tm-1", out=True)

    def states(found: object) -> list[tuple[str, str, str]]:
        checks = compared(here, found, "forest", "out")  # type: ignore[arg-type]
        return [(check.name, check.state, check.fix) for check in checks]

    assert [state for _, state, _ in states(there)] == ["ok", "ok", "ok"]
    other = replace(there, versions={"apache-beam": "2.76.0", "numpy": "2.3.0"})
    assert states(other)[0] == (
        "workers",
        "failed",
        "install apache-beam 2.77.0, numpy 2.4.0 there",
    )
    other = replace(there, versions={"apache-beam": "2.77.0", "numpy": "2.3.0"})
    assert states(other)[0] == ("workers", "warning", "install numpy 2.4.0 there, as here")
    other = replace(there, python="3.12.1", package="0.0.1")
    assert states(other)[0][1] == "failed"
    other = replace(there, model="", model_refused="forest: not a model bundle; train one")
    assert states(other)[1] == (
        "model at tm-1",
        "failed",
        "put the bundle there, at the same place, or on a disk that both see",
    )
    assert states(replace(there, model="forest@2"))[1][1] == "failed"
    assert states(replace(there, out=False))[2][:2] == ("--out at tm-1", "failed")
    without = replace(there, package="", model_refused="No module named 'beam_fraud'")
    assert states(without) == [
        ("workers", "failed", f"install beam-fraud {here.package} there"),
    ]


def test_a_probe_reports_through_the_counters_of_a_pipeline(tmp_path: Path) -> None:
    submission = Submission.of(["--runner=FnApiRunner"], 1)
    out = tmp_path / "not/yet/there"
    result = probe(submission, model=str(tmp_path / "model"), out=Place.at(out), seconds=60)
    assert result == replace(
        report(), model_refused=result.model_refused, model_code="BF401", out=True
    )
    assert "not a model bundle" in result.model_refused
    assert list(tmp_path.iterdir()) == []


def test_packages_of_this_environment_are_those_it_requires() -> None:
    packages, extras = check_packages()
    assert packages.state == "ok"
    assert f"beam-fraud {report().package}, apache-beam " in packages.found
    assert "kafka" in extras.found


def test_an_extra_is_installed_if_all_its_packages_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs = {
        "beam-fraud": ["beam>=1", 'beam[cloud]>=1; extra == "cloud"', 'log>=1; extra == "log"'],
        "beam": ["log>=1", 'store>=1; extra == "cloud"'],
    }
    there = {"beam-fraud": "1", "beam": "1", "log": "1"}
    machine = "beam_fraud.operations.doctor.machine"
    monkeypatch.setattr(f"{machine}.requires", lambda name: needs.get(name))
    monkeypatch.setattr(f"{machine}._installed", there.get)
    assert check_packages()[1].found == "log; not installed: cloud"
    there["store"] = "1"
    assert check_packages()[1].found == "cloud, log"


def test_a_place_without_write_permission(tmp_path: Path) -> None:
    assert check_disk(Place.at(tmp_path / "a/b")).state in ("ok", "warning")
    (tmp_path / "file").touch()
    assert check_disk(Place.at(tmp_path / "file/out")).state == "failed"
    assert check_disk(Place.parse("gs://bucket/out")).state == "ok"


@pytest.mark.parametrize(
    ("built", "state"),
    [
        ("v0.0.1", "failed"),
        ("(devel)", "warning"),
    ],
)
def test_a_prism_of_another_version(tmp_path: Path, built: str, state: str) -> None:
    program = tmp_path / "prism"
    module = "mod\tgithub.com/apache/beam/sdks/v2\t"
    program.write_bytes(b"\x7fELF" + bytes(100) + f"{module}{built}\th1:x=\n".encode())
    submission = Submission.of([f"--prism_location={program}", "--runner=PrismRunner"], 1)
    call = Call(submission, streaming=False, thorough=True)
    (finding,) = prism.CHECKS[0].findings(call)
    assert result_of("Prism", finding).state == state


def test_a_failed_check_sets_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--schema", "handbook"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^ok +schema +handbook can be read$", printed, re.MULTILINE)
    assert printed.splitlines()[-1] == "3 checks: 3 ok"
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{bound.getsockname()[1]}"
        runner = ["--runner=PortableRunner", f"--job_endpoint={server}"]
        environment = ["--environment_type=EXTERNAL", f"--environment_config={server}"]
        args = ["doctor", "--model", "nowhere", "--json", *runner, *environment]
        assert main(args) == 1
    result = json.loads(capsys.readouterr().out)
    states = {check["name"]: check["state"] for check in result["checks"]}
    assert result["failed"] == 3
    assert states["model"] == states["job server"] == states["worker pool"] == "failed"
    # Not run where it cannot.
    assert "workers" not in states


def test_all_missing_options_of_dataflow_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    # Only a stream is updated.
    update = ["--update", "--job_name=live"]
    assert main(["doctor", "--json", "--runner=dataflow", "--region=europe-west1", *update]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    lacking = [check["found"] for check in checks if check["state"] == "failed"]
    assert [result.partition(":")[0] for result in lacking] == [
        "--project",
        "--temp_location",
        "--sdk_container_image",
    ]


def test_an_invalid_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--topic", "t"]) == 2
    assert capsys.readouterr().err == "beam-fraud: --topic: needs --kafka HOST:PORT [BF104]\n"


def test_a_schema_registry_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with schema_registry() as registry:
        assert main(["doctor", "--schema-registry", registry.url]) == 0
        assert f"{registry.url} answers" in capsys.readouterr().out
        registry.login = "reader:word"
        assert main(["doctor", "--schema-registry", registry.url]) == 1
    assert "BF709" in capsys.readouterr().out


def test_checks_are_printed_as_they_are_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = list[str]()

    def kafka_that_is_slow(*_: object) -> list[Check]:
        printed.append(capsys.readouterr().out)
        return [Check("Kafka", "ok", "answers")]

    monkeypatch.setattr("beam_fraud.cli.commands.doctor.check_kafka", kafka_that_is_slow)
    assert main(["doctor", "--schema", "handbook", "--kafka", "b:9092"]) == 0
    names = [line.split()[1] for line in printed[0].splitlines() if not line.startswith(" ")]
    assert names == ["packages", "extras", "schema"], "they wait for the last one"
    assert re.search(r"^ok +Kafka +answers$", capsys.readouterr().out, re.MULTILINE)
