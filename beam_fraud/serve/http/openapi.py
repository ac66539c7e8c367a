"""The OpenAPI 3.1 document of a server, generated from the schema of its bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, TypeAlias

import msgspec

from beam_fraud.records.faults import REASONS
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.serve.feature_records import FeatureRecords
from beam_fraud.serve.http.bodies import ARROW, JSON
from beam_fraud.serve.http.json_schema import Typical, features_schema, transaction_schema
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.problems import MEDIA_TYPE as PROBLEM

#: Type: an object of the document.
Part: TypeAlias = dict[str, Any]
_JSON, _ARROW = JSON.decode(), ARROW.decode()
#: Description by status of a problem.
_PROBLEMS = {
    "400": "The body or a parameter cannot be read.",
    "401": "No token, or one that is unknown or has expired.",
    "403": "The token does not open this route.",
    "404": "There is no such route.",
    "405": "The route has no such method; `Allow` lists those that it has.",
    "406": "The answer exists in no media type that `Accept` names.",
    "408": "The request did not arrive in time.",
    "411": "The body has neither `Content-Length` nor chunks.",
    "413": "The body has too many bytes or rows.",
    "415": "The body is of another media type or content coding.",
    "422": "The only transaction of the body is none; the fault is named.",
    "431": "The request line and headers are too long.",
    "500": "An error of the server; its log names it by the request id.",
    "503": "The server is overloaded or not ready; send the request again after `Retry-After`.",
}
_RETRY = {
    "Retry-After": {
        "description": "Seconds after which to send the request again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}


@dataclass(frozen=True)
class Api:
    """The subject of an OpenAPI document."""

    #: The schema that transactions are read by.
    schema: Schema
    #: Treatment of labels in transactions.
    labels: Labels
    #: The model, for the title.
    model_id: str
    #: Names of the model's features.
    features: tuple[str, ...] = ()
    #: Usual values, for the example.
    typical: Typical = field(default_factory=Typical)
    #: What reads records of features; None if none are accepted.
    feature_records: FeatureRecords | None = None

    @property
    def example(self) -> bytes:
        """A transaction, a JSON object."""
        (example,) = transaction_schema(self.schema, self.labels, self.typical)["examples"]
        return msgspec.json.encode(example)


def document(api: Api, limits: Limits, *, secured: bool) -> Part:
    """Return the OpenAPI document.

    Args:
      api: the schema and the model.
      limits: the limits of the server.
      secured: whether a token is needed.
    """
    components: Part = {
        "schemas": _schemas(api, limits),
        "parameters": _parameters(),
        "headers": {"X-Request-ID": _request_id_header()},
        "responses": {
            f"Problem{status}": _problem(text, status) for status, text in _PROBLEMS.items()
        },
    }
    if secured:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "beam-fraud",
            "version": version("beam-fraud"),
            "summary": f"Scores and decisions for transactions by the model {api.model_id}.",
            "description": _description(limits, secured),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(secured),
        "components": components,
        "security": [{"token": []}] if secured else [],
    }


def _description(limits: Limits, secured: bool) -> str:
    token = (
        "Every route but `/healthz` needs `Authorization: Bearer TOKEN`."
        if secured
        else "The server listens on this machine alone and needs no token."
    )
    return (
        f"{token} A body has at most {limits.body_bytes:,} bytes and {limits.rows:,} transactions. "
        "Errors are problems of RFC 9457; they name the field, the fault and the fix, never a "
        "value. Requests with the same transaction id are idempotent."
    )


def _paths(secured: bool) -> Part:
    predict = {
        "operationId": "predict",
        "summary": "Score and decide one transaction, or an array of them.",
        "description": (
            "The answer to an array has a row for each transaction, in its order; an invalid one "
            "has `error` in its place. A transaction id that comes again gets the answer of before."
        ),
        "parameters": [
            {"$ref": "#/components/parameters/record"},
            {"$ref": "#/components/parameters/features"},
            {"$ref": "#/components/parameters/request_id"},
        ],
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {"schema": {"$ref": "#/components/schemas/Body"}},
                _ARROW: {"schema": {"description": "An Arrow IPC stream without compression."}},
            },
        },
        "responses": {
            "200": {
                "description": "The answers, in the order of the transactions.",
                "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
                "content": {
                    _JSON: {"schema": {"$ref": "#/components/schemas/Result"}},
                    _ARROW: {"schema": {"description": "An Arrow IPC stream, a row per answer."}},
                },
            },
            **_references(
                *("400", "406", "408", "411", "413", "415", "422", "431", "500", "503"),
                *(("401", "403") if secured else ("403",)),
            ),
        },
    }
    own: Part = {"type": "object"}
    ready: Part = {
        "type": "object",
        "properties": {
            "ready": {"type": "boolean"},
            "reasons": {"type": "array", "items": {"type": "string"}},
            "model_id": {"type": "string"},
        },
        "required": ["ready", "reasons", "model_id"],
    }
    alive: Part = {
        "type": "object",
        "properties": {"status": {"const": "ok"}},
        "required": ["status"],
    }
    text: Part = {"type": "string"}
    about: Part = {
        "type": "object",
        "properties": {"model_id": {"type": "string"}},
        "required": ["model_id"],
    }
    ready_route = _get("readyz", "Whether predictions are answered.", _JSON, ready, secured)
    ready_route["get"]["responses"]["503"] = {
        "description": "Predictions are not answered yet; the reasons say why.",
        "headers": _RETRY,
        "content": {_JSON: {"schema": ready}},
    }
    healthy = _get(
        "healthz",
        "Whether the process works; 503 if it must be started again.",
        _JSON,
        alive,
        secured=False,
    )
    healthy["get"]["security"] = []
    del healthy["get"]["responses"]["403"]
    healthy["get"]["responses"] |= _references("503")
    return {
        "/predict": {"post": predict},
        "/healthz": healthy,
        "/readyz": ready_route,
        "/metrics": _get("metrics", "Figures in Prometheus' format.", "text/plain", text, secured),
        "/model": _get("model", "The model, its thresholds and rules.", _JSON, about, secured),
        "/openapi.json": _get("openapi", "This document.", _JSON, own, secured),
        "/live": _get("live", "The last half hour as a page.", "text/html", text, secured),
        "/docs": _get("docs", "This document as a page.", "text/html", text, secured),
    }


def _get(name: str, summary: str, media: str, schema: Part, secured: bool) -> Part:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "parameters": [{"$ref": "#/components/parameters/request_id"}],
            "responses": {
                "200": {"description": summary, "content": {media: {"schema": schema}}},
                **_references("400", "431", "500", "403", *(["401"] if secured else [])),
            },
        }
    }


def _references(*statuses: str) -> Part:
    return {s: {"$ref": f"#/components/responses/Problem{s}"} for s in sorted(statuses)}


def _problem(text: str, status: str) -> Part:
    return {
        "description": text,
        **({"headers": _RETRY} if status == "503" else {}),
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _parameters() -> Part:
    boolean: Part = {"type": "boolean"}
    return {
        "record": {
            "name": "record",
            "in": "query",
            "description": "Whether the transactions are persisted and count for later ones; "
            "with `false` they are only scored.",
            "schema": {**boolean, "default": True},
        },
        "features": {
            "name": "features",
            "in": "query",
            "description": "Whether the answers hold the model's features.",
            "schema": {**boolean, "default": False},
        },
        "request_id": {
            "name": "X-Request-ID",
            "in": "header",
            "description": "Id of the request for logs and the answer, up to 64 letters, digits "
            "and `.`, `_`, `-`; other characters are left out, and one is made without it.",
            "schema": {"type": "string"},
        },
    }


def _request_id_header() -> Part:
    return {
        "description": "Id of the request, in the access log as well.",
        "schema": {"type": "string"},
    }


def _schemas(api: Api, limits: Limits) -> Part:
    record: Part = {"$ref": "#/components/schemas/Transaction"}
    features: Part = {}
    if api.feature_records is not None:
        features = {"Features": features_schema(api.feature_records, api.typical)}
        # A record may be both.
        record = {"anyOf": [record, {"$ref": "#/components/schemas/Features"}]}
    several: Part = {
        "type": "array",
        "items": record,
        "description": f"Up to {limits.rows:,} transactions.",
    }
    return {
        "Transaction": transaction_schema(api.schema, api.labels, api.typical),
        **features,
        "Body": {"oneOf": [record, several]},
        "Answer": _answer(api),
        "Invalid": {
            "type": "object",
            "description": "In the place of an answer: why the row is no transaction.",
            "properties": {"error": _fault()},
            "required": ["error"],
        },
        "Result": {
            "oneOf": [
                {"$ref": "#/components/schemas/Answer"},
                {
                    "type": "array",
                    "items": {
                        "oneOf": [
                            {"$ref": "#/components/schemas/Answer"},
                            {"$ref": "#/components/schemas/Invalid"},
                        ]
                    },
                },
            ]
        },
        "Problem": _problem_schema(),
    }


def _fault() -> Part:
    return {
        "type": "object",
        "properties": {
            "code": {"type": "string", "examples": ["missing_amount"]},
            "field": {"type": ["string", "null"]},
            "detail": {"type": "string"},
        },
        "required": ["code", "field", "detail"],
    }


def _answer(api: Api) -> Part:
    number: Part = {"type": ["number", "null"]}
    reason: Part = {
        "type": "object",
        "properties": {
            "feature": {"type": "string"},
            "value": number,
            "contribution": number,
            "text": {"type": ["string", "null"]},
            "approximate": {"type": ["boolean", "null"]},
        },
    }
    return {
        "type": "object",
        "properties": {
            "transaction_id": {
                "type": ["string", "null"],
                "description": "Null for a record of features, which is not recorded.",
            },
            "score": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 1,
                "description": "Probability-like score; null in a default decision.",
            },
            "decision": {"type": "string", "enum": ["approve", "review", "decline"]},
            "flagged": {"type": "boolean"},
            "rules": {"type": ["array", "null"], "items": {"type": "string"}},
            "reasons": {"type": ["array", "null"], "items": reason},
            "model_id": {"type": "string", "examples": [api.model_id]},
            "rules_id": {
                "type": ["string", "null"],
                "description": "The rule set that applied beside the model; null without rules.",
            },
            "shadow_rules": {
                "type": ["array", "null"],
                "items": {"type": "string"},
                "description": "Rules in shadow that hold; they have no effect.",
            },
            "features_as_of": {
                "type": ["string", "null"],
                "description": "Time up to which the windows know transactions.",
            },
            "degraded": {
                "type": ["string", "null"],
                "description": "Why the answer is a default decision, or without velocity.",
            },
            "features": {
                "type": ["object", "null"],
                "description": "With `?features=true`: the model's features.",
                "properties": dict.fromkeys(api.features, number),
            },
        },
        "required": ["transaction_id", "decision", "model_id"],
    }


def _problem_schema() -> Part:
    return {
        "type": "object",
        "description": "A problem (RFC 9457). Codes of single transactions are the reasons of dead "
        f"letters: {', '.join(REASONS)}.",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What is wrong, without the value."},
            "code": {"type": "string", "description": "The kind of problem; never changes."},
            "field": {"type": ["string", "null"], "description": "Column, parameter or header."},
            "fix": {"type": "string", "description": "What to do about it."},
            "request_id": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail", "code", "field", "fix", "request_id"],
    }
