"""The containers and the proxy of servers agree with the command in options, ports and paths."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from beam_fraud.cli.app import app
from beam_fraud.cli.options import ServeOptions
from beam_fraud.serve.http.tokens import FILE_VARIABLE
from beam_fraud.storage.database.url import PASSWORD_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
SERVE = ROOT / "deploy/serve"
COMPOSE = yaml.safe_load((SERVE / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVER: dict[str, Any] = SERVICES["serve"]


def options() -> dict[str, str]:
    return dict(word.split("=", 1) for word in SERVER["command"][1:])


def test_the_command_is_a_valid_call() -> None:
    command = SERVER["command"][0]
    own = {
        name for parameter in get_command(app).commands[command].params for name in parameter.opts
    }
    assert options().keys() <= own
    assert options()["--sink"].startswith("postgresql://fraud@postgres:")
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == "fraud"


def test_the_port_is_one() -> None:
    port = options()["--port"]
    assert port == str(ServeOptions(model="m", state="s").port)
    assert SERVER["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/healthz" in SERVER["healthcheck"]["test"][-1]
    servers = re.findall(
        r"^    server \S+ 127\.0\.0\.1:(\d+)", (SERVE / "haproxy.cfg").read_text("utf-8"), re.M
    )
    assert servers == [port, str(int(port) + 1)]


def test_secrets_and_volumes_are_where_the_server_looks() -> None:
    environment = SERVER["environment"]
    assert environment[FILE_VARIABLE] == f"/run/secrets/{SERVER['secrets'][0]}"
    assert set(SERVER["secrets"]) == COMPOSE["secrets"].keys()
    assert PASSWORD_VARIABLE in environment
    mounted = {volume.rsplit(":", 1)[-1] for volume in SERVER["volumes"]}
    assert options()["--state"] in mounted
    named = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ())}
    assert COMPOSE["volumes"].keys() <= named
    assert SERVICES["prepare"]["entrypoint"][-1] == options()["--state"]


def test_the_image_is_built_of_an_existing_stage() -> None:
    build = SERVER["build"]
    dockerfile = (ROOT / build["dockerfile"]).read_text("utf-8")
    assert f" AS {build['target']}\n" in dockerfile
    assert (SERVE / build["context"]).resolve() == ROOT
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(build["args"]["EXTRAS"].split(","))
    assert extras <= project["optional-dependencies"].keys()
    assert "ARG EXTRAS=" in dockerfile
    (user,) = re.findall(r"--uid (\d+)", dockerfile)
    assert SERVICES["prepare"]["entrypoint"][1] == f"{user}:{user}"
    assert [name for name, one in SERVICES.items() if one.get("user") == "0:0"] == ["prepare"]
