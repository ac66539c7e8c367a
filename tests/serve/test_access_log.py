"""The access log: one line for each request, without card data and secrets."""

from __future__ import annotations

import json
from pathlib import Path

import requests

from beam_fraud.errors import Code
from beam_fraud.serve.http.access_log import AccessLog, AccessLogSettings
from tests.failing import fails
from tests.serve.stand_in import AUTH, GOOD, TOKEN, served

CARD = "4111111111111111"


def test_a_line_says_who_asked_what_and_what_it_took(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    with served(log=log) as api:
        body = {**GOOD, "CUSTOMER_ID": CARD}
        headers = {**AUTH, "X-Request-ID": "r-1 {"}
        requests.post(f"{api.url}/predict?record=false", json=body, headers=headers, timeout=10)
        requests.post(f"{api.url}/predict?{CARD}", json=body, headers=AUTH, timeout=10)
        requests.get(f"{api.url}/{CARD}", headers={"Authorization": f"Bearer {CARD}"}, timeout=10)
    text = log.read_text()
    assert CARD not in text
    assert TOKEN not in text
    first, second, third = map(json.loads, text.splitlines())
    assert first["method"] == "POST"
    assert first["route"] == "/predict"
    assert first["flags"] == "record=false&features=false"
    assert first["status"] == 200
    assert first["token"] == "test"
    assert first["request_id"] == "r-1"
    assert first["rows"] == 1
    assert first["bytes_in"] == len(json.dumps(body))
    assert first["ms"] > 0
    assert (second["status"], second["code"]) == (400, "unknown_parameter")
    assert (third["route"], third["status"], third["token"]) == ("other", 401, None)


def test_lines_of_text_are_one_for_each_request(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with served(log=log, form="text") as api:
        for _ in range(20):
            requests.post(f"{api.url}/predict", json=GOOD, headers=AUTH, timeout=10)
    lines = log.read_text().splitlines()
    assert len(lines) == 20
    assert all(" POST /predict 200 " in line and "token=test" in line for line in lines)


def test_a_log_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with fails(Code.OUTPUT_UNWRITABLE, "nowhere"):
        AccessLog(AccessLogSettings(file=tmp_path / "nowhere" / "a.log"), lambda: None)
