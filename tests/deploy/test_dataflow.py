"""`deploy/dataflow` agrees with the image, the template and the command line."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.errors import UsageError
from beam_fraud.runners.dataflow.checks import IN_IMAGE
from deploy.dataflow import main

ROOT = Path(main.__file__).parents[2]
HERE = Path(main.__file__).parent
DOCKERFILE = (HERE / "Dockerfile").read_text()
PAGES = [HERE / "README.md", ROOT / "docs/runners/dataflow.md"]
GIVEN = {
    "command": "score",
    "files": "gs://bucket/days/*.csv;gs://bucket/more",
    "model": "/opt/beam-fraud/model",
    "out": "gs://bucket/out",
    "sdk_container_image": "europe-docker.pkg.dev/p/fraud/worker:1",
    "history": "gs://bucket/old",
    "reasons": "3",
    "dedupe": "run",
    "kafka": "broker-1:9092,10.0.0.2:9092",
    "topic": "transactions",
    "kafka_config": "security.protocol=SASL_SSL;client.id=fraud",
    "lateness": "15m",
    "start": "2024-01-01T00:00:00Z",
    "sink": "bigquery:my-project.fraud",
    "schema": "handbook",
}


@pytest.fixture(scope="module")
def parameters() -> dict[str, Any]:
    """The template's parameters by name."""
    metadata = json.loads((HERE / "metadata.json").read_text())
    return {parameter["name"]: parameter for parameter in metadata["parameters"]}


def test_google_reads_the_metadata() -> None:
    dataflow = pytest.importorskip("google.cloud.dataflow")
    raw = json.loads((HERE / "metadata.json").read_text())
    read = dataflow.TemplateMetadata.from_json(json.dumps(raw), ignore_unknown_fields=False)
    assert len(read.parameters) == len(raw["parameters"])
    assert (read.streaming, read.supports_exactly_once) == (True, True)


def test_every_parameter_is_an_option_and_every_needed_option_a_parameter(
    parameters: dict[str, Any],
) -> None:
    options = {name for command in main.COMMANDS for name in main.own_options(command)}
    named = {f"--{name.replace('_', '-')}" for name in parameters}
    assert named - options == {"--command", "--files", "--sdk-container-image"}
    for command, needed in {
        "score": {"--model", "--out"},
        "features": {"--schema", "--out"},
        "stream": {"--model", "--out", "--kafka", "--topic"},
    }.items():
        assert needed <= named & main.own_options(command).keys()
    stored = {name for name, parameter in parameters.items() if not parameter.get("isOptional")}
    assert stored == {"command", "out", "sdk_container_image"}


@pytest.mark.parametrize("name", GIVEN)
def test_valid_parameters_pass(parameters: dict[str, Any], name: str) -> None:
    assert all(re.match(regex, GIVEN[name]) for regex in parameters[name]["regexes"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("out", "out"),
        ("files", "day.csv"),
        ("model", "models/m"),
        ("sink", "sqlite:///a.db"),
        ("kafka", "broker"),
        ("command", "train"),
        ("lateness", "15"),
    ],
)
def test_invalid_parameters_do_not_pass(parameters: dict[str, Any], name: str, value: str) -> None:
    assert not all(re.match(regex, value) for regex in parameters[name]["regexes"])


def test_a_launcher_calls_the_command_with_its_parameters() -> None:
    options = ["command", "files", "model", "out", "sdk_container_image", "kafka_config", "history"]
    call = main.call_of(
        [
            *(f"--{name}={GIVEN[name]}" for name in options if name != "kafka_config"),
            "--runner=DataflowRunner",
            "--template_location=gs://bucket/staging/job_object",
            "--enable_streaming_engine=true",
            "--update=false",
            "--pseudonymise=false",
            "--something_of_the_service=1",
        ]
    )
    assert call[0] == "score"
    assert call[-2:] == ["gs://bucket/days/*.csv", "gs://bucket/more"]
    assert set(call[1:-2]) == {
        "--model=/opt/beam-fraud/model",
        "--out=gs://bucket/out",
        "--history=gs://bucket/old",
        f"--sdk_container_image={GIVEN['sdk_container_image']}",
        "--runner=DataflowRunner",
        "--template_location=gs://bucket/staging/job_object",
        "--enable_streaming_engine",
    }
    stream = main.call_of(["--command=stream", f"--kafka_config={GIVEN['kafka_config']}"])
    assert stream[1:] == [
        "--kafka-config=security.protocol=SASL_SSL",
        "--kafka-config=client.id=fraud",
    ]


@pytest.mark.parametrize(("options", "message"), [("command=train", "command"), ("", "command=:")])
def test_a_launcher_refuses_other_commands(options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main.call_of([f"--{options}"])


def test_the_image_is_of_the_versions_that_are_tested() -> None:
    (base,) = re.findall(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)
    assert base == f"apache/beam_python3.11_sdk:{version('apache-beam')}"
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"apache-beam=={version('apache-beam')}" in pinned


def test_the_files_of_the_image_exist() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split() if "$" not in source}
    assert {"constraints.txt", "beam_fraud", "deploy/dataflow/main.py"} <= sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert f"COPY ${{CONTENT}}/ {IN_IMAGE}/" in DOCKERFILE
    assert "WORKDIR /template\n" in DOCKERFILE
    assert "ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py\n" in DOCKERFILE
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def commands_of(page: Path) -> list[list[str]]:
    """Return the commands of a page as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_of_the_page_exists(page: Path) -> None:
    from beam_fraud.cli.beam_options import split

    calls = [words[1:] for words in commands_of(page) if words[:1] == ["beam-fraud"]]
    assert calls
    for name, *rest in calls:
        own = {option: kind != "switch" for option, kind in main.own_options(name).items()}
        split(rest, own, f"beam-fraud {name}")


def test_every_parameter_of_the_page_is_one(parameters: dict[str, Any]) -> None:
    result = [
        pair.partition("=")
        for words in commands_of(PAGES[0])
        for option, given in pairwise(words)
        if option == "--parameters"
        for pair in given.split(",")
    ]
    assert {name for name, _, _ in result} >= {"command", "out", "model", "kafka"}
    for name, _, value in result:
        regexes = parameters[name].get("regexes", ())
        assert all(re.match(regex, value) for regex in regexes), (name, value)
