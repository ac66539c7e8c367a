"""The command `serve`: what it refuses, shows and sums up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from beam_fraud.cli.commands import serve, serve_plan
from beam_fraud.cli.options import ServeOptions
from beam_fraud.errors import Code
from tests.failing import fails
from tests.open_files import open_files
from tests.serve.conftest import Served
from tests.serving import Client, Serve

LATENCY = "/dev/cpu_dma_latency"


@pytest.mark.parametrize(
    ("changed", "code", "named"),
    [
        ({"state": "s3://bucket/state"}, Code.OUTPUT_NAME, "--state"),
        ({"deadline": "soon"}, Code.TIME_INVALID, "--deadline"),
        ({"deadline": "0ms"}, Code.TIME_INVALID, "--deadline"),
        ({"on_timeout": "perhaps"}, Code.OPTION_VALUE, "--on-timeout"),
        ({"on_timeout": "approve<9,review"}, Code.OPTION_VALUE, "--on-timeout"),
        ({"max_staleness": "x"}, Code.TIME_INVALID, "--max-staleness"),
        ({"topic": "payments"}, Code.OPTION_CONFLICT, "--topic"),
        ({"tls_key": "key.pem"}, Code.OPTION_CONFLICT, "--tls-key"),
    ],
)
def test_wrong_calls_name_the_option(
    served: Served, tmp_path: Path, changed: dict[str, str], code: Code, named: str
) -> None:
    options = {"model": served.bundle, "state": str(tmp_path / "state"), **changed}
    with fails(code, named):
        serve_plan.plan(ServeOptions(**options))
    assert not (tmp_path / "state").exists()


def test_figures_and_summary_tell_what_became_of_rows(served: Served, tmp_path: Path) -> None:
    with (
        Serve(Path(served.bundle), tmp_path / "state", "--history", served.history) as server,
        Client(server.port) as client,
    ):
        assert client.post(served.records[0])[0] == 200
        assert client.post(served.records[0])[0] == 200
        assert client.post(b'{"TX_AMOUNT": "much"}')[0] == 422
        outcomes = {
            outcome: server.figure(f'beam_fraud_serve_transactions_total{{outcome="{outcome}"}}')
            for outcome in ("scored", "duplicate", "dead")
        }
        assert outcomes == {"scored": 1.0, "duplicate": 1.0, "dead": 1.0}
        about = json.loads(client.get("/model")[1])
        summary = server.stop()
    assert about["model_id"] == summary["model_id"]
    assert (summary["rows_scored"], summary["rows_dead"], summary["rows_duplicate"]) == (1, 1, 1)
    assert summary["degraded"] == {}


def test_a_state_belongs_to_its_windows(served: Served, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Serve(Path(served.bundle), state) as server:
        server.stop()
    other = Serve(Path(served.bundle), state, "--lateness", "2h")
    try:
        other.start()
    except AssertionError:
        assert f"[{Code.STREAM_CHANGED.value}]" in other.said()
    else:
        pytest.fail("another lateness was accepted")
    finally:
        other.kill()


def test_a_call_that_cannot_listen_writes_nothing(served: Served, tmp_path: Path) -> None:
    state = tmp_path / "state"
    options = ServeOptions(model=served.bundle, state=str(state), host="0.0.0.0")
    with fails(Code.TOKENS_MISSING, "--host"):
        serve.run(options)
    assert not state.exists()


def test_processors_stay_awake_while_the_server_answers(served: Served, tmp_path: Path) -> None:
    server = Serve(Path(served.bundle), tmp_path / "state", "--awake")
    try:
        if _may_be_written(LATENCY):
            server.start()
            assert LATENCY in open_files(server.pid)
            server.stop()
        else:
            with pytest.raises(AssertionError):
                server.start()
            assert f"[{Code.SYSTEM_REFUSAL.value}]" in server.said()
    finally:
        server.kill()


def _may_be_written(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True
