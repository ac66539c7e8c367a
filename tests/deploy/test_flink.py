"""The cluster, the containers and Kubernetes agree in versions, ports and names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.main import get_command

from beam_fraud.cli.app import app
from beam_fraud.cli.beam_options import beam_options
from beam_fraud.cli.options import WorkersOptions
from deploy.flink.cluster import FlinkCluster
from tests.requirements import need_flink

ROOT = Path(__file__).resolve().parents[2]
FLINK = ROOT / "deploy/flink"
MAVEN = "{http://maven.apache.org/POM/4.0.0}"
#: Of Flink's image; ours take the same, so that all can write to one volume.
USER = 9999

COMPOSE = yaml.safe_load((FLINK / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (FLINK / "Dockerfile").read_text("utf-8")
MANIFESTS: list[Any] = [
    manifest
    for path in sorted((FLINK / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text("utf-8"))
]


def configuration() -> dict[str, str]:
    """Return Flink's settings as text."""
    lines = (FLINK / "config/flink-conf.yaml").read_text("utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


def manifest(kind: str) -> Any:
    (result,) = [one for one in MANIFESTS if one["kind"] == kind]
    return result


def pods() -> Iterator[tuple[str, Any]]:
    """Yield every specification of a pod, also partial ones that are merged."""
    cluster = manifest("FlinkDeployment")["spec"]
    yield "Flink", cluster["podTemplate"]["spec"]
    for kind in ("Deployment", "Job"):
        yield kind, manifest(kind)["spec"]["template"]["spec"]


def sidecar() -> Any:
    spec = manifest("FlinkDeployment")["spec"]
    (container,) = spec["taskManager"]["podTemplate"]["spec"]["containers"]
    return container


def job_server() -> Any:
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def submitted() -> list[str]:
    """Return the arguments of `beam-fraud` in the Job of a stream."""
    (container,) = manifest("Job")["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def versions(pom: Path) -> dict[str, str]:
    """Return the artefacts of a Maven project with their versions."""
    tree = ElementTree.parse(pom).getroot()
    properties = {
        each.tag.removeprefix(MAVEN): each.text for each in tree.find(f"{MAVEN}properties") or ()
    }
    result = {}
    for dependency in tree.find(f"{MAVEN}dependencies") or ():
        version = dependency.findtext(f"{MAVEN}version", "")
        inner = re.fullmatch(r"\$\{(.*)\}", version)
        result[dependency.findtext(f"{MAVEN}artifactId", "")] = str(
            properties[inner[1]] if inner else version
        )
    return result


def flags(arguments: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in arguments)}


def test_every_part_is_of_one_version_of_flink() -> None:
    version = versions(FLINK / "cluster.xml")["flink-runtime"]
    minor = version.rpartition(".")[0]
    assert f"beam-runners-flink-{minor}" in versions(FLINK / "pom.xml")
    assert f"FROM flink:{version}-java17 AS flink" in DOCKERFILE
    for name in ("jobmanager", "taskmanager"):
        assert SERVICES[name]["image"] == f"beam-fraud-flink:{version}"
    spec = manifest("FlinkDeployment")["spec"]
    assert spec["image"] == f"flink:{version}-java17"
    assert spec["flinkVersion"] == f"v{minor.replace('.', '_')}"


def test_the_job_server_is_of_one_version() -> None:
    version = next(
        version
        for name, version in versions(FLINK / "pom.xml").items()
        if name.startswith("beam-runners-flink")
    )
    assert SERVICES["job-server"]["image"] == f"beam-fraud-job-server:{version}"
    tags = {image["name"]: image["newTag"] for image in manifest("Kustomization")["images"]}
    assert tags["beam-fraud-job-server"] == version


def test_the_broker_is_the_one_that_streams_are_tested_with() -> None:
    version = versions(ROOT / "deploy/kafka/pom.xml")["kafka_2.13"]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_settings_on_kubernetes_are_those_of_the_local_cluster() -> None:
    spec = manifest("FlinkDeployment")["spec"]
    settings = configuration()
    for part, resource in (("taskmanager", "taskManager"), ("jobmanager", "jobManager")):
        memory = settings.pop(f"{part}.memory.process.size")
        assert spec[resource]["resource"]["memory"] == memory
    there = spec["flinkConfiguration"]
    assert {name: there[name] for name in settings} == settings
    assert all(isinstance(value, str) for value in there.values())


def test_the_images_have_those_settings_as_well() -> None:
    copied = "COPY --chown=flink:flink deploy/flink/config/flink-conf.yaml /opt/flink/conf/"
    assert copied in DOCKERFILE


def test_the_jar_opens_what_the_settings_open() -> None:
    text = (FLINK / "pom.xml").read_text("utf-8")
    options = configuration()["env.java.opts.all"]
    for kind in ("Add-Opens", "Add-Exports"):
        (in_jar,) = re.findall(f"<{kind}>(.*)</{kind}>", text)
        assert in_jar.split() == re.findall(rf"--{kind.lower()}=(\S+)=ALL-UNNAMED", options)


def test_workers_are_at_one_port() -> None:
    port = str(WorkersOptions().port)
    assert WorkersOptions().host == "127.0.0.1"
    assert SERVICES["workers"]["command"] == sidecar()["args"] == ["workers", "--port", port]
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert sidecar()["ports"][0]["containerPort"] == int(port)
    for check in (
        SERVICES["workers"]["healthcheck"]["test"],
        sidecar()["startupProbe"]["exec"]["command"],
        sidecar()["livenessProbe"]["exec"]["command"],
    ):
        assert f"('127.0.0.1', {port})" in check[-1]
    assert flags(submitted())["--environment_config"] == f"localhost:{port}"


def test_a_worker_shares_the_network_of_its_task_manager() -> None:
    assert SERVICES["workers"]["network_mode"] == "service:taskmanager"


def test_the_job_server_knows_its_own_address(tmp_path: Path) -> None:
    need_flink()
    here = flags(FlinkCluster(tmp_path)._server())
    service = manifest("Service")
    ports = {port["port"] for port in service["spec"]["ports"]}
    for there, name, flink in (
        (flags(SERVICES["job-server"]["command"]), "job-server", "jobmanager"),
        (flags(job_server()["args"]), service["metadata"]["name"], "beam-fraud-rest"),
    ):
        assert there.keys() <= here.keys()
        assert there["--job-host"] == name
        assert there["--flink-master"] == f"{flink}:8081"
        assert {int(there["--job-port"]), int(there["--artifact-port"])} == ports == {8098, 8099}
    assert "EXPOSE 8098 8099\n" in DOCKERFILE
    assert {port["containerPort"] for port in job_server()["ports"]} == ports
    assert "jobmanager" in SERVICES
    assert manifest("FlinkDeployment")["metadata"]["name"] == "beam-fraud"
    at = f"{service['metadata']['name']}:8099"
    assert flags(submitted())["--job_endpoint"] == at
    # Without it a stream that is stopped keeps no savepoint.
    assert flags(submitted())["--flink_master"] == flags(job_server()["args"])["--flink-master"]


def test_the_service_finds_the_job_server() -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("Deployment")["spec"]["selector"]["matchLabels"] == labels


def test_submitting_pods_may_reach_the_job_server() -> None:
    labels = manifest("Job")["spec"]["template"]["metadata"]["labels"]
    policies = [one["spec"] for one in MANIFESTS if one["kind"] == "NetworkPolicy"]
    server = next(one for one in policies if "app" not in one["podSelector"]["matchLabels"])
    assert server["ingress"][0]["from"] == [{"podSelector": {"matchLabels": labels}}]
    pod = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert server["podSelector"]["matchLabels"] == pod


def test_the_stream_is_a_valid_call() -> None:
    command, *arguments = submitted()
    own = {
        name for parameter in get_command(app).commands[command].params for name in parameter.opts
    }
    assert flags(arguments).keys() <= own | beam_options().keys()


@pytest.mark.parametrize(("name", "pod"), pods())
def test_nobody_is_root(name: str, pod: Any) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == USER
    for container in [*pod["containers"], sidecar()]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_no_image_and_no_service_is_root() -> None:
    ours = re.findall(
        r"^FROM (?!flink|maven)\S+ AS (\S+)$(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S
    )
    assert {name for name, _ in ours} == {"job-server", "worker"}
    for _, steps in ours:
        assert f"USER {USER}:{USER}\n" in steps
    for name in ("jobmanager", "taskmanager"):
        assert SERVICES[name]["user"] == f"{USER}:{USER}"
    assert [name for name, one in SERVICES.items() if one.get("user") == "0:0"] == ["prepare"]


@pytest.mark.parametrize(("name", "pod"), pods())
def test_mounted_files_exist(name: str, pod: Any) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    also = [sidecar()] if name == "Flink" else []
    for container in [*pod["containers"], *also]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    claim = manifest("PersistentVolumeClaim")["metadata"]["name"]
    for volume in volumes.values():
        assert "emptyDir" in volume or volume["persistentVolumeClaim"]["claimName"] == claim


def test_everything_but_the_job_is_applied_together() -> None:
    resources = manifest("Kustomization")["resources"]
    present = {path.name for path in (FLINK / "kubernetes").glob("*.yaml")}
    assert present - set(resources) == {"kustomization.yaml", "stream.yaml"}
    assert len(set(resources)) == len(resources)


def test_files_that_images_copy_exist_and_reach_the_builder() -> None:
    admitted = [
        line[1:]
        for line in (FLINK / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    ]
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*) \S+$", DOCKERFILE, re.M)
    sources = [source for line in copied for source in line.split()]
    assert len(sources) > 5
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == path or source.startswith(f"{path}/") for path in admitted)
    assert all((ROOT / path).exists() for path in admitted)


def test_the_image_has_a_python_and_extras_that_the_package_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.M)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim AS worker$", DOCKERFILE, re.M)
    assert project["requires-python"] == f">={python}"


def test_services_are_built_of_existing_stages() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))
    for service in SERVICES.values():
        if build := service.get("build"):
            assert build["target"] in stages
            assert (FLINK / build["context"]).resolve() == ROOT
            assert (ROOT / build["dockerfile"]) == FLINK / "Dockerfile"


def test_only_this_machine_reaches_the_containers() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
