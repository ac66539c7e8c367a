"""Routes, tokens, bodies and problems of the HTTP API, over a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
import requests

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.serve.http.bodies import Columns, arrow_call, json_call
from beam_fraud.serve.http.problems import Refused
from beam_fraud.serve.predictions import Overloaded, Readiness, Unready
from tests.serve.stand_in import AUTH, GOOD, TOKEN, Served, StandIn, served

ARROW = "application/vnd.apache.arrow.stream"
ROUTES = {
    "/predict": "POST",
    "/readyz": "GET",
    "/metrics": "GET",
    "/model": "GET",
    "/openapi.json": "GET",
    "/docs": "GET",
    "/live": "GET",
}
#: A card number, which no answer or log may hold.
CARD = "4111111111111111"


@pytest.fixture(scope="module")
def api() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture(autouse=True)
def _reset(api: Served) -> None:
    api.predictions.calls.clear()
    api.predictions.raises = None
    api.predictions.ready = Readiness(True)


def post(api: Served, body: Any, query: str = "", **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(
        f"{api.url}/predict{query}",
        data=data,
        headers={"Content-Type": "application/json", **AUTH, **headers},
        timeout=10,
    )


def problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Check an answer's problem, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert (found["status"], found["code"]) == (status, code)
    assert found["fix"]
    assert found["request_id"] == answer.headers["X-Request-ID"]
    return found


def test_an_object_gets_an_object_and_an_array_an_array(api: Served) -> None:
    one = post(api, GOOD)
    assert one.status_code == 200
    assert one.json()["decision"] == "approve"
    assert api.predictions.calls[0].records[0] == json.dumps(GOOD).encode()
    several = post(api, [GOOD, {**GOOD, "TX_AMOUNT": None}, GOOD]).json()
    assert [sorted(row)[0] for row in several] == ["decision", "error", "decision"]
    assert several[1]["error"]["code"] == "missing_amount"
    assert post(api, []).json() == []


def test_flags_reach_the_predictions(api: Served) -> None:
    answer = post(api, GOOD, "?record=false&features=true").json()
    call = api.predictions.calls[0]
    assert (call.record, call.features) == (False, True)
    assert answer["features"] == {"amount": 57.5}


def test_records_of_an_array_are_its_slices(api: Served) -> None:
    post(api, b' [ {"a": 1.50, "b":[1,{}]} ,\n{"c":"]"}, 3 ]')
    records = api.predictions.calls[0].records
    assert list(records) == [b'{"a": 1.50, "b":[1,{}]}', b'{"c":"]"}', b"3"]


def test_an_array_may_have_as_many_rows_as_allowed(api: Served) -> None:
    record = b'{"a":1,"b":[2,3]}'
    rows = b"[" + b",".join([record] * 40)
    call, _ = json_call(rows + b"]", 40, record=True, features=False)
    assert list(call.records) == [record] * 40
    with pytest.raises(Refused):
        json_call(rows + b",{}]", 40, record=True, features=False)
    # The limit is found at its place: what follows is not even read.
    problem(post(api, b"[" + b"1," * 1_999_999 + b"no JSON"), 413, "too_many_rows")


def test_numbers_that_are_no_json_reach_the_validation(api: Served) -> None:
    body = json.dumps([{**GOOD, "TX_AMOUNT": float("nan")}]).encode()
    assert post(api, body).json()[0]["error"]["field"] == "TX_AMOUNT"


@pytest.mark.parametrize("body", [GOOD, [GOOD, GOOD]])
def test_a_byte_order_mark_is_not_part_of_the_records(api: Served, body: object) -> None:
    text = json.dumps(body).encode()
    assert post(api, b"\xef\xbb\xbf" + text).json() == post(api, text).json()


def test_a_text_in_an_array_has_an_error_without_a_field(api: Served) -> None:
    error = post(api, b'["{}"]').json()[0]["error"]
    assert error["field"] is None
    assert error["detail"].startswith("a text, not an object (")


def test_an_arrow_stream_gets_an_arrow_stream(api: Served) -> None:
    table = pa.Table.from_pylist([GOOD, GOOD, GOOD])
    answer = post(api, stream(table, rows=2), **{"Content-Type": ARROW})
    assert answer.headers["Content-Type"] == ARROW
    assert pa.ipc.open_stream(answer.content).read_all().num_rows == 3
    assert api.predictions.calls[0].table == pa.RecordBatch.from_pylist([GOOD] * 3)
    as_json = post(api, stream(table), **{"Content-Type": ARROW, "Accept": "application/json"})
    assert len(as_json.json()) == 3
    to_arrow = post(api, [GOOD], Accept=ARROW)
    assert pa.ipc.open_stream(to_arrow.content).read_all().num_rows == 1
    assert post(api, stream(table.slice(0, 0)), **{"Content-Type": ARROW}).status_code == 200


def stream(table: pa.Table, rows: int | None = None, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, rows)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_arrow_is_refused_before_it_is_inflated(api: Served, compression: str) -> None:
    bomb = pa.table({"zero": pa.array([0] * 5_000)})
    answer = post(api, stream(bomb, compression=compression), **{"Content-Type": ARROW})
    problem(answer, 415, "compressed_arrow")
    coded = pa.table({"word": pa.array(["a" * 9_000]).dictionary_encode()})
    answer = post(api, stream(coded, compression=compression), **{"Content-Type": ARROW})
    problem(answer, 415, "compressed_arrow")


def test_damaged_arrow_is_refused(api: Served) -> None:
    whole = stream(pa.Table.from_pylist([GOOD] * 50))
    for body in (b"", b"rubbish", whole[:300], whole[: len(whole) // 2]):
        answer = post(api, body, **{"Content-Type": ARROW})
        assert answer.status_code in (400, 200), body[:20]
    columns = Columns(HANDBOOK, "ignored")
    for at in range(0, len(whole), 3):
        damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        # It says so, or the damage is in a value.
        with suppress(Refused):
            arrow_call(damaged, 10_000, columns, record=True, features=False)


def test_arrow_columns_are_those_of_the_schema(api: Served) -> None:
    rows = pa.Table.from_pylist([GOOD, GOOD])
    other = pa.array([[1], [2]])
    call = stream(rows.append_column("@payload", pa.array([b"{}"] * 2)).append_column("x", other))
    assert post(api, call, **{"Content-Type": ARROW}).status_code == 200
    assert api.predictions.calls[0].table == pa.RecordBatch.from_pylist([GOOD] * 2)
    for column in GOOD:
        place = rows.schema.get_field_index(column)
        for wrong, code in (
            (rows.drop_columns(column), "BF306"),
            (rows.set_column(place, column, other), "BF307"),
            (rows.append_column(column, rows.column(column)), "BF308"),
        ):
            answer = post(api, stream(wrong), **{"Content-Type": ARROW})
            assert problem(answer, 422, code)["field"] == column


@pytest.mark.parametrize("route", ROUTES)
def test_without_a_token_nothing_answers(api: Served, route: str) -> None:
    method, url = ROUTES[route], api.url + route
    wrong = (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": f"Token {TOKEN}"},
    )
    for headers in wrong:
        answer = requests.request(method, url, headers=headers, json=GOOD, timeout=10)
        problem(answer, 401, "unauthorised")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert api.predictions.calls == []
    right = requests.request(method, url, headers=AUTH, json=GOOD, timeout=10)
    assert right.status_code == 200


def test_health_needs_no_token_and_unknown_routes_say_nothing_without_one(api: Served) -> None:
    assert requests.get(f"{api.url}/healthz", timeout=10).json() == {"status": "ok"}
    assert requests.head(f"{api.url}/healthz", timeout=10).status_code == 200
    problem(requests.get(f"{api.url}/admin", timeout=10), 401, "unauthorised")
    problem(requests.get(f"{api.url}/admin", headers=AUTH, timeout=10), 404, "no_route")


def test_a_browser_opens_the_pages_by_basic_authentication_and_nothing_else(api: Served) -> None:
    login = ("anyone", TOKEN)
    page = requests.get(f"{api.url}/docs", auth=login, timeout=10)
    assert page.status_code == 200
    assert "TX_AMOUNT" in page.text
    assert "<script" not in page.text
    live = requests.get(f"{api.url}/live", auth=login, timeout=10)
    assert live.status_code == 200
    assert "No sample yet" in live.text
    assert "script-src 'sha256-" in live.headers["Content-Security-Policy"]
    assert requests.get(f"{api.url}/openapi.json", auth=login, timeout=10).status_code == 200
    assert requests.get(f"{api.url}/model", auth=login, timeout=10).status_code == 401
    assert requests.post(f"{api.url}/predict", auth=login, json=GOOD, timeout=10).status_code == 401


@pytest.mark.parametrize("route", [*ROUTES, "/healthz"])
def test_other_methods_are_refused_with_those_that_exist(api: Served, route: str) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = requests.request(method, api.url + route, headers=AUTH, timeout=10)
        problem(answer, 405, "method")
        assert ROUTES.get(route, "GET") in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b'{"a": 1} x', 400, "malformed_json"),
        (b"3", 400, "malformed_json"),
        (b'"text"', 400, "malformed_json"),
        (b"null", 400, "malformed_json"),
        (b"[" * 100_000, 400, "malformed_json"),
        (b'{"a":' * 50_000, 400, "malformed_json"),
        (b"\xff\xfe{\x00}\x00", 400, "malformed_json"),
        (b"[" + b"1," * 10_000 + b"1]", 413, "too_many_rows"),
        (b" " * 5_000_000, 413, "body_too_large"),
        (b"{}", 422, "missing_id"),
    ],
)
def test_bodies_that_cannot_be_read(api: Served, body: bytes, status: int, code: str) -> None:
    problem(post(api, body), status, code)


def test_a_transaction_that_is_none_names_field_and_fix_without_its_value(api: Served) -> None:
    answer = post(api, {**GOOD, "TX_AMOUNT": CARD + "x", "CUSTOMER_ID": CARD})
    found = problem(answer, 422, "number_notation")
    assert found["field"] == "TX_AMOUNT"
    assert CARD not in answer.text


@pytest.mark.parametrize(
    ("headers", "query", "status", "code", "field"),
    [
        ({"Content-Type": "text/plain"}, "", 415, "media_type", "Content-Type"),
        ({"Content-Type": "application/json; charset=latin-1"}, "", 415, "media_type", None),
        ({"Content-Encoding": "gzip"}, "", 415, "content_coding", "Content-Encoding"),
        ({"Accept": "text/html"}, "", 406, "not_acceptable", "Accept"),
        ({"Accept": "application/json;q=0, text/plain"}, "", 406, "not_acceptable", "Accept"),
        ({}, "?record=maybe", 400, "parameter_value", "record"),
        ({}, f"?{CARD}=true", 400, "unknown_parameter", "query"),
    ],
)
def test_requests_that_cannot_be_answered(
    api: Served, headers: dict[str, str], query: str, status: int, code: str, field: str | None
) -> None:
    answer = post(api, GOOD, query, **headers)
    found = problem(answer, status, code)
    assert field is None or found["field"] == field
    assert CARD not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=UTF-8"},
        {"Accept": "text/html, */*;q=0.8"},
        {"Accept": "application/*"},
    ],
)
def test_usual_headers_of_clients_are_accepted(api: Served, headers: dict[str, str]) -> None:
    assert post(api, GOOD, **headers).status_code == 200


def test_overload_and_unreadiness_say_when_to_come_again(api: Served) -> None:
    api.predictions.raises = Overloaded(3)
    answer = post(api, GOOD)
    problem(answer, 503, "overloaded")
    assert answer.headers["Retry-After"] == "3"
    api.predictions.raises = Unready("the state is being restored")
    answer = post(api, GOOD)
    assert problem(answer, 503, "not_ready")["detail"] == "the state is being restored"
    api.predictions.raises = FraudError("database /srv/x: is full", Code.DATABASE_FULL)
    answer = post(api, GOOD)
    problem(answer, 503, "BF612")
    assert "/srv/x" not in answer.text
    api.predictions.ready = Readiness(False, ["the state is being restored"])
    ready = requests.get(f"{api.url}/readyz", headers=AUTH, timeout=10)
    assert (ready.status_code, ready.json()["ready"]) == (503, False)


def test_a_process_whose_engine_has_ended_is_not_healthy(api: Served) -> None:
    api.predictions.ready = Readiness(False, ["the engine has ended"], alive=False)
    problem(requests.get(f"{api.url}/healthz", timeout=10), 503, "ended")


def test_an_error_of_the_program_shows_no_traceback_and_no_value(
    api: Served, caplog: pytest.LogCaptureFixture
) -> None:
    api.predictions.raises = KeyError(CARD)
    answer = post(api, GOOD, **{"X-Request-ID": "abc-1"})
    problem(answer, 500, "BF001")
    assert "Traceback" not in answer.text + caplog.text
    assert CARD not in answer.text + caplog.text
    assert "abc-1: KeyError in" in caplog.text


def test_request_ids_come_back_without_what_a_log_could_misread(api: Served) -> None:
    def returned(given: str) -> str:
        return post(api, GOOD, **{"X-Request-ID": given}).headers["X-Request-ID"]

    assert returned("a.B-3_x") == "a.B-3_x"
    assert returned('"a b\t{"') == "ab"
    assert returned("x" * 500) == "x" * 64
    assert returned("{}") != returned("{}")


def test_metrics_count_requests_by_route_status_and_code(api: Served) -> None:
    post(api, GOOD)
    post(api, b"{")
    text = requests.get(f"{api.url}/metrics", headers=AUTH, timeout=10).text
    assert 'beam_fraud_serve_requests_total{route="/predict",status="200"}' in text
    assert 'beam_fraud_serve_errors_total{code="malformed_json"}' in text
    assert 'beam_fraud_serve_seconds_bucket{le="0.005",stage="http"}' in text
    assert "beam_fraud_serve_in_flight 0.0" in text


def test_without_tokens_only_this_machine_by_its_own_name_is_answered() -> None:
    from beam_fraud.serve.http.tokens import TokenSource

    with served(StandIn(), tokens=TokenSource()) as api:
        url = f"{api.url}/model"
        assert requests.get(url, timeout=10).status_code == 200
        rebound = {"Host": "attacker.example"}
        problem(requests.get(url, headers=rebound, timeout=10), 403, "host")
        openapi = requests.get(f"{api.url}/openapi.json", timeout=10).json()
        assert openapi["security"] == []
